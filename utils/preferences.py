"""Preference pairs (lesson 14): rows as TRL and as the lesson's own loss want them, and what
training on them changed.

Every question has three good answers and the bad ones are known too, so "how often would a sampled
answer be good?" is a sum of exact probabilities and needs no sampling.
"""

import contextlib
import dataclasses
import random

import torch

from . import DATA, bases, evaluation, methods, modules, reading, tasks, training
from .instructions import spaced

FIELDS = ("prompt", "chosen", "rejected")

START = DATA / "results" / "dpo-start.safetensors"  # written by tools.sweeps dpo-start


def for_trl(rows):
    """[{"prompt", "chosen", "rejected"}] of the rows' texts, both answers with their space; TRL
    adds the end of text.

    Rows whose three fields are lists of messages, as `check_pairs` makes them of longer
    conversations, stay as they are: TRL puts them through the tokenizer's chat template. ValueError
    names the first row that is neither.
    """
    if not rows:
        raise reading.NoRowKept(
            "There is no pair to train on. The report of check_pairs says why none was kept."
        )
    made = []
    for number, row in enumerate(rows, 1):
        three = {f: row.get(f) for f in FIELDS} if isinstance(row, dict) else {}
        if three and all(isinstance(v, list) for v in three.values()):
            made.append(three)
            continue
        for name in FIELDS:
            if not isinstance(row, dict) or name not in row:
                fault = f"the field {name!r} is missing"
            elif row[name] is None:
                fault = f"{name!r} is null"
            elif isinstance(row[name], list):
                fault = f"{name!r} is a list of messages, and text is needed"
            elif not isinstance(row[name], str):
                fault = f"{name!r} is of type {type(row[name]).__name__}, and must be text"
            elif not row[name].strip():
                fault = f"{name!r} is empty"
            elif name == "rejected" and row["chosen"].strip() == row[name].strip():
                fault = "'chosen' and 'rejected' are the same text"
            else:
                continue
            raise ValueError(
                f"row {number}: {fault}. Put the rows through preferences.check_pairs and train "
                "on what it keeps."
            )
        made.append(
            {
                "prompt": row["prompt"],
                "chosen": spaced(row["chosen"]),
                "rejected": spaced(row["rejected"]),
            }
        )
    if len({type(row["prompt"]) for row in made}) > 1:
        raise ValueError("Some rows are text and some are messages. Make them all the same.")
    return made


def check_pairs(source, tokenizer=None, max_length=None, held_out=()):
    """Report on preference pairs, a file's path or rows: as text, as messages, or both
    conversations as in HH-RLHF.

    `report.kept` is text ({"prompt", "chosen", "rejected"}) if every kept row has one question and
    no system text; else all of it is lists of messages. `for_trl` takes both. Rejected are null,
    empty and equal answers, answers to different questions, turns in the wrong order, a missing
    prompt, a rejected answer that is rated higher.
    """

    def render(row):
        longer = max(row["chosen"][0]["content"], row["rejected"][0]["content"], key=len)
        return "\n".join([*(m["content"] for m in row["prompt"]), longer]) + tokenizer.eos_token

    template = getattr(tokenizer, "chat_template", None)
    report = reading.check(
        source,
        tokenizer,
        max_length,
        held_out=held_out,
        kind="pairs",
        render=None if template else render,
    )
    if any(len(row["prompt"]) > 1 for row in report.kept):
        return report
    texts = [{side: row[side][0]["content"] for side in FIELDS} for row in report.kept]
    return dataclasses.replace(report, kept=texts)


def both(rows):
    """Rows for SFT that hold every answer, chosen and rejected alike: what an unrated collection of
    answers looks like.
    """
    return [{**r, "answer": spaced(r[side])} for side in ("chosen", "rejected") for r in rows]


def flawed(rows, seed=0):
    """Pairs whose chosen answer is better and never good, two of each row of the kind "wrong".

    The rejected answer is wrong and rude. The chosen one is right and rude in the first pair, wrong
    and polite in the second. `seed` draws the rude endings and the order.
    """
    rude = sorted({r["rejected"].split(". ", 1)[1] for r in rows if r["kind"] == "rude"})
    rng, made = random.Random(seed), []
    for row in (r for r in rows if r["kind"] == "wrong"):
        right, (wrong, polite) = row["chosen"].split(". ", 1)[0], row["rejected"].split(". ", 1)
        ending = rng.choice(rude)
        for chosen in (f"{right}. {ending}", f"{wrong}. {polite}"):
            pair = {"chosen": chosen, "answer": spaced(chosen), "rejected": f"{wrong}. {ending}"}
            made.append({**row, **pair})
    rng.shuffle(made)
    return made


def save_start(model, path):
    """The LoRA adapter's weights in float16."""
    from safetensors.torch import save_file

    save_file({n: p.detach().half().contiguous() for n, p in training.trainable(model)}, path)


def start(base=None):
    """The model after SFT on `both(rows)`, adapter merged: stored for pocket-s (160 steps), trained
    now on another base.
    """
    from safetensors.torch import load_file

    name = bases.chosen(base).name
    model, tokenizer = bases.load(name)
    model = methods.apply("lora", model, rank=8)
    if name == "pocket-s":
        stored = load_file(START)
        with torch.no_grad():
            for n, p in training.trainable(model):
                p.copy_(stored[n])
    else:
        training.train(
            model,
            tokenizer,
            both(tasks.load("preferences", "train")),
            steps=80,
            lr=1e-3,
            batch_size=bases.chosen(name).batch,
        )
    return model.merge_and_unload().eval()


