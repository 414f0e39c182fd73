"""Checks of lesson 14's exercises."""

import math
from unittest import mock

import torch

from utils.checks import Hint, call, compare, exercise, sequence, show


@exercise(1, "Give all pairs of better and worse answer to one question.")
def pairs_from_ratings(answer):
    keys = ("prompt", "chosen", "rejected")
    questions = (
        ("q", [("a", 3), ("b", 5), ("c", 3), ("d", 1)]),
        ("Why?", [("x", 1), ("y", 2)]),
        ("Who?", [("x", 2), ("y", 2)]),
        ("How?", [("x", 7)]),
        ("When?", [("no", -1.5), ("yes", 0.5), ("perhaps", 0.0)]),
        ("Where?", []),
    )
    for place, (prompt, rated) in enumerate(questions):
        got = call(answer, prompt, [tuple(r) for r in rated])
        if isinstance(got, dict) and set(got) == set(keys):  # columns, as datasets keep them
            got = [dict(zip(keys, row)) for row in zip(*(got[key] for key in keys))]
        got = sequence(got, form="a list of dicts, each with prompt, chosen and rejected")
        if any(not isinstance(r, dict) or set(r) != set(keys) for r in got):
            raise Hint(
                "Give a list of dicts, each with prompt, chosen and rejected, and nothing else."
            )
        scores = dict(rated)
        texts = [r[key] for r in got for key in keys]
        if any(
            isinstance(t, str) and t not in (*scores, prompt) and t.strip() in (*scores, prompt)
            for t in texts
        ):
            raise Hint("You added white space to a text. Give the texts as they came.")
        if any(not isinstance(t, str) for t in texts) or any(
            r["chosen"] not in scores or r["rejected"] not in scores for r in got
        ):
            raise Hint(
                "The answers of a pair must be the texts that you were given, not their ratings."
            )
        if any(r["prompt"] != prompt for r in got):
            raise Hint("The prompt of each pair is the prompt that you were given.")
        found = [(r["chosen"], r["rejected"]) for r in got]
        if any(c == r for c, r in found):
            raise Hint("Some pair holds the same answer twice.")
        if any(scores[c] == scores[r] for c, r in found):
            raise Hint("Two answers with equal ratings make no pair: nobody said which is better.")
        if any(scores[c] < scores[r] for c, r in found):
            raise Hint("In some pair the rejected answer has the higher rating.")
        if len(set(found)) < len(found):
            raise Hint("Some pair is there twice.")
        wanted = {(a, b) for a, s in rated for b, t in rated if s > t}
        if missing := sorted(wanted - set(found)):
            better, worse = missing[0]
            start = "" if place == 0 else "Right for the first question, wrong for another. "
            raise Hint(
                f"{start}The answers {show(rated)} make {len(wanted)} pairs; you gave "
                f"{len(found)}. "
                f"Compare every two: {better!r} is better than {worse!r}."
            )
    return "A question with one answer, as Alpaca has it, makes no pair at all."


def _sigma(x):
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def _gradient(sign=(-1, 1), slope=lambda m, beta: beta * _sigma(-m), margin=None):
    """The derivatives: `slope` from the scaled margin and beta, `margin` from c, r, rc, rr."""

    def of(c, r, rc, rr, beta):
        m = (margin or (lambda c, r, rc, rr: (c - rc) - (r - rr)))(c, r, rc, rr)
        size = slope(beta * m, beta)
        return tuple(s * size for s in sign)

    return of


@exercise(2, "Give the derivatives of the loss of one pair by its two log-probabilities.")
def gradient(answer):
    def refuse(*arguments, **settings):
        raise Hint("The task is without autograd: write the derivative down, by the chain rule.")

    patches = ("torch.Tensor.backward", "torch.autograd.backward", "torch.autograd.grad")
    with (
        mock.patch(patches[0], refuse),
        mock.patch(patches[1], refuse),
        mock.patch(patches[2], refuse),
    ):
        _judge_gradient(answer)
    return "Equal and opposite: the loss pulls the two apart and does not care where both go."


