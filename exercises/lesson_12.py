"""Checks of lesson 12's exercises."""

import random

from utils.checks import Hint, call, exercise

IGNORE = -100


@exercise(1, "Give the labels: -100 where nothing is to be learned, the id where something is.")
def make_labels(answer):
    cases = [
        ([1, 50, 51, 52, 60, 61, 2, 2, 2], 4, 7),
        ([1, 50, 60, 2], 2, 4),
        ([1, 50, 51, 60, 2, 3], 3, 5),
        ([1, 7, 9, 9, 2, 2], 2, 5),
    ]
    for ids, prompt, length in cases:
        given = list(ids)
        got = call(answer, ids, prompt, length)
        if ids != given:
            raise Hint(
                "The ids were changed in place. They are still needed as the model's input: return a new list."
            )
        got, pads = list(got), len(ids) - length
        right = [IGNORE] * prompt + ids[prompt:length] + [IGNORE] * pads
        if got == right:
            continue
        if len(got) != len(ids):
            raise Hint(f"There are {len(got)} labels for {len(ids)} ids. Each position has one.")
        tail = [IGNORE] * pads
        known = [
            (ids[1:] + [IGNORE], "You shifted the labels. The model does that itself."),
            ([*right[1:], IGNORE], "You shifted the labels. The model does that itself."),
            (
                [IGNORE] * prompt + ids[prompt:],
                "The padding trains in your labels. What teaches a model to write padding?",
            ),
            (ids[:length] + tail, "The prompt trains in your labels. Here only the answer shall."),
            (
                [IGNORE] * prompt + ids[prompt : length - 1] + [IGNORE] + tail,
                "The EOS of the answer is masked: this model will not stop. "
                "Go by the length, not by the token: padding may be the same token.",
            ),
            (
                [IGNORE] * (prompt - 1) + ids[prompt - 1 : length] + tail,
                "The last token of the prompt trains too. `prompt` tokens are masked.",
            ),
            (
                [IGNORE] * (prompt + 1) + ids[prompt + 1 : length] + tail,
                "The first token of the answer is masked. It should train.",
            ),
            (
                [0 if label == IGNORE else label for label in right],
                "You masked with 0, which is a token like any other. Which number is skipped?",
            ),
            (ids, "That is a copy of the ids: everything trains."),
        ]
        for value, hint in known:
            if got == value:
                raise Hint(hint)
        raise Hint(
            f"For ids {ids}, prompt {prompt}, length {length} you gave {got}. Write out by hand which of them belong to the answer."
        )
    return "The EOS of the answer trains even where padding is the same token."


@exercise(2, "Give the lengths of the documents in a packed sequence.")
def document_lengths(answer):
    cases = [[4, 2, 3], [4], [1, 1, 3], [2, 5, 1], [6, 6], [1]]
    for lengths in cases:
        positions = [i for n in lengths for i in range(n)]
        got = call(answer, list(positions))
        got = [int(n) for n in got]
        if got == lengths:
            continue
        if got == [i for i, position in enumerate(positions) if position == 0]:
            raise Hint("Those are the places where documents begin. How long is each?")
        if len(lengths) > 1 and got == lengths[:-1]:
            raise Hint("The last document is missing: no 0 comes behind it.")
        if got == [n - 1 for n in lengths]:
            raise Hint(
                "Each length is one too small: a document whose last position is 4 has five tokens."
            )
        if got == [n for n in lengths if n > 1]:
            raise Hint("Documents of a single token are lost. Two zeros may stand side by side.")
        if sum(got) == len(positions) and len(got) < len(lengths) and 1 in lengths:
            raise Hint(
                "Documents run together where one of them has a single token: a 0 opens a document even if a 0 stood before it."
            )
        if got and got[0] == 0 and got[1:] in (lengths, lengths[:-1]):
            raise Hint(
                "There is an empty document in front: the first 0 opens the first document and closes none."
            )
        if sum(got) != len(positions):
            raise Hint(
                f"Your lengths add up to {sum(got)}, the sequence has {len(positions)} tokens."
            )
        raise Hint(f"For {positions} you gave {got}.")
    return "This is how transformers finds the documents and builds their mask."


@exercise(3, "Give (train, validation) so that no country is on both sides.")
def split_rows(answer):
    rng = random.Random(5)
    countries = [f"country {n:02d}" for n in range(40)]
    rows = [
        {"country": c, "question": f"{wording} {c}?"}
        for c in countries
        for wording in ("Name the capital of", "Which city rules")
    ]
    rng.shuffle(rows)
    given = list(rows)
    train, validation = call(answer, rows, 0.25, 0)
    if rows != given:
        raise Hint(
            "The rows that you were given are in another order now, or gone. Leave them as they are."
        )
    sides = [{r["country"] for r in side} for side in (train, validation)]
    if both := sides[0] & sides[1]:
        raise Hint(
            f"{len(both)} countries are on both sides, such as {sorted(both)[0]}. Draw countries, not rows."
        )
    texts = [r["question"] for r in [*train, *validation]]
    if len(texts) != len(set(texts)):
        raise Hint("A row is there twice.")
    if len(texts) != len(rows):
        raise Hint(
            f"{len(rows) - len(texts)} of {len(rows)} rows are lost. Every row of a country goes to that country's side."
        )
    if len(sides[1]) == 30:
        raise Hint(
            "The sides are the wrong way round: `share` is the validation's, and training comes first."
        )
    if not 9 <= len(sides[1]) <= 11:
        raise Hint(
            f"Validation holds {len(sides[1])} of 40 countries; at a share of 0.25 it should be about 10."
        )
    again, other = (call(answer, rows, 0.25, seed)[1] for seed in (0, 1))
    if sorted(r["question"] for r in again) != sorted(r["question"] for r in validation):
        raise Hint(
            "The same seed gave another split. Use random.Random(seed), and no set whose order changes."
        )
    if {r["country"] for r in other} == sides[1]:
        raise Hint(
            "Another seed gave the same countries. Draw them at random, or you hold out whatever stands first."
        )
    reordered = call(answer, rows[::-1], 0.25, 0)[1]
    if {r["country"] for r in reordered} != sides[1]:
        raise Hint(
            "The same rows in another order gave other countries. Sort the countries before you draw."
        )
    half = call(answer, rows, 0.5, 0)[1]
    if not 19 <= len({r["country"] for r in half}) <= 21:
        raise Hint("Right at a share of 0.25, wrong at 0.5: use `share`.")
    return "Now validation asks what the test will ask: something about a country never seen."
