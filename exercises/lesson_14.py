"""Checks of lesson 14's exercises."""

import copy

import torch
from torch.nn.functional import logsigmoid

from utils.checks import Hint, call, exercise


@exercise(1, "Give all pairs of better and worse answer to one question.")
def pairs_from_ratings(answer):
    rated = [("a", 3), ("b", 5), ("c", 3), ("d", 1)]
    given = copy.deepcopy(rated)
    got = call(answer, "q", rated)
    if rated != given:
        raise Hint("You changed the list that you were given. Leave it as it is.")
    if not isinstance(got, list) or any(
        not isinstance(r, dict) or set(r) != {"prompt", "chosen", "rejected"} for r in got
    ):
        raise Hint("Give a list of dicts, each with prompt, chosen and rejected, and nothing else.")
    scores = dict(rated)
    if any(
        r["prompt"] != "q" or r["chosen"] not in scores or r["rejected"] not in scores for r in got
    ):
        raise Hint(
            "The prompt and the answers of a pair must be the texts that you were given, not their ratings."
        )
    found = [(r["chosen"], r["rejected"]) for r in got]
    if any(scores[c] < scores[r] for c, r in found):
        raise Hint("In some pair the rejected answer has the higher rating.")
    if any(c == r for c, r in found):
        raise Hint("Some pair holds the same answer twice.")
    if any(scores[c] == scores[r] for c, r in found):
        raise Hint("Two answers with equal ratings make no pair: nobody said which is better.")
    if len(set(found)) < len(found):
        raise Hint("Some pair is there twice.")
    if len(found) < 5:
        raise Hint(
            f"Four answers rated 3, 5, 3, 1 make 5 pairs; you gave {len(found)}. Compare every two, not only the best with the worst."
        )
    for others in ([("x", 1), ("y", 2)], [("x", 2), ("y", 2)], [("x", 7)]):
        number = len(call(answer, "q", others))
        wanted = int(len(others) == 2 and others[0][1] != others[1][1])
        if number != wanted:
            raise Hint(
                f"Right for the first question. For the ratings {[s for _, s in others]} you gave {number} pairs instead of {wanted}."
            )
    return "A question with one answer, as Alpaca has it, makes no pair at all."


@exercise(2, "Give the derivatives of the loss of one pair by its two log-probabilities.")
def gradient(answer):
    cases = [
        (-3.0, -9.0, -4.0, -5.0, 0.1),
        (-20.0, -6.0, -5.0, -8.0, 0.5),
        (-5.0, -60.0, -4.0, -7.0, 2.0),
    ]
    for chosen, rejected, ref_chosen, ref_rejected, beta in cases:
        c, r = (
            torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (chosen, rejected)
        )
        (-logsigmoid(beta * ((c - ref_chosen) - (r - ref_rejected)))).backward()
        got = call(answer, chosen, rejected, ref_chosen, ref_rejected, beta)
        try:
            got = [float(v) for v in got]
        except TypeError:
            raise Hint(
                "Give two numbers: the derivative by the chosen log-probability and the one by the rejected."
            ) from None
        if len(got) != 2:
            raise Hint(f"Give two numbers; you gave {len(got)}.")
        right = [c.grad.item(), r.grad.item()]
        s = abs(right[0]) / beta  # sigma(-margin)
        bare = torch.sigmoid(
            torch.tensor((ref_chosen - chosen) - (ref_rejected - rejected), dtype=torch.float64)
        ).item()
        plain = torch.sigmoid(torch.tensor(-beta * (chosen - rejected), dtype=torch.float64)).item()

        def near(a, b):
            return all(abs(x - y) < 1e-6 * max(1e-6, abs(y)) + 1e-12 for x, y in zip(a, b))

        for value, hint in (
            (
                [right[1], right[0]],
                "The signs are the wrong way round: a more probable chosen answer makes the loss smaller.",
            ),
            (
                [right[0], right[0]],
                "Both have the same sign. What does the rejected one's log-probability do to the margin?",
            ),
            ([-s, s], "Almost: the margin is scaled by beta, so its derivative has a factor beta."),
            (
                [-beta * (1 - s), beta * (1 - s)],
                "You took sigma of the margin. The derivative of -log sigma(m) is -sigma(-m): "
                "a pair that is right already should push little.",
            ),
            (
                [-beta * plain, beta * plain],
                "The reference is missing: the margin is one of log-ratios to the reference.",
            ),
            (
                [-beta * bare, beta * bare],
                "Beta stands inside sigma too: it is part of the margin.",
            ),
            ([-beta, beta], "That would push every pair alike. Differentiate -log sigma as well."),
            ([right[0], 0.0], "The rejected answer's log-probability is in the margin too."),
            (
                [-beta * s * (1 - s), beta * s * (1 - s)],
                "That is the derivative of sigma; the loss has a logarithm around it.",
            ),
        ):
            if near(got, value) and not near(got, right):
                raise Hint(hint)
        if not near(got, right):
            raise Hint(
                f"For log-probabilities {chosen:g}, {rejected:g}, reference {ref_chosen:g}, {ref_rejected:g}, beta {beta:g} you gave "
                f"{got[0]:.4f} and {got[1]:.4f}. Write the loss as -log sigma(m), then apply the chain rule."
            )
    return "Equal and opposite: the loss pulls the two apart and does not care where both go."


RUNS = {
    "healthy": dict(first_loss=0.6931, accuracy=0.84, chosen_change=0.4, rejected_change=-9.0),
    "degenerate": dict(
        first_loss=0.6931, accuracy=0.99, chosen_change=-38.0, rejected_change=-95.0
    ),
    "wrong reference": dict(
        first_loss=0.2210, accuracy=0.90, chosen_change=0.2, rejected_change=-6.0
    ),
    "swapped": dict(first_loss=0.6931, accuracy=0.07, chosen_change=-14.0, rejected_change=3.0),
}
WHY = {
    "healthy": "The chosen answers stayed where they were and the rejected ones fell: nothing is wrong there.",
    "degenerate": "The accuracy is high, but look at the chosen answers: 38 nats below the reference they are hardly ever said.",
    "wrong reference": "Before the first step policy and reference should be one model. What is the loss then?",
    "swapped": "The loss starts right and the rejected answers rose. Where do such pairs come from?",
}


@exercise(3, "Tell the four runs apart.")
def diagnose(answer):
    variants = [(name, dict(run)) for name, run in RUNS.items()]
    variants += [
        (
            "degenerate",
            dict(first_loss=0.6931, accuracy=0.90, chosen_change=-60.0, rejected_change=-71.0),
        ),
        (
            "wrong reference",
            dict(first_loss=1.4402, accuracy=0.60, chosen_change=1.0, rejected_change=-1.0),
        ),
        (
            "healthy",
            dict(first_loss=0.6934, accuracy=0.71, chosen_change=-1.1, rejected_change=-4.0),
        ),
        (
            "swapped",
            dict(first_loss=0.6931, accuracy=0.21, chosen_change=-2.0, rejected_change=1.5),
        ),
    ]
    for name, run in variants:
        got = call(answer, *run.values())
        if got not in RUNS:
            raise Hint(f"Give one of {', '.join(map(repr, RUNS))}; you gave {got!r}.")
        if got != name:
            values = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in run.items())
            why = (
                "That loss is ln 2 but for rounding."
                if (name, got) == ("healthy", "wrong reference")
                else WHY[name]
            )
            raise Hint(f"A run with {values} was called {got!r}. {why}")
    return "Loss at step one, accuracy, and both log-probabilities: look at all of them."
