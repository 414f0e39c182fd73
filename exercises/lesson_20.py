"""Checks of lesson 20's exercises. The clinic's cases are in clinic_cases.py."""

import torch

from utils.checks import compare, exercise

IGNORE = -100


def trained(row):
    return [x for x in row if x != IGNORE]


@exercise(1, "Count the rows that train nothing, and the rows that train but do not end in EOS.")
def rows_at_fault(answer):
    compare(
        answer,
        lambda labels, eos: (
            sum(not trained(row) for row in labels),
            sum(trained(row)[-1] != eos for row in labels if trained(row)),
        ),
        {
            "four rows": (
                [[-100, 5, 6, 2], [-100, 5, 6], [-100, -100, -100], [-100, 9, 2, -100]],
                2,
            ),
            "rows that are padded behind their answer": (
                [[-100, 8, 7, -100, -100], [-100, 8, 4, -100, -100], [-100, 7, 8, 4, -100]],
                7,
            ),
            "rows that train nothing": ([[-100, -100], [-100, -100], [-100, 3]], 3),
            "a healthy batch": ([[-100, 4, 2], [-100, -100, 2], [-100, 2, 2]], 2),
            "EOS in the middle": ([[-100, 2, 5, 6], [-100, 2, 5, -100], [-100, 5, 2, 6]], 2),
        },
        [
            (
                "A row that trains nothing is counted once, as masked, and not among the endless.",
                lambda labels, eos: (
                    sum(not trained(r) for r in labels),
                    sum(not trained(r) or trained(r)[-1] != eos for r in labels),
                ),
            ),
            (
                "The last label of a padded row is -100. Look at the last label that trains.",
                lambda labels, eos: (
                    sum(not trained(r) for r in labels),
                    sum(r[-1] != eos for r in labels if trained(r)),
                ),
            ),
            (
                "EOS must be the last label that trains, and not just somewhere in the row.",
                lambda labels, eos: (
                    sum(not trained(r) for r in labels),
                    sum(eos not in r for r in labels if trained(r)),
                ),
            ),
            (
                "Every row has masked labels, for its prompt. Count rows with nothing but -100.",
                lambda labels, eos: (sum(IGNORE in r for r in labels), ...),
            ),
            (
                "You counted the rows that are in order.",
                lambda labels, eos: (
                    sum(bool(trained(r)) for r in labels),
                    sum(trained(r)[-1] == eos for r in labels if trained(r)),
                ),
            ),
            (
                "Those are labels. Count rows.",
                lambda labels, eos: (sum(r.count(IGNORE) for r in labels), ...),
            ),
            (
                "The id of EOS differs between tokenizers. Use the argument `eos`.",
                lambda labels, eos: (
                    sum(not trained(r) for r in labels),
                    sum(trained(r)[-1] != 2 for r in labels if trained(r)),
                ),
            ),
            (
                "Give two counts, and no shares of the rows.",
                lambda labels, eos: (
                    sum(not trained(r) for r in labels) / len(labels),
                    sum(trained(r)[-1] != eos for r in labels if trained(r)) / len(labels),
                ),
            ),
        ],
        names=("masked", "endless"),
    )
    return "Two counts before training exclude two of the commonest broken runs."


@exercise(2, "Give how many times the adapter's change is in the weight that was found.")
def times_merged(answer):
    base = torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
    delta = torch.tensor([[0.1, 0.0, -0.2], [0.3, -0.1, 0.4]])
    balanced = torch.tensor([[0.5, -0.5], [0.25, -0.25]])  # its elements add up to 0
    square = torch.tensor([[2.0, 1.0], [0.0, -1.0]])

    def right(base, delta, found):
        return ((found - base) * delta).sum().item() / (delta**2).sum().item()

    compare(
        answer,
        right,
        {
            "a weight that was merged twice": (base, delta, base + 2 * delta),
            "a weight that was merged once": (base, delta, base + delta),
            "a weight where nothing was merged": (base, delta, base.clone()),
            "an adapter scaled by a half": (square, balanced, square + 0.5 * balanced),
            "an adapter that was taken away": (base, delta, base - delta),
        },
        [
            (
                "Take the base away first. What was added is found - base.",
                lambda b, d, f: (f * d).sum() / (d**2).sum(),
            ),
            (
                "An element of the change may be 0, so dividing element by element gives nan. "
                "Add up first, then divide.",
                lambda b, d, f: ((f - b) / d).mean(),
            ),
            (
                "The elements of a change can cancel when they are added up. Compare lengths, "
                "or multiply with the change before adding.",
                lambda b, d, f: (f - b).sum() / d.sum(),
            ),
            (
                "A length has no sign. An adapter that was taken away should give -1.",
                lambda b, d, f: (f - b).norm() / d.norm(),
            ),
            (
                "That is the square of it.",
                lambda b, d, f: ((f - b) ** 2).sum() / (d**2).sum(),
            ),
            (
                "That is upside down.",
                lambda b, d, f: (d**2).sum() / ((f - b) * d).sum(),
                lambda b, d, f: d.norm() / (f - b).norm(),
            ),
            (
                "Divide by the size of the change too.",
                lambda b, d, f: ((f - b) * d).sum(),
            ),
            (
                "You compared with the base's own size. Compare with the change.",
                lambda b, d, f: ((f - b) * d).sum() / (b**2).sum(),
                lambda b, d, f: (f - b).norm() / b.norm(),
            ),
            (
                "Do not round: an adapter may have been added with another scale.",
                lambda b, d, f: round(right(b, d, f)),
            ),
        ],
        form="one number",
    )
    return "2 means merged twice, 0 not at all, and a fraction means another scale."
