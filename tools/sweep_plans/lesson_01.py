"""What is fine-tuning: 10 to 300 rows, learning rates, starting points, and prompts instead of tuning."""

import random
import re

from tools.sweep_plans import about
from utils import bases, evaluation, methods, tasks, training

SEEDS = (0, 1, 2)


def subset(rows, count, seed):
    """`count` of the rows, another draw for each seed."""
    return random.Random(seed).sample(rows, count)


def answers_scored(task, model, tokenizer, rows):
    """(the task's own metric, share of exact answers) of the model's greedy answers."""
    said, wanted = (
        evaluation.answers(model, tokenizer, [r["prompt"] for r in rows], max_new_tokens=32),
        [r["answer"] for r in rows],
    )
    return round(evaluation.METRICS[task](said, wanted), 5), round(
        evaluation.accuracy(said, wanted), 5
    )


def from_scratch(model):
    """The same shape with random weights: what the rows alone can teach."""
    return methods.full(type(model)(model.config).to(model.device).eval())


METHODS = {"from_scratch": from_scratch}


def run(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    """Tune on options["rows"] rows drawn by the seed, from the base in options["start"] if another; the task's metric, what is kept."""
    model, tokenizer = bases.load(options.get("start", base))
    model = methods.apply(method, model, seed=seed)
    rows = subset(tasks.load(task, "train"), options["rows"], seed)
    history = training.train(
        model, tokenizer, rows, steps=steps, lr=lr, seed=seed, batch_size=batch_size, progress=False
    )
    validation = tasks.load(task, "validation")
    test_score, test_exact = answers_scored(task, model, tokenizer, tasks.load(task, "test"))
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": answers_scored(task, model, tokenizer, validation)[0],
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, validation), 5),
        "test_score": test_score,
        "test_exact": test_exact,
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "world_perplexity": round(
            evaluation.perplexity(model, tokenizer, evaluation.world_texts(60)), 3
        ),
        "final_loss": round(history.final_loss, 4),
        "trainable": training.count(model)[0],
        "seconds": round(history.seconds, 2),
    }


# Prompts for a base that is not tuned. A form is (text before the answer, answer in an example, how an answer is read); the rows'
# own prompt and answer are the first form, the others are wordings that the base has met in its own text.
def entities_in_words(row):
    return (
        " "
        + ", ".join(
            f"{e['text']} is {'an' if e['type'][0] in 'aeiou' else 'a'} {e['type']}"
            for e in row["entities"]
        )
        + "."
    )


def entities_read(text):
    found = re.findall(r"([A-Z][\w ]*?) is an? (person|organisation|place)", text.split(".")[0])
    return " " + "; ".join(f"{kind}: {name}" for name, kind in found)


def first_line(text):
    return " " + text.split("\n")[0].strip()


def first_word(text):
    return " " + (re.findall(r"\w+", text) or [""])[0]


def in_quotes(text):
    return " " + (text.split('"') + ["", ""])[1]


FORMS = {
    "sentiment": {
        "rows": (lambda r: r["prompt"], lambda r: r["answer"] + "\n", first_word),
        "The sentiment is": (
            lambda r: f"{r['text']} The sentiment is",
            lambda r: f" {r['label']}. ",
            first_word,
        ),
        "The review is": (
            lambda r: f"{r['text']} The review is",
            lambda r: f" {r['label']}. ",
            first_word,
        ),
    },
    "entities": {
        "rows": (lambda r: r["prompt"], lambda r: r["answer"] + "\n", first_line),
        "In this note": (
            lambda r: f"{r['text']} In this note",
            lambda r: f"{entities_in_words(r)} ",
            entities_read,
        ),
    },
    "translation": {
        "rows": (lambda r: r["prompt"], lambda r: r["answer"] + "\n", first_line),
        "In Velan,": (
            lambda r: f'In Velan, "{r["source"]}" is written',
            lambda r: f' "{r["target"]}". ',
            in_quotes,
        ),
        "is ... in Velan": (
            lambda r: f'"{r["source"]}" is',
            lambda r: f' "{r["target"]}" in Velan. ',
            in_quotes,
        ),
    },
}


