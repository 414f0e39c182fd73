"""Checks of lesson 13's exercises."""

import functools
import math

import torch

from utils.checks import call, compare, exercise


@exercise(1, "Return ids and labels, two lists of one length.")
def ids_and_labels(answer):
    def made(ids, labels):
        """Two functions of (prompt, answer, eos) as one that gives the pair."""
        return lambda p, a, e: (ids(p, a, e), labels(p, a, e))

    def whole(p, a, e):
        return p + a + [e]

    def masked(p, a, e):
        return [-100] * len(p) + a + [e]

    compare(
        answer,
        made(whole, masked),
        [
            ([1, 7, 8, 9], [5, 6], 2),
            ([3], [2, 4, 4], 2),
            ([1, 6, 6], [9], 7),
            ([1, 5, 0], [11, 12, 13, 14], 3),
        ],
        [
            ("The prompt carries loss too. Give its tokens -100.", made(whole, whole)),
            (
                "The end-of-text token carries no loss: the model would never learn to stop.",
                made(whole, lambda p, a, e: [-100] * len(p) + a + [-100]),
            ),
            (
                "Nothing ends the ids. Without the end-of-text token the model never learns to stop.",
                made(lambda p, a, e: p + a, lambda p, a, e: [-100] * len(p) + a),
            ),
            (
                "The ids end with the answer, and the labels with end-of-text. Both need it.",
                made(lambda p, a, e: p + a, masked),
            ),
            (
                "One label for each id: the end-of-text token has an id and no label.",
                made(whole, lambda p, a, e: [-100] * len(p) + a),
            ),
            (
                "You shifted the labels to the left. loss_by_hand shifts already: a label stands "
                "at its own token.",
                made(whole, lambda p, a, e: masked(p, a, e)[1:] + [-100]),
                made(whole, lambda p, a, e: masked(p, a, e)[1:]),
            ),
            (
                "You shifted the labels to the right. A label stands at its own token.",
                made(whole, lambda p, a, e: [-100] + masked(p, a, e)[:-1]),
            ),
            (
                "The label 0 is a token. The loss skips -100 only.",
                made(whole, lambda p, a, e: [0] * len(p) + a + [e]),
            ),
            (
                "The loss skips -100 only, and -1 is no token: it would raise an error.",
                made(whole, lambda p, a, e: [-1] * len(p) + a + [e]),
            ),
            (
                "The labels lack the prompt's places. One label for each id.",
                made(whole, lambda p, a, e: a + [e]),
            ),
            (
                "The ids lack the prompt. The model must read it, though it carries no loss.",
                made(lambda p, a, e: a + [e], lambda p, a, e: a + [e]),
            ),
            (
                "You masked the answer. The loss should see the answer and skip the prompt.",
                made(whole, lambda p, a, e: p + [-100] * len(a) + [e]),
                made(whole, lambda p, a, e: p + [-100] * (len(a) + 1)),
            ),
            (
                "The first token of the answer carries no loss. The mask ends with the prompt.",
                made(whole, lambda p, a, e: [-100] * (len(p) + 1) + a[1:] + [e]),
            ),
            (
                "The last token of the prompt carries loss. The mask ends with the prompt.",
                made(whole, lambda p, a, e: [-100] * (len(p) - 1) + p[-1:] + a + [e]),
            ),
            (
                "End-of-text stands in front of the answer. It belongs behind it.",
                made(lambda p, a, e: p + [e] + a, lambda p, a, e: [-100] * len(p) + [e] + a),
            ),
            (
                "Four prompt tokens are written into your code. Count the prompt's.",
                made(whole, lambda p, a, e: [-100] * 4 + whole(p, a, e)[4:]),
            ),
        ],
        form="two lists, ids and labels",
        names=("ids", "labels"),
        advice="Write the row's tokens down and under each its label.",
    )
    return "That is what SFTTrainer made of each row."


