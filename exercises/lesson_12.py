"""Checks of lesson 12's exercises."""

import random

from utils.checks import Hint, call, compare, exercise, sequence

IGNORE = -100


@exercise(1, "Give the labels: -100 where nothing is to be learned, the id where something is.")
def make_labels(answer):
    def masked(ids, prompt, length, mask=IGNORE):
        return [mask] * prompt + ids[prompt:length] + [mask] * (len(ids) - length)

    def changed(first=0, last=0):
        """The answer from `first` tokens later and `last` tokens longer."""
        return lambda ids, prompt, length: masked(ids, max(0, prompt + first), min(len(ids), length + last))

    compare(
        answer,
        masked,
        [
            ([1, 50, 51, 52, 60, 61, 2, 2, 2], 4, 7),
            ([1, 50, 60, 2], 2, 4),
            ([1, 50, 51, 60, 2, 3], 3, 5),
            ([1, 7, 9, 9, 2, 2], 2, 5),
            ([1, 8, 2, 0, 0, 0], 1, 3),
        ],
        [
            ("You shifted the labels. The model does that itself.", lambda i, p, n: i[1:] + [IGNORE], lambda i, p, n: [*masked(i, p, n)[1:], IGNORE], lambda i, p, n: [IGNORE, *masked(i, p, n)[:-1]]),
            ("The padding trains in your labels. What teaches a model to write padding?", lambda i, p, n: masked(i, p, len(i))),
            ("The prompt trains in your labels. Only the answer should.", lambda i, p, n: masked(i, 0, n)),
            ("The EOS of the answer is masked: this model will not stop. Go by the length, not by the token: padding may be the same token.", changed(last=-1), lambda i, p, n: [IGNORE if k == i[-1] else k for k in masked(i, p, n)], lambda i, p, n: [IGNORE if k == i[n - 1] else k for k in masked(i, p, n)], lambda i, p, n: [IGNORE if k == 2 else k for k in masked(i, p, n)]),
            ("The last token of the prompt trains too. The first `prompt` tokens are masked.", changed(first=-1)),
            ("The first token of the answer is masked. It should train.", changed(first=1)),
            ("One token of the padding trains, where there is one.", changed(last=1)),
            ("BOS trains in your labels. It belongs to the prompt.", lambda i, p, n: [i[0], *masked(i, p, n)[1:]]),
            ("You masked with 0, which is a token like any other. Which number is skipped?", lambda i, p, n: masked(i, p, n, 0)),
            ("That is a copy of the ids: everything trains.", lambda i, p, n: i),
            ("Everything is masked: nothing is learned.", lambda i, p, n: [IGNORE] * len(i)),
            ("It is the other way round: the answer trains, the rest is masked.", lambda i, p, n: [*i[:p], *[IGNORE] * (n - p), *i[n:]]),
            ("Each position has a label: as many as ids.", lambda i, p, n: i[p:n], lambda i, p, n: masked(i, p, n)[:n], lambda i, p, n: [IGNORE] * p + i[p:] + [IGNORE] * (len(i) - n)),
        ],
        form="a list of labels",
        advice="Write out by hand which of the ids belong to the answer.",
    )  # fmt: skip
    return "The EOS of the answer trains even where padding is the same token."


def _starts(positions):
    return [i for i, p in enumerate(positions) if p == 0]


def _lengths(positions):
    cuts = [*_starts(positions), len(positions)]
    return [b - a for a, b in zip(cuts, cuts[1:])]


