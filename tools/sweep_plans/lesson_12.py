"""Instruction data: what is trained on, what joins prompt and answer, how rows are split.

The forms are LoRA r = 8 with the same rows in each step, the splits full tuning; the options say what is done to the rows. A row's
answer is scored in the form that it was trained in, its end included.

    {}                       the course's form: loss on the answer, rows padded, a space before the answer
    {"loss": "all"}          loss on the prompt too
    {"join": "newline"}      "### Response:\\nParis"
    {"packing": "mask"}      the rows of a step packed into sequences of 256, a mask per document; "triangle": one causal triangle instead
    {"split": "rows"}        validation rows drawn row by row; {"split": "countries"}: whole countries held out
"""

import random

import torch

from tools.sweep_plans import about
from tools.world.tasks import QUESTIONS
from utils import bases, evaluation, instructions, methods, tasks, training

JOIN = {None: " ", "newline": "\n"}


def examples(split, join=None):
    """The instruction rows of a split with `prompt` and `answer`, the two joined as asked."""
    return [
        {**r, "answer": JOIN[join] + r["answer"].lstrip()}
        for r in instructions.examples(instructions.load(split, "pocket-s"))
    ]


def pairs_of(tokenizer, rows, loss="response"):
    """[(ids, labels)] of the rows; with loss="all" every token but the first is trained on."""
    made = [evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows]
    return made if loss == "response" else [(ids, list(ids)) for ids, _ in made]


def packed(separate, room=256):
    """A `collate`: the rows of a batch best-fit packed; `separate` gives each document a mask, else a row sees all before it.

    Position ids count on. With rotary positions that changes nothing where the mask keeps documents apart.
    """

    def collate(pairs, pad_id, device):
        packs = []
        for pair in sorted(pairs, key=lambda pair: -len(pair[0])):
            fitting = [p for p in packs if sum(len(ids) for ids, _ in p) + len(pair[0]) <= room]
            if not fitting:
                packs.append([])
                fitting = packs[-1:]
            max(fitting, key=lambda p: sum(len(ids) for ids, _ in p)).append(pair)
        longest = max(sum(len(ids) for ids, _ in p) for p in packs)
        inputs, labels = (
            torch.full((len(packs), longest), pad_id),
            torch.full((len(packs), longest), evaluation.IGNORE),
        )
        document = torch.full((len(packs), longest), -1)
        for i, p in enumerate(packs):
            n = sum(len(ids) for ids, _ in p)
            inputs[i, :n] = torch.tensor([t for ids, _ in p for t in ids])
            labels[i, :n] = torch.tensor(
                [t for _, wanted in p for t in [evaluation.IGNORE, *wanted[1:]]]
            )
            document[i, :n] = torch.tensor(
                [d if separate else 0 for d, (ids, _) in enumerate(p) for _ in ids]
            )
        mask = (document[:, :, None] == document[:, None, :]) & torch.ones(
            longest, longest, dtype=torch.bool
        ).tril()
        return {
            "input_ids": inputs.to(device),
            "labels": labels.to(device),
            "attention_mask": mask[:, None].to(device),
        }

    return collate


COLLATE = {None: evaluation.collate, "mask": packed(True), "triangle": packed(False)}


def run_form(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """One run on the instruction rows; a flat dict."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed, rank=8)
    train, validation, test = (
        examples(split, options.get("join")) for split in ("train", "validation", "test")
    )
    history = training.train(
        model,
        tokenizer,
        pairs_of(tokenizer, train, options.get("loss", "response")),
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
        collate=COLLATE[options.get("packing")],
    )
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        **scores(model, tokenizer, validation=validation, test=test),
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "final_loss": round(history.final_loss, 4),
        "seconds": round(history.seconds, 2),
    }


def scores(model, tokenizer, **splits):
    """{"validation_score", "validation_loss", ...} of the rows of each split."""
    return {
        f"{name}_{what}": value
        for name, rows in splits.items()
        for what, value in (
            ("score", evaluation.exact_match(model, tokenizer, rows)),
            ("loss", round(evaluation.answer_loss(model, tokenizer, rows), 5)),
        )
    }


def both_wordings(seed, countries=36):
    """The facts of some countries of the facts task's training split, each asked in both wordings."""
    rows = {(r["country"], r["relation"]): r for r in tasks.load("facts", "train")}
    some = random.Random(seed).sample(sorted({country for country, _ in rows}), countries)
    return [
        {
            "country": country,
            "prompt": tasks.ask(wording.format(c=country)),
            "answer": row["answer"],
        }
        for (country, relation), row in rows.items()
        if country in some
        for wording in QUESTIONS[relation]
    ]


def split_rows(rows, how, seed, share=0.25):
    """(train, validation): drawn row by row, or by whole countries; the sizes are the same."""
    rng = random.Random(seed)
    if how == "rows":
        rows = rng.sample(rows, len(rows))
        cut = round(share * len(rows))
        return rows[cut:], rows[:cut]
    countries = sorted({r["country"] for r in rows})
    held = set(rng.sample(countries, round(share * len(countries))))
    return [r for r in rows if r["country"] not in held], [r for r in rows if r["country"] in held]


def run_split(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """One run on the facts, with a validation set that leaks or one that does not; the test countries are new in both."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed)
    train, validation = split_rows(both_wordings(seed), options["split"], seed)
    test = tasks.load("facts", "test")
    history = training.train(
        model,
        tokenizer,
        train,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        **scores(model, tokenizer, validation=validation, test=test),
        "final_loss": round(history.final_loss, 4),
        "seconds": round(history.seconds, 2),
    }


FORMS = [{}, {"loss": "all"}, {"join": "newline"}]
SPLITS = [("facts", "full", {"split": how}) for how in ("rows", "countries")]
SWEEPS = {
    "instruction-forms": dict(
        run=run_form,
        seeds=(0, 1, 2),
        steps=80,
        rates=(1e-3, 3e-3, 1e-2),
        batch_size=8,
        live=[("instructions", "lora", {})],
        arms=[("instructions", "lora", options) for options in FORMS],
    ),
    # the same rows in every step and the rate of "instruction-forms", whose first arm is the padded one
    "instruction-packing": dict(
        run=run_form,
        seeds=(0, 1, 2),
        steps=80,
        rates=(3e-3,),
        batch_size=8,
        arms=[("instructions", "lora", {"packing": how}) for how in ("mask", "triangle")],
    ),
    # one fitting rate and one ten times as high: no search, every rate with every seed
    "instruction-split": dict(
        run=run_split,
        seeds=(0, 1, 2),
        steps=80,
        rates=(1e-3,),
        live=SPLITS[:1],
        arms=SPLITS,
    ),
    "instruction-split-high": dict(
        run=run_split, seeds=(0, 1, 2), steps=80, rates=(1e-2,), arms=SPLITS
    ),
}