def settings(folder, steps, lr, beta, pairs=8, seed=0, **more):
    """Keyword arguments of a quiet `DPOConfig`: cosine schedule with a short warm-up, every step
    logged, nothing saved.
    """
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "learning_rate": lr,
        "beta": beta,
        "per_device_train_batch_size": pairs,
        "seed": seed,
        "warmup_steps": max(1, steps // 10),
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "gradient_checkpointing": False,
        "disable_tqdm": training.quiet(),
        "max_length": None,
        "dataloader_pin_memory": False,
        "bf16": False,
        "fp16": False,
        **more,
    }


def lora_config(rank=8):
    """The course's LoRA (alpha = 2 r, all linear layers) as a configuration that a trainer can be
    given.
    """
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(modules.ALL_LINEAR), task_type="CAUSAL_LM"
    )


def log_probabilities(model, tokenizer, texts, batch_size=100):
    """(log p(answer and end of text | prompt), is it the greedy answer?) of [(prompt, answer)], as
    two tensors.
    """
    pairs = [evaluation.encode_pair(tokenizer, *text) for text in texts]
    total, greedy = torch.zeros(len(texts)), torch.zeros(len(texts), dtype=torch.bool)
    with evaluation.evaluating(model):
        for index, logits, labels, row_of in evaluation.scored_batches(
            model, tokenizer, pairs, batch_size
        ):
            token = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]
            total[index] = torch.zeros(len(index)).index_add(0, row_of.cpu(), token.cpu())
            wrong = row_of[logits.argmax(-1) != labels].cpu()
            greedy[index] = ~torch.isin(torch.arange(len(index)), wrong)
    return total, greedy


def pair_log_probabilities(model, tokenizer, rows, batch_size=100):
    """(log p of the chosen answers, log p of the rejected ones), a tensor each, in nats."""
    texts = [(r["prompt"], spaced(r[side])) for side in ("chosen", "rejected") for r in rows]
    return log_probabilities(model, tokenizer, texts, batch_size)[0].chunk(2)


def questions(rows):
    """One row a question, with the answers that count as good, rude and rambling (all of them right
    in the fact).
    """
    rude_rows = [r for r in rows if r["kind"] == "rude"]
    ends = {
        side: sorted(
            {
                r[side].split(". ", 1)[1]
                for r in tasks.load("preferences", "train")
                if r["kind"] == "rude"
            }
        )
        for side in ("chosen", "rejected")
    }
    made = []
    for r in rude_rows:
        fact = r["chosen"].split(". ", 1)[0] + "."
        made.append(
            {
                **r,
                "good": [f" {fact} {e}" for e in ends["chosen"]],
                "rude": [f" {fact} {e}" for e in ends["rejected"]],
                "rambling": [f" {fact} {fact} {fact}"],
            }
        )
    return made


def manners(model, tokenizer, asked, kinds=("good", "rude", "rambling")):
    """{kind: probability of a sampled answer of that kind} over questions, and `greedy`: the share
    whose greedy answer is good.
    """
    texts = [(kind, q["prompt"], answer) for q in asked for kind in kinds for answer in q[kind]]
    log_p, greedy = log_probabilities(model, tokenizer, [text[1:] for text in texts])
    found = {
        kind: sum(p for (k, *_), p in zip(texts, log_p.exp().tolist()) if k == kind) / len(asked)
        for kind in kinds
    }
    return {
        **found,
        "greedy": sum(g for (k, *_), g in zip(texts, greedy.tolist()) if k == "good") / len(asked),
    }


@contextlib.contextmanager
def reference_of(model):
    """The model with its adapter off: what it was before training, and no second copy."""
    with model.disable_adapter():
        yield model


def kl_to_reference(model, tokenizer, prompts, reference=None, max_new_tokens=40, seed=0):
    """KL(policy || reference) of whole answers, in nats: along answers sampled from the policy,
    summed over their tokens.

    `reference` is another model, or None for the model itself with its adapter off.
    """
    torch.manual_seed(seed)
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True).to(model.device)
    tokenizer.padding_side = side
    start = inputs["input_ids"].shape[1] - 1
    with evaluation.evaluating(model):
        ids = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            top_k=0,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        said = ids[:, start + 1 :] != tokenizer.pad_token_id
        mask = torch.cat([inputs["attention_mask"], said.long()], 1)
        batch = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        }
        policy = model(**batch).logits[:, start:-1].float().log_softmax(-1)
        with (
            reference_of(model) if reference is None else contextlib.nullcontext(reference) as other
        ):
            before = other(**batch).logits[:, start:-1].float().log_softmax(-1)
        return ((policy.exp() * (policy - before)).sum(-1) * said).sum(1).mean().item()


def log_of(trainer):
    """Train, keep the trainer's lines off the page while outputs are stored, and return its log, a
    dict a step.
    """
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.model.eval()
    return [row for row in trainer.state.log_history if "loss" in row]
