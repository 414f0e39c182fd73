"""Questions, their good answers and the model that reinforcement starts from (lesson 15).

Every question has three good answers: its fact and one of three courteous sentences. So the share of good answers that
a model would write is a sum of exact probabilities; nothing is sampled.
"""

import torch

from . import DATA, bases, preferences, tasks, training

COURTEOUS = ("I am glad to help.", "You are welcome.", "Thank you for asking.")
START = DATA / "results" / "rewards-start"  # a peft adapter, written by tools.sweeps rewards-start
STEPS, RATE, ROWS = 160, 3e-3, 16  # of the start: LoRA r = 8 on mixed answers


def questions(split):
    """One row a question of the task `preferences`, with its `fact`: the sentence that a good answer begins with."""
    rows = preferences.questions(tasks.load("preferences", split))
    return [{**r, "fact": r["chosen"].split(". ", 1)[0] + "."} for r in rows]


def mixed(rows):
    """Every other row with its chosen answer, the rest with their rejected one: what an unrated collection looks like."""
    return [{**r, "answer": f" {r['chosen' if n % 2 else 'rejected']}"} for n, r in enumerate(rows)]


def train_start(seed=0, base=None):
    """(base with a LoRA adapter tuned on mixed answers, tokenizer); the adapter is not merged."""
    from peft import get_peft_model

    model, tokenizer = bases.load(base)
    torch.manual_seed(seed)
    model = get_peft_model(model, preferences.lora_config(rank=8))
    rows = mixed(tasks.load("preferences"))
    settings = {"steps": STEPS, "lr": RATE, "batch_size": ROWS, "seed": seed}
    training.train(model, tokenizer, rows, progress=False, **settings)
    return model, tokenizer


def start(merged=True):
    """The model after SFT on mixed answers: stored for pocket-s, trained now on another base.

    `merged` gives one plain model; else the adapter stays beside the base and can be trained on.
    """
    from peft import PeftModel

    if bases.chosen().name == "pocket-s":
        model = PeftModel.from_pretrained(bases.load()[0], START, is_trainable=not merged)
    else:
        model, _ = train_start()
    return model.merge_and_unload().eval() if merged else model


def shares(model, tokenizer, rows):
    """{"good": exact probability that a sampled answer is good, "greedy": share of rows whose greedy answer is good}."""
    return preferences.manners(model, tokenizer, rows, kinds=("good",))