def _judge_gradient(answer):
    compare(
        answer,
        _gradient(),
        [
            (-3.0, -9.0, -4.0, -5.0, 0.1),
            (-20.0, -6.0, -5.0, -8.0, 0.5),
            (-5.0, -60.0, -4.0, -7.0, 2.0),
            (-6.0, -7.0, -6.5, -6.5, 1.5),
            (-8.0, -8.0, -8.0, -8.0, 0.1),
        ],
        [
            (
                "The signs are the wrong way round: a more probable chosen answer makes the "
                "loss smaller.",
                _gradient((1, -1)),
            ),
            (
                "Both have the same sign. What does the rejected one's log-probability do to "
                "the margin?",
                _gradient((-1, -1)),
                _gradient((1, 1)),
            ),
            (
                "Almost: the margin is scaled by beta, so its derivative has a factor beta.",
                _gradient(slope=lambda m, beta: _sigma(-m)),
            ),
            (
                "You took sigma of the margin. The derivative of -log sigma(m) is -sigma(-m): a "
                "pair that is right already should push little.",
                _gradient(slope=lambda m, beta: beta * _sigma(m)),
            ),
            (
                "The reference is missing: the margin is one of log-ratios to the reference.",
                _gradient(margin=lambda c, r, rc, rr: c - r),
            ),
            (
                "Your margin is that of the reference alone. It is one of the policy's "
                "log-ratios to it.",
                _gradient(margin=lambda c, r, rc, rr: rc - rr),
            ),
            (
                "The reference has the wrong sign in your margin: it is taken off.",
                _gradient(margin=lambda c, r, rc, rr: (c + rc) - (r + rr)),
            ),
            (
                "The margin is the chosen log-ratio minus the rejected one; you added them.",
                _gradient(margin=lambda c, r, rc, rr: (c - rc) + (r - rr)),
            ),
            (
                "Beta stands inside sigma too: it is part of the margin.",
                _gradient(slope=lambda m, beta: beta * _sigma(-m / beta)),
            ),
            (
                "That would push every pair alike. Differentiate -log sigma as well.",
                _gradient(slope=lambda m, beta: beta),
            ),
            ("The rejected answer's log-probability is in the margin too.", _gradient((-1, 0))),
            ("The chosen answer's log-probability is in the margin too.", _gradient((0, 1))),
            (
                "That is the derivative of sigma; the loss has a logarithm around it.",
                _gradient(slope=lambda m, beta: beta * _sigma(m) * _sigma(-m)),
                _gradient((1, -1), slope=lambda m, beta: beta * _sigma(m) * _sigma(-m)),
            ),
            (
                "That is the loss, not its derivatives.",
                _gradient((1, 1), slope=lambda m, beta: -math.log(_sigma(m))),
            ),
            (
                "Beta came in twice. The margin has it once.",
                _gradient(slope=lambda m, beta: beta**2 * _sigma(-m)),
            ),
            (
                "You divided by beta. The margin is multiplied by it.",
                _gradient(slope=lambda m, beta: _sigma(-m) / beta),
            ),
        ],
        form="two numbers, the derivatives by chosen and by rejected",
        names=("chosen", "rejected"),
        advice="Write the loss as -log sigma(m), then apply the chain rule.",
    )


RUNS = {
    "healthy": (0.6931, 0.84, 0.4, -9.0),
    "degenerate": (0.6931, 0.99, -38.0, -95.0),
    "wrong reference": (0.2210, 0.90, 0.2, -6.0),
    "swapped": (0.6931, 0.07, -14.0, 3.0),
    "degenerate, with a lower accuracy": (0.6931, 0.90, -60.0, -71.0),
    "wrong reference, with a high loss": (1.4402, 0.60, 1.0, -1.0),
    "healthy, with a small fall": (0.6934, 0.71, -1.1, -4.0),
    "swapped, with little change": (0.6931, 0.21, -2.0, 1.5),
    "wrong reference, with a high accuracy": (0.3105, 0.97, -2.5, -12.0),
    "healthy, with a high accuracy": (0.6931, 0.98, 2.0, -15.0),
}
WHY = {
    "healthy": (
        "The chosen answers stayed about where they were and the rejected ones fell: nothing is "
        "wrong there."
    ),
    "degenerate": (
        "The accuracy is high, but look at the chosen answers: tens of nats below the reference "
        "they are hardly ever said."
    ),
    "wrong reference": "Before the first step policy and reference should be one model. "
    "What is the loss then?",
    "swapped": "The loss starts right and the rejected answers rose. "
    "Where do such pairs come from?",
}


@exercise(3, "Tell the four runs apart.")
def diagnose(answer):
    names = list(WHY)
    given = []
    for told, run in RUNS.items():
        name = told.split(",")[0]
        got = call(answer, *run)
        if not isinstance(got, str) or got not in names:
            raise Hint(f"Give one of {', '.join(map(repr, names))}; you gave {show(got)}.")
        given.append((name, run, got))
    if len({got for *_, got in given}) == 1:
        raise Hint(
            f"You call all of {len(given)} different runs {given[0][2]!r}. Look at the four "
            f"numbers."
        )
    for name, run, got in given:
        if got != name:
            values = ", ".join(
                f"{word} {value:g}"
                for word, value in zip(
                    ("first loss", "accuracy", "chosen change", "rejected change"), run
                )
            )
            why = WHY[name]
            if (name, got) == ("healthy", "wrong reference"):
                why = "That loss is ln 2 but for rounding."
            raise Hint(f"A run with {values} was called {got!r}. {why}")
    return "Loss at step one, accuracy, and both log-probabilities: look at all of them."