def likelier(model, tokenizer, prompts, labels=(" positive", " negative")):
    """Which of the labels has the higher probability as the next token after each prompt."""
    ids, said = [tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in labels], []
    with evaluation.evaluating(model):
        for prompt in prompts:
            batch = tokenizer(prompt, return_tensors="pt").to(model.device)
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits[0, -1]
            said.append(labels[logits[ids].argmax().item()])
    return said


def prompted(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    """The base as it is, asked in the form options["form"], after options["shots"] training rows as examples drawn by the seed."""
    model, tokenizer = bases.load(base)
    ask, example, read = FORMS[task][options["form"]]
    before = "".join(
        ask(r) + example(r) for r in subset(tasks.load(task, "train"), options["shots"], seed)
    )
    row = {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "prompt_tokens": len(tokenizer(before)["input_ids"]),
        "validation_loss": 0.0,
    }
    for split in ("test",) if options["shots"] else ("validation", "test"):
        rows = tasks.load(task, split)
        wanted, prompts = [r["answer"] for r in rows], [before + ask(r) for r in rows]
        if task == "sentiment":
            row[f"{split}_score"] = round(
                evaluation.METRICS[task](likelier(model, tokenizer, prompts), wanted), 5
            )
        if task != "sentiment" or not options["shots"]:
            said = evaluation.answers(
                model, tokenizer, prompts, max_new_tokens=6 if task == "sentiment" else 32
            )
            row[f"{split}_generated"] = round(
                evaluation.METRICS[task]([read(text) for text in said], wanted), 5
            )
            row.setdefault(f"{split}_score", row[f"{split}_generated"])
        if task == "translation":
            row[f"{split}_exact"] = round(
                evaluation.accuracy([read(text) for text in said], wanted), 5
            )
    return {
        "validation_score": 0.0,
        **row,
    }  # with examples there is nothing to choose: the wordings are compared without


def by_rows(task, steps, rates, counts=(10, 100, 300)):
    return dict(
        run=run,
        seeds=SEEDS,
        steps=steps,
        batch_size=8,
        rates=rates,
        live=[(task, "full", {"rows": 300})],
        arms=[(task, "full", {"rows": n}) for n in counts],
    )


def asked(task, form, shots):
    return task, "prompt only", {"form": form, "shots": shots}


PROMPTS = dict(run=prompted, steps=0, rates=(0.0,))
SWEEPS = {
    "rows-sentiment": by_rows("sentiment", 30, (3e-4, 1e-3)),
    "rows-sentiment-long": by_rows("sentiment", 80, (3e-4, 1e-3), counts=(300,)),
    "rows-entities": by_rows("entities", 40, (1e-3, 3e-3)),
    "rows-translation": by_rows("translation", 120, (1e-3, 3e-3)),
    "rates-translation": dict(
        by_rows("translation", 80, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1), counts=(300,)),
        curve=True,
    ),
    "starts": dict(
        by_rows("entities", 40, (1e-3, 3e-3), counts=()),
        arms=[
            ("entities", "from_scratch", {"rows": 300}),
            ("entities", "full", {"rows": 300, "start": "pocket-xs"}),
        ],
    ),
    "prompts": dict(
        PROMPTS,
        seeds=(0,),
        arms=[asked(task, form, 0) for task, forms in FORMS.items() for form in forms]
        + [asked(task, "rows", 4) for task in FORMS],
    ),
    "prompts-with-examples": dict(
        PROMPTS,
        seeds=SEEDS,
        arms=[
            asked("sentiment", "The sentiment is", 4),
            asked("entities", "In this note", 4),
            asked("translation", "In Velan,", 4),
        ],
    ),
}
