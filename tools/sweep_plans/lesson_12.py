"""Instruction data: what is trained on, how rows are put into a batch, what joins prompt and answer, how rows are split.

The forms are LoRA r = 8 with the same rows in each step, the splits full tuning; the options say what is done to the rows. A row's
answer is scored in the form that it was trained in, its end included.

    {}                       the course's form: loss on the answer, rows padded, a space before the answer
    {"loss": "all"}          loss on the prompt too
    {"pack": "open"}         a batch's rows packed into sequences, and every token sees all rows before its own
    {"join": "newline"}      "### Response:\\nParis"
    {"split": "rows"}        validation rows drawn row by row; {"split": "countries"}: whole countries held out
"""
import json
import random

from utils import bases, evaluation, instructions, methods, tasks, training

JOIN = {None: " ", "newline": "\n"}
ROOM = 192  # tokens of a packed sequence: the length that the base was pre-trained on


def examples(split, join=None):
    """The instruction rows of a split with `prompt` and `answer`, the two joined as asked."""
    return [{**r, "answer": JOIN[join] + r["answer"].lstrip()} for r in instructions.examples(instructions.load(split, "pocket-s"))]


def pairs_of(tokenizer, rows, loss="response"):
    """[(ids, labels)] of the rows; with loss="all" every token but the first is trained on."""
    made = [evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows]
    return made if loss == "response" else [(ids, list(ids)) for ids, _ in made]


def packed_open(pairs, pad_id, device):
    """A batch of the rows one after the other in sequences of at most ROOM tokens, with nothing to keep the rows apart."""
    sequences = [([], [])]
    for ids, labels in pairs:
        if len(sequences[-1][0]) + len(ids) > ROOM:
            sequences.append(([], []))
        for whole, part in zip(sequences[-1], (ids, [evaluation.IGNORE] + labels[1:])):
            whole.extend(part)
    return evaluation.collate(sequences, pad_id, device)


def run_form(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """One run on the instruction rows; a flat dict."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed, rank=8)
    train, validation, test = (examples(split, options.get("join")) for split in ("train", "validation", "test"))
    rest = {"collate": packed_open} if options.get("pack") == "open" else {}
    history = training.train(model, tokenizer, pairs_of(tokenizer, train, options.get("loss", "response")), steps=steps, lr=lr, seed=seed,
                             batch_size=batch_size, progress=False, **rest)
    return {**settings(base, task, method, options, lr, seed, steps, count, batch_size),
            **{f"{name}_{what}": value for name, rows in (("validation", validation), ("test", test))
               for what, value in (("score", evaluation.exact_match(model, tokenizer, rows)),
                                   ("loss", round(evaluation.answer_loss(model, tokenizer, rows), 5)))},
            "facts_kept": evaluation.facts_kept(model, tokenizer), "final_loss": round(history.final_loss, 4),
            "seconds": round(history.seconds, 2)}


def settings(base, task, method, options, lr, seed, steps, count, batch_size):
    return {"base": base, "task": task, "method": method, "options": json.dumps(options), "lr": lr, "seed": seed, "steps": steps,
            "count": count, "batch_size": batch_size}


COLOURS = ("red", "blue", "green", "yellow")
ASK = ("What colour is the folder of {c}?", "Name the colour of the folder of {c}.")


def folder_rows(seed):
    """(known, new): 40 countries and the other 56, each with a folder of a colour drawn at random, asked for in two wordings."""
    countries, rng = sorted({r["country"] for r in evaluation.facts()}), random.Random(seed)
    rng.shuffle(countries)
    rows = [{"country": c, "prompt": tasks.ask(wording.format(c=c)), "answer": f" {colour}"}
            for c in countries for colour in [rng.choice(COLOURS)] for wording in ASK]
    return rows[:80], rows[80:]


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
    """One run on answers that nobody can know for a new country; validation either leaks or does not, the test is on new countries."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed)
    known, test = folder_rows(seed)
    train, validation = split_rows(known, options["split"], seed)
    history = training.train(model, tokenizer, train, steps=steps, lr=lr, seed=seed, batch_size=batch_size, progress=False)
    return {**settings(base, task, method, options, lr, seed, steps, count, batch_size),
            **{f"{name}_{what}": value for name, rows in (("validation", validation), ("test", test))
               for what, value in (("score", evaluation.exact_match(model, tokenizer, rows)),
                                   ("loss", round(evaluation.answer_loss(model, tokenizer, rows), 5)))},
            "final_loss": round(history.final_loss, 4), "seconds": round(history.seconds, 2)}


FORMS = [{}, {"loss": "all"}, {"join": "newline"}, {"pack": "open"}]
SWEEPS = {"instruction-forms": dict(run=run_form, seeds=(0, 1, 2), steps=80, rates=(3e-3, 1e-2, 3e-2), batch_size=8,
                                    arms=[("instructions", "lora", options) for options in FORMS]),
          "instruction-split": dict(run=run_split, seeds=(0, 1, 2, 3, 4), steps=100, rates=(1e-3, 3e-3),
                                    arms=[("folders", "full", {"split": how}) for how in ("rows", "countries")])}