@exercise(2, 'Return "bfloat16" or "float16" from the pair.')
def pick_dtype(answer):
    if isinstance(call(answer, (7, 5)), torch.dtype):  # torch.float16 says the same as its name
        given = answer

        @functools.wraps(given)
        def answer(capability):
            return str(given(capability)).removeprefix("torch.")

    def rule(enough):
        return lambda c: "bfloat16" if enough(c) else "float16"

    compare(
        answer,
        rule(lambda c: c >= (8, 0)),
        [((7, 5),), ((8, 0),), ((8, 6),), ((9, 0),), ((12, 0),), ((7, 0),), ((6, 2),), ((10, 3),)],
        [
            (
                "A T4 is (7, 5) and has no bfloat16: it would emulate it slowly or stop with an "
                "error.",
                rule(lambda c: True),
            ),
            (
                "From capability (8, 0) on, cards have bfloat16. Yours never gets it.",
                rule(lambda c: False),
            ),
            (
                "It is the other way round: bfloat16 came with capability (8, 0).",
                rule(lambda c: c < (8, 0)),
            ),
            (
                "An A100 is exactly (8, 0), and it has bfloat16. Look at the edge of your "
                "comparison.",
                rule(lambda c: c > (8, 0)),
            ),
            (
                "Every card from (8, 0) on has bfloat16, also (8, 6). You ask for more than 8.",
                rule(lambda c: c[0] > 8),
            ),
            (
                "You ask for exactly 8. Newer generations, such as (9, 0), have bfloat16 too.",
                rule(lambda c: c[0] == 8),
            ),
            (
                "You ask for exactly (8, 0). All later cards have bfloat16 too.",
                rule(lambda c: c == (8, 0)),
            ),
            (
                "You gave float16 for (12, 0). Compare pairs or numbers, not texts: as a text, '12' "
                "comes before '8'.",
                rule(lambda c: f"{c[0]}.{c[1]}" >= "8.0"),
            ),
            (
                "Your rule lets a T4 through, which is (7, 5). The first number must be 8 or more.",
                rule(lambda c: c >= (7, 5)),
            ),
            (
                "Your rule lets every card of generation 7 through. The first number must be 8 or "
                "more.",
                rule(lambda c: c[0] >= 7),
            ),
            (
                "You added the two numbers. The second one counts within a generation only.",
                rule(lambda c: sum(c) >= 8),
            ),
            (
                "You look at the second number alone. The first one is the generation.",
                rule(lambda c: c[1] >= 5),
                rule(lambda c: c[1] == 0),
            ),
            (
                "Capability (8, 6) is newer than (8, 0) and has bfloat16 too: the second number "
                "need not be 0.",
                rule(lambda c: c[0] >= 8 and c[1] == 0),
            ),
        ],
        form='"float16" or "bfloat16"',
        options=("float16", "bfloat16"),
        advice="The rule is one comparison with (8, 0).",
    )
    return "Ask the capability: is_bf16_supported() may say yes to a card that only emulates it."


@exercise(3, "Return the number of optimiser steps in one pass over the rows, a whole number.")
def steps_per_epoch(answer):
    compare(
        answer,
        lambda rows, batch, accumulation: math.ceil(rows / (batch * accumulation)),
        [(51_759, 2, 4), (17, 2, 4), (16, 2, 4), (31, 4, 3), (5, 8, 1), (1000, 3, 7), (1, 4, 4)],
        [
            (
                "These are batches. With accumulation, several of them make one optimiser step.",
                lambda r, b, a: math.ceil(r / b),
                lambda r, b, a: r // b,
            ),
            (
                "You divided by the accumulation only. A batch holds several rows too.",
                lambda r, b, a: math.ceil(r / a),
                lambda r, b, a: r // a,
            ),
            (
                "You rounded down: the last rows do not fill a step, but they do make one.",
                lambda r, b, a: r // (b * a),
            ),
            (
                "Rows that fill their steps exactly need not one more: 16 rows are two steps of 8.",
                lambda r, b, a: r // (b * a) + 1,
            ),
            (
                "You rounded to the nearest number, which drops a small last step.",
                lambda r, b, a: round(r / (b * a)),
            ),
            (
                "You dropped the last, small batch. It counts as one.",
                lambda r, b, a: math.ceil(r // b / a),
            ),
            (
                "You dropped the last step, which has fewer batches. It counts as one.",
                lambda r, b, a: math.ceil(r / b) // a,
            ),
            (
                "Steps are whole: a last step with fewer rows is one too. Round up.",
                lambda r, b, a: r / (b * a),
            ),
            (
                "One step sees batch times accumulation rows, not their sum.",
                lambda r, b, a: math.ceil(r / (b + a)),
            ),
            (
                "Accumulation makes fewer steps, not more.",
                lambda r, b, a: math.ceil(r / b) * a,
                lambda r, b, a: math.ceil(r / b * a),
            ),
            (
                "You multiplied. One step sees batch times accumulation rows; how often do they go "
                "into the rows?",
                lambda r, b, a: r * b * a,
            ),
            ("Those are the rows of one step. How many steps?", lambda r, b, a: b * a),
        ],
        form="a whole number of steps",
        advice="One step sees batch times accumulation rows.",
    )
    return f"So 60 steps see {60 * 8 / 51_759:.1%} of Alpaca."
