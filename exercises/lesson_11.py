"""Checks of lesson 11's exercises."""

import statistics

from utils.checks import Hint, call, exercise

# (scores of a, scores of b, what they decide)
CASES = [
    ([0.91, 0.93, 0.92, 0.94, 0.95], [0.81, 0.84, 0.80, 0.85, 0.84], "a"),
    ([0.61, 0.60, 0.62, 0.59, 0.60], [0.70, 0.71, 0.69, 0.70, 0.72], "b"),
    ([0.98, 0.60, 0.79, 0.97, 0.70], [0.70, 0.75, 0.80, 0.72, 0.74], "undecided"),
    # seed by seed always a little better, though the seeds themselves differ widely
    ([0.52, 0.93, 0.71, 0.34, 0.83], [0.50, 0.90, 0.68, 0.32, 0.80], "a"),
    # four clear wins and one clear loss
    ([0.80, 0.80, 0.80, 0.80, 0.50], [0.70, 0.70, 0.70, 0.70, 0.80], "undecided"),
]


@exercise(1, 'Give "a", "b" or "undecided", seed by seed.')
def decide_winner(answer):
    got = [call(answer, list(a), list(b)) for a, b, _ in CASES]
    right = [r for _, _, r in CASES]
    if got == right:
        if call(answer, [1.0] * 5, [1.0] * 5) != "undecided":
            raise Hint(
                "Right so far. And two methods with exactly equal scores? Nothing is decided there."
            )
        return "The fourth case shows why we pair: the seeds differ by more than the methods do."
    for bad in got:
        if bad not in ("a", "b", "undecided"):
            raise Hint(f'You gave {bad!r}; the answers are "a", "b" and "undecided".')
    means = ["a" if statistics.mean(a) > statistics.mean(b) else "b" for a, b, _ in CASES]
    most = ["a" if sum(x > y for x, y in zip(a, b)) > 2 else "b" for a, b, _ in CASES]
    if got == means:
        raise Hint("You compare the means alone. How sure are they with five seeds?")
    if got == most:
        raise Hint(
            "You count who wins more seeds. How large the wins are, and how much they differ, matters too."
        )
    if got[3] == "undecided":
        raise Hint(
            "The fourth case is decided: look at the five differences, not at the spread of each method."
        )
    if got == [{"a": "b", "b": "a"}.get(r, r) for r in right]:
        raise Hint("The signs are the wrong way round: a higher score wins.")
    if got[2] != "undecided" or got[4] != "undecided":
        raise Hint(
            "You decide a case that five seeds leave open. The quantile is 2.776 and the spread is divided by the square root of 5; "
            "did you use both?"
        )
    wrong = next(i for i, (g, r) in enumerate(zip(got, right)) if g != r)
    raise Hint(
        f"Case {wrong + 1} comes out as {got[wrong]}. Compute the interval of its differences with `interval` and look where it lies."
    )


@exercise(2, "Give both numbers of bytes, for any number of tasks.")
def count_storage(answer):
    base, adapter = 14_500, 84
    got = call(answer, base, adapter, 3)
    if not (isinstance(got, (tuple, list)) and len(got) == 2):
        raise Hint(f"Give two numbers: (full tuning, adapters). You gave {got!r}.")
    full, peft = got
    right = (3 * base, base + 3 * adapter)
    if full == right[1] and peft == right[0]:
        raise Hint("The two are swapped: full tuning first.")
    if full == base:
        raise Hint(
            "Full tuning changes the base itself, so each task has a whole model of its own."
        )
    if full == 4 * base:
        raise Hint("Full tuning needs no separate base besides the tuned models.")
    if peft == 3 * adapter:
        raise Hint(
            "An adapter is a difference: without the base it does nothing. Where is the base?"
        )
    if peft == 3 * (base + adapter):
        raise Hint("All adapters share one base; it is held once.")
    if peft == base + adapter:
        raise Hint("Each task has an adapter of its own.")
    if tuple(got) != right:
        raise Hint(
            f"For a base of {base}, adapters of {adapter} and 3 tasks you gave {got}. Draw the files that lie on the disk."
        )
    if tuple(call(answer, base, adapter, 50)) != (50 * base, base + 50 * adapter):
        raise Hint("Right for three tasks, wrong for fifty.")
    return f"With fifty tasks: {50 * base / (base + 50 * adapter):.0f} times less here."


def _runs():
    """Two rates and five seeds: the lower rate is better on validation rows, one lucky seed of the other has the best test score."""
    good = [
        (1e-3, s, v, t)
        for s, (v, t) in enumerate(
            [(0.90, 0.86), (0.91, 0.88), (0.89, 0.87), (0.92, 0.85), (0.90, 0.89)]
        )
    ]
    lucky = [
        (1e-2, s, v, t)
        for s, (v, t) in enumerate(
            [(0.70, 0.71), (0.95, 0.97), (0.72, 0.74), (0.69, 0.96), (0.71, 0.99)]
        )
    ]
    return [{"lr": lr, "seed": s, "validation": v, "test": t} for lr, s, v, t in lucky + good]


@exercise(3, "Give the mean test score over the seeds, at the rate that validation rows choose.")
def report_honestly(answer):
    runs = _runs()

    def of(lr, column):
        return [r[column] for r in runs if r["lr"] == lr]

    got, right = call(answer, [dict(r) for r in runs]), statistics.mean(of(1e-3, "test"))
    if not isinstance(got, (int, float)):
        raise Hint(f"Give one number; you gave {got!r}.")
    for value, hint in (
        (
            max(r["test"] for r in runs),
            "That is the luckiest of all runs. Report the mean of its rate's seeds, chosen without the test rows.",
        ),
        (
            statistics.mean(of(1e-2, "test")),
            "You chose the rate by the test score, or by a single lucky validation score. "
            "Take the mean validation score of each rate.",
        ),
        (
            max(of(1e-3, "test")),
            "The rate is right. Its best seed is luck: report the mean over its seeds.",
        ),
        (
            max(runs, key=lambda r: r["validation"])["test"],
            "You took the one run with the best validation score. One lucky seed decides "
            "then; average over the seeds first.",
        ),
        (
            statistics.mean(of(1e-3, "validation")),
            "The rate is right, but these rows chose it, so they flatter it. Report the test score.",
        ),
        (
            statistics.mean(r["test"] for r in runs),
            "That is the mean over both rates. Only the chosen rate is reported.",
        ),
        (
            statistics.median(of(1e-3, "test"))
            if statistics.median(of(1e-3, "test")) != right
            else None,
            "The rate is right. The exercise asks for the mean, not the median.",
        ),
    ):
        if value is not None and abs(got - value) < 1e-9:
            raise Hint(hint)
    if abs(got - right) > 1e-9:
        raise Hint(
            f"You gave {got:.4f}. First choose the rate by its mean validation score, then average its test scores."
        )
    other = [
        {**r, "lr": {1e-2: 5.0, 1e-3: 7.0}[r["lr"]], "test": r["test"] / 2}
        for r in runs
        if r["seed"] < 3
    ]
    if (
        abs(call(answer, other) - statistics.mean(r["test"] for r in other if r["lr"] == 7.0))
        > 1e-9
    ):
        raise Hint(
            "Right for these runs, wrong for others: with other rates, or with three seeds. Is a rate or a count written into your code?"
        )
    return "The lucky rate's best seed scores 0.99; its mean is lower, and the validation rows say so in advance."