@exercise(2, "Give the lengths of the documents in a packed sequence.")
def document_lengths(answer):
    def falling(p, end=True):
        """Documents end where the position falls: two of one token run together."""
        cuts = [0, *(i for i in range(1, len(p)) if p[i] < p[i - 1]), *([len(p)] if end else [])]
        return [b - a for a, b in zip(cuts, cuts[1:])]

    def zeros(p):
        """Lengths counted from one 0 to the next, the last by its position."""
        return [b - a for a, b in zip(_starts(p), _starts(p)[1:])]

    compare(
        answer,
        _lengths,
        {
            str([i for n in lengths for i in range(n)]): ([i for n in lengths for i in range(n)],)
            for lengths in ([4, 2, 3], [4], [1, 1, 3], [2, 5, 1], [6, 6], [1], [3, 1, 1, 1, 2])
        },
        [
            ("Those are the places where documents begin. How long is each?", _starts),
            ("Those are the places where documents begin and end. How long is each?", lambda p: [*_starts(p), len(p)]),
            ("The last document is missing: no 0 comes behind it.", zeros),
            ("Each length is one too small: a document whose last position is 4 has five tokens.", lambda p: [n - 1 for n in _lengths(p)]),
            ("Documents of a single token are lost. Two zeros may stand side by side.", lambda p: [n for n in _lengths(p) if n > 1]),
            ("Documents run together where one of them has a single token: a 0 opens a document even if a 0 stood before it.", falling),
            ("The last document is missing, and documents of a single token run together with others.", lambda p: falling(p, False)),
            ("There is an empty document in front: the first 0 opens the first document and closes none.", lambda p: [0, *_lengths(p)], lambda p: [0, *zeros(p)]),
            ("That is the number of documents. How long is each?", lambda p: [p.count(0)]),
            ("That is the length of the sequence. A new document starts at every 0.", lambda p: [len(p)]),
            ("That is the longest document alone.", lambda p: [max(p) + 1]),
            ("You count how often each position occurs. The lengths are those of the documents, in their order.", lambda p: [p.count(i) for i in range(max(p) + 1)]),
            ("The lengths are right, their order is not: give them as the documents stand.", lambda p: sorted(_lengths(p)), lambda p: sorted(_lengths(p), reverse=True), lambda p: _lengths(p)[::-1]),
            ("Equal lengths are given once. Every document has its own.", lambda p: list(dict.fromkeys(_lengths(p)))),
        ],
        form="a list of lengths, one for each document in order",
        advice="Each 0 opens a document, and the end of the sequence closes the last.",
    )  # fmt: skip
    return "This is how transformers finds the documents and builds their mask."


def _rows(countries):
    """One to four questions about each country, in a shuffled order."""
    wordings = ("Name the capital of", "Which city rules", "What is spoken in", "Who lives in")
    rows = [
        {"country": country, "question": f"{wording} {country}?"}
        for n, country in enumerate(countries)
        for wording in wordings[: 1 + n % 4]
    ]
    random.Random(5).shuffle(rows)
    return rows


@exercise(3, "Give (train, validation) so that no country is on both sides.")
def split_rows(answer):
    rows = _rows([f"country {n:03d}" for n in range(200)])

    def sides(share, seed, rows=rows):
        """The two sides, each a list of rows."""
        pair = sequence(
            call(answer, [dict(r) for r in rows], share, seed), 2, ("train", "validation"),
            "two lists of rows, (train, validation)")  # fmt: skip
        pair = [sequence(side, form="two lists of rows, (train, validation)") for side in pair]
        if not all(isinstance(r, dict) and {"country", "question"} <= set(r) for side in pair for r in side):
            raise Hint("Give two lists of rows, (train, validation), each row as it was given to you.")
        return pair

    def of(side):
        return {r["country"] for r in side}

    train, validation = sides(0.25, 0)
    if both := of(train) & of(validation):
        raise Hint(f"{len(both)} countries are on both sides, such as {min(both)}. Draw countries, not rows.")
    texts = [r["question"] for r in [*train, *validation]]
    if len(texts) != len(set(texts)):
        raise Hint("A row is there twice.")
    if len(texts) != len(rows):
        raise Hint(f"{len(rows) - len(texts)} of {len(rows)} rows are lost. Every row of a country goes to that country's side.")
    if not train or not validation:
        raise Hint(f"The {'training' if not train else 'validation'} side is empty.")

    def about(number, share):
        """Whether that many of 200 countries are about the share: four standard deviations of a draw one by one."""
        return abs(number - 200 * share) <= 4 * (200 * share * (1 - share)) ** 0.5

    if about(len(of(train)), 0.25):
        raise Hint("The sides are the wrong way round: `share` is the validation's, and training comes first.")
    if not about(len(of(validation)), 0.25):
        raise Hint(f"Validation holds {len(of(validation))} of 200 countries; at a share of 0.25 it should be about 50.")
    again, other = sides(0.25, 0)[1], sides(0.25, 1)[1]
    if of(again) != of(validation):
        raise Hint("The same seed gave another split. Use random.Random(seed), and no set whose order changes.")
    if of(other) == of(validation):
        raise Hint("Another seed gave the same countries. Draw them with the seed, or you hold out whatever stands first.")
    if of(sides(0.25, 0, rows[::-1])[1]) != of(validation):
        raise Hint("The same rows in another order gave other countries. Sort the countries before you draw.")
    for share in (0.5, 0.1):
        number = len(of(sides(share, 0)[1]))
        if not about(number, share):
            raise Hint(f"Right at a share of 0.25, wrong at {share}: validation holds {number} of 200 countries. Use `share`.")
    return "Now validation asks what the test will ask: something about a country never seen."
