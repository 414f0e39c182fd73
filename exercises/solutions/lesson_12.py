"""Solutions and plausible mistakes of lesson 12's exercises."""

import collections
import hashlib
import random


def make_labels(ids, prompt, length):
    return [-100] * prompt + ids[prompt:length] + [-100] * (len(ids) - length)


def in_place(ids, prompt, length):
    ids[:prompt] = [-100] * prompt
    return ids


def mask_pads(ids, prompt, length):
    return [-100] * prompt + [i if i != ids[-1] else -100 for i in ids[prompt:]]


def document_lengths(position_ids):
    starts = [i for i, p in enumerate(position_ids) if p == 0] + [len(position_ids)]
    return [b - a for a, b in zip(starts, starts[1:])]


def counted(position_ids):
    lengths = []
    for p in position_ids:
        if p == 0:
            lengths.append(0)
        lengths[-1] += 1
    return lengths


def falling(p):
    cuts = [0] + [i for i in range(1, len(p)) if p[i] < p[i - 1]] + [len(p)]
    return [b - a for a, b in zip(cuts, cuts[1:])]


def no_last(p):
    starts = [i for i, x in enumerate(p) if x == 0]
    return [b - a for a, b in zip(starts, starts[1:])]


def split(draw, keep=lambda rows: rows):
    """A split of the rows by the countries that `draw` holds out."""

    def answer(rows, share, seed):
        held = draw(rows, share, seed)
        rows = keep(rows)
        return [r for r in rows if r["country"] not in held], [r for r in rows if r["country"] in held]

    return answer


def sampled(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(random.Random(seed).sample(countries, round(share * len(countries))))


def hashed(rows, share, seed):
    def bucket(country):
        return int(hashlib.md5(f"{seed} {country}".encode()).hexdigest(), 16) % 1000

    return {r["country"] for r in rows if bucket(r["country"]) < 1000 * share}


def one_by_one(rows, share, seed):
    rng = random.Random(seed)
    return {c for c in sorted({r["country"] for r in rows}) if rng.random() < share}


def first(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(countries[: round(share * len(countries))])


def unseeded(rows, share, seed):
    countries = sorted({r["country"] for r in rows})
    return set(random.sample(countries, round(share * len(countries))))


def in_order(rows, share, seed):
    countries = list(dict.fromkeys(r["country"] for r in rows))
    return set(random.Random(seed).sample(countries, round(share * len(countries))))


def by_rows(rows, share, seed):
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    n = round(share * len(rows))
    return rows[n:], rows[:n]


def shuffled(rows, share, seed):
    random.Random(seed).shuffle(rows)
    return rows[20:], rows[:20]


def one_row_each(rows):
    return list({r["country"]: r for r in rows}.values())


SOLUTIONS = {
    "make_labels": make_labels,
    "document_lengths": [document_lengths, counted],
    "split_rows": [split(sampled), split(hashed), split(one_by_one)],
}

MISTAKES = {
    "make_labels": [
        ("pads by token", mask_pads, "EOS of the answer is masked"),
        ("eos", lambda ids, prompt, length: make_labels(ids, prompt, length - 1), "EOS of the answer is masked"),
        ("padding", lambda ids, prompt, length: [-100] * prompt + ids[prompt:], "padding trains"),
        ("prompt", lambda ids, prompt, length: make_labels(ids, 0, length), "prompt trains"),
        ("shifted", lambda ids, prompt, length: make_labels(ids, prompt, length)[1:] + [-100], "shifted"),
        ("shifted ids", lambda ids, prompt, length: ids[1:] + [-100], "shifted"),
        ("answer alone", lambda ids, prompt, length: ids[prompt:length], "Each position has a label"),
        ("last of prompt", lambda ids, prompt, length: make_labels(ids, prompt - 1, length), "last token of the prompt"),
        ("first of answer", lambda ids, prompt, length: make_labels(ids, prompt + 1, length), "first token of the answer"),
        ("mask 0", lambda ids, prompt, length: [0 if i == -100 else i for i in make_labels(ids, prompt, length)], "masked with 0"),
        ("copy", lambda ids, prompt, length: list(ids), "everything trains"),
        ("in place", in_place, "changes `ids`"),
        ("nothing", lambda ids, prompt, length: [-100] * len(ids), "Everything is masked"),
        ("other way", lambda ids, prompt, length: ids[:prompt] + [-100] * (length - prompt) + ids[length:], "other way round"),
        ("None", lambda ids, prompt, length: [None] * prompt + ids[prompt:], "a number in each place"),
    ],
    "document_lengths": [
        ("no last", no_last, "last document is missing"),
        ("one less", lambda p: [n - 1 for n in document_lengths(p)], "one too small"),
        ("single tokens", lambda p: [n for n in document_lengths(p) if n > 1], "single token are lost"),
        ("falling", falling, "run together"),
        ("empty first", lambda p: [0] + document_lengths(p), "empty document"),
        ("starts", lambda p: [i for i, x in enumerate(p) if x == 0], "places where documents begin."),
        ("whole", lambda p: [len(p)], "length of the sequence"),
        ("longest", lambda p: [max(p) + 1], "longest document"),
        ("Counter", lambda p: collections.Counter(p), "a list of lengths"),
        ("counts", lambda p: [p.count(i) for i in range(max(p) + 1)], "how often each position"),
        ("number", lambda p: p.count(0), "a list of lengths"),
        ("sorted", lambda p: sorted(document_lengths(p)), "their order is not"),
        ("constant", lambda p: [4, 2, 3], "whatever it is given"),
        ("negative", lambda p: [-n for n in document_lengths(p)], "Each 0 opens a document"),
    ],
    "split_rows": [
        ("by rows", by_rows, "on both sides"),
        ("in place", shuffled, "changes `rows`"),
        ("swapped", lambda *a: split(sampled)(*a)[::-1], "wrong way round"),
        ("one row each", split(sampled, one_row_each), "rows are lost"),
        ("first ones", split(first), "Another seed"),
        ("no seed", split(unseeded), "same seed gave another"),
        ("order", split(in_order), "Sort the countries"),
        ("0.25", split(lambda rows, share, seed: sampled(rows, 0.25, seed)), "Use `share`"),
        ("0.1", split(lambda rows, share, seed: sampled(rows, 0.1, seed)), "about 50"),
        ("twice", split(sampled, lambda rows: rows + rows[:3]), "A row is there twice"),
        ("train alone", lambda rows, share, seed: split(sampled)(rows, share, seed)[0], "two lists of rows"),
        ("questions", lambda rows, share, seed: [[r["question"] for r in side] for side in split(sampled)(rows, share, seed)], "each row as it was given"),
        ("nothing held out", split(lambda rows, share, seed: set()), "side is empty"),
    ],
}  # fmt: skip
