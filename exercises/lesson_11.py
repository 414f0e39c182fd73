"""Checks of lesson 11's exercises."""

import statistics

from utils.checks import compare, exercise

WIDE = (0.52, 0.93, 0.71, 0.34, 0.83)  # seeds that differ far more than the methods do
SHAPE = (-1.0, -0.4, 0.1, 0.3, 1.0)  # five differences with the mean 0


def _scores(t, spread=0.01, base=WIDE):
    """(a, b) whose five differences have the given mean over standard error."""
    b = [round(s, 6) for s in base]
    gaps = [spread * (t / 5**0.5 + z / statistics.stdev(SHAPE)) for z in SHAPE]
    return [round(s + gap, 6) for s, gap in zip(b, gaps)], b


def _interval(a, b, factor=2.776, n=None, spread=statistics.stdev):
    """(mean, half width) of the differences."""
    gaps = [x - y for x, y in zip(a, b)]
    return statistics.fmean(gaps), factor * spread(gaps) / (n or len(gaps)) ** 0.5


def _decide(**how):
    """The decision by an interval of the differences, or a mistake in it."""

    def decide(a, b):
        mean, half = _interval(a, b, **how)
        return "a" if mean > half else "b" if -mean > half else "undecided"

    return decide


def _named(mean):
    return "a" if mean > 0 else "b" if mean < 0 else "undecided"


def _unpaired(a, b):
    gap = statistics.fmean(a) - statistics.fmean(b)
    half = 2.776 * (statistics.variance(a) / 5 + statistics.variance(b) / 5) ** 0.5
    return "a" if gap > half else "b" if -gap > half else "undecided"


def _apart(a, b):
    """Whether the two methods' own intervals or ranges overlap."""
    half = [2.776 * statistics.stdev(s) / 5**0.5 for s in (a, b)]
    gap = statistics.fmean(a) - statistics.fmean(b)
    return "a" if gap > sum(half) else "b" if -gap > sum(half) else "undecided"


def _no_overlap(a, b):
    """Whether the ranges of the two methods' scores are apart."""
    return "a" if min(a) > max(b) else "b" if min(b) > max(a) else "undecided"


def _pairs():
    """{what is special about it: (scores of a, scores of b)}."""
    cases = {
        "the clear case, a far above b": (
            [0.91, 0.93, 0.92, 0.94, 0.95],
            [0.81, 0.84, 0.80, 0.85, 0.84],
        ),
        "the clear case, b far above a": (
            [0.61, 0.60, 0.62, 0.59, 0.60],
            [0.70, 0.71, 0.69, 0.70, 0.72],
        ),
        "scores that lie all over the place": (
            [0.98, 0.60, 0.79, 0.97, 0.70],
            [0.70, 0.75, 0.80, 0.72, 0.74],
        ),
        "seeds that differ widely while a is always a little better": (
            [0.52, 0.93, 0.71, 0.34, 0.83],
            [0.50, 0.90, 0.68, 0.32, 0.80],
        ),
        "four clear wins and one clear loss": (
            [0.80, 0.80, 0.80, 0.80, 0.50],
            [0.70, 0.70, 0.70, 0.70, 0.80],
        ),
        "five wins, four small and one large": (
            [0.51, 0.61, 0.71, 0.81, 0.92],
            [0.50, 0.60, 0.70, 0.80, 0.72],
        ),
        "a best seed that beats all others, and four worse ones": (
            [0.95, 0.50, 0.50, 0.50, 0.50],
            [0.80, 0.70, 0.60, 0.60, 0.60],
        ),
        "a difference that is 5.5 standard errors, with b ahead": _scores(-5.5),
        "a small difference that is the same for every seed but for the last digit": _scores(
            30.0, 1e-4
        ),
        "scores that are equal seed by seed": ([0.75] * 5, [0.75] * 5),
    }
    # on both sides of what wrong quantiles, n and spreads would decide; 2.776 is the bar
    for t in (1.6, 1.8, 1.93, 2.05, 2.2, 2.4, 2.53, 2.7, 2.81, 2.9, 3.15, 4.0, 5.9, 7.0):
        text = f"a difference that is {t} standard errors"
        cases |= {text: _scores(t), f"{text}, a and b exchanged": _scores(t)[::-1]}
    return cases


@exercise(1, 'Give "a", "b" or "undecided", seed by seed.')
def decide_winner(answer):
    compare(
        answer,
        _decide(),
        _pairs(),
        [
            (
                "You compare the means alone, or the medians. How sure are they with five seeds?",
                lambda a, b: _named(sum(a) - sum(b)),
                lambda a, b: "a" if sum(a) > sum(b) else "b",
            ),
            (
                "You count who wins more seeds. How large the wins are, and how much they "
                "differ, matters too.",
                lambda a, b: _named(sum((x > y) - (x < y) for x, y in zip(a, b))),
                lambda a, b: "a" if sum(x > y for x, y in zip(a, b)) > 2 else "b",
            ),
            (
                "You decide where all five seeds agree. Four small wins and a large one say "
                "less than five equal ones: take the interval of the differences.",
                lambda a, b: (
                    "a"
                    if all(x > y for x, y in zip(a, b))
                    else "b"
                    if all(x < y for x, y in zip(a, b))
                    else "undecided"
                ),
            ),
            (
                "You compare the best seeds. One lucky seed decides then.",
                lambda a, b: _named(max(a) - max(b)),
            ),
            (
                "You compare the spreads of the two methods. Seeds differ widely for both: look "
                "at the five differences, seed by seed.",
                _unpaired,
                _no_overlap,
                _apart,
                lambda a, b: (
                    _named(statistics.fmean(a) - statistics.fmean(b))
                    if abs(statistics.fmean(a) - statistics.fmean(b))
                    > statistics.stdev(a) + statistics.stdev(b)
                    else "undecided"
                ),
            ),
            (
                "Your quantile is near 2, which holds for many seeds. With five differences it "
                "is 2.776.",
                _decide(factor=1.96),
                _decide(factor=2.0),
                _decide(factor=1.96, spread=statistics.pstdev),
            ),
            (
                "Your quantile is that of six differences, 2.571. With five it is 2.776.",
                _decide(factor=2.571),
            ),
            (
                "Your quantile is that of four differences, 3.182. With five it is 2.776.",
                _decide(factor=3.182),
            ),
            (
                "Your quantile is that of one side, 2.132. For an interval at 95 % it is 2.776.",
                _decide(factor=2.132),
            ),
            (
                "Your interval is one standard error wide on each side. At 95 % it is 2.776 of "
                "them.",
                _decide(factor=1.0),
            ),
            (
                "Your interval is twice as wide as it should be: 2.776 standard errors lie on each "
                "side of the mean.",
                _decide(factor=2 * 2.776),
            ),
            (
                "The square root of 5 is missing: the mean of five differences spreads less "
                "than one of them.",
                _decide(n=1),
            ),
            (
                "You divided by 5. The spread of a mean of five shrinks by the square root of 5.",
                _decide(n=25),
            ),
            (
                "You divided by the square root of 4. The mean is one of five differences.",
                _decide(n=4),
            ),
            (
                "Your standard deviation divides by 5. That of a sample divides by 4 "
                "(statistics.stdev).",
                _decide(spread=statistics.pstdev),
            ),
            (
                "You took the variance for the standard deviation. The standard deviation is "
                "its root.",
                _decide(spread=statistics.variance),
            ),
            (
                "The signs are the wrong way round: a higher score wins.",
                lambda a, b: {"a": "b", "b": "a"}.get(_decide()(a, b), "undecided"),
            ),
            (
                "You never find b the winner. Look at both sides of zero.",
                lambda a, b: "a" if _decide()(a, b) == "a" else "undecided",
            ),
            (
                "You decide nothing is undecided between equals: where all differences are 0, "
                "nothing is decided.",
                lambda a, b: "a" if a == b else _decide()(a, b),
                lambda a, b: "b" if a == b else _decide()(a, b),
            ),
        ],
        options=("a", "b", "undecided"),
        form='one of the texts "a", "b" and "undecided"',
        advice=(
            "Take the mean of the five differences, plus and minus 2.776 times their standard "
            "deviation over the square root of 5."
        ),
    )
    return "The fourth case shows why we pair: the seeds differ by more than the methods do."


@exercise(2, "Give both numbers of bytes, for any number of tasks.")
def count_storage(answer):
    compare(
        answer,
        lambda base, adapter, tasks: (tasks * base, base + tasks * adapter),
        [(14_500, 84, 3), (14_500, 84, 50), (1_000, 30, 1), (400, 200, 4)],
        [
            (
                "Full tuning changes the base itself, so each task has a whole model of its own.",
                lambda b, a, t: (b, ...),
                lambda b, a, t: (b + t * a, ...),
            ),
            (
                "Full tuning needs no separate base besides the tuned models.",
                lambda b, a, t: (b + t * b, ...),
            ),
            ("A fully tuned model has no adapter.", lambda b, a, t: (t * (a + b), ...)),
            (
                "An adapter is a difference: without the base it does nothing. Where is the base?",
                lambda b, a, t: (..., t * a),
            ),
            ("All adapters share one base; it is held once.", lambda b, a, t: (..., t * (a + b))),
            (
                "Each task has an adapter of its own.",
                lambda b, a, t: (..., a + b),
                lambda b, a, t: (..., a),
            ),
            (
                "Tasks add up, they do not multiply each other: one adapter for each.",
                lambda b, a, t: (..., b + t * t * a),
                lambda b, a, t: (..., b + a**t),
            ),
            (
                "The base alone answers no task. The adapters have to be stored, too.",
                lambda b, a, t: (..., b),
            ),
            (
                "One adapter is missing: the base is not the model of the first task.",
                lambda b, a, t: (..., b + (t - 1) * a),
            ),
            (
                "You count the base and then all tasks but one. Each task has a model of its own.",
                lambda b, a, t: ((t - 1) * b, ...),
            ),
            (
                "Three tasks are written into your code. Use `tasks`.",
                lambda b, a, t: (3 * b, ...),
                lambda b, a, t: (..., b + 3 * a),
            ),
        ],
        form="two numbers of bytes, (full tuning, adapters)",
        names=("full tuning", "adapters"),
        advice="Draw the files that lie on the disk.",
    )
    return f"With fifty tasks: {50 * 14_500 / (14_500 + 50 * 84):.0f} times less here."


def _runs(table):
    """{lr: [(validation, test), one per seed]} -> runs, the seeds together."""
    rows = [
        {"lr": lr, "seed": seed, "validation": validation, "test": test}
        for lr, seeds in table.items()
        for seed, (validation, test) in enumerate(seeds)
    ]
    return sorted(rows, key=lambda r: r["seed"])


def _searches():
    """{what is special about it: (runs,)}."""
    steady = [(0.90, 0.86), (0.91, 0.88), (0.89, 0.87), (0.92, 0.83), (0.90, 0.89)]
    lucky = [(0.70, 0.71), (0.95, 0.97), (0.72, 0.74), (0.69, 0.96), (0.71, 0.99)]
    return {
        "a steady rate and a lucky one": (_runs({1e-2: lucky, 1e-3: steady}),),
        "the same runs in another order": (_runs({1e-3: steady, 1e-2: lucky})[::-1],),
        "three other rates and three seeds": (
            _runs(
                {
                    5.0: [(0.3, 0.9), (0.4, 0.8), (0.5, 0.95)],
                    7.0: [(0.6, 0.5), (0.9, 0.7), (0.7, 0.66)],
                    6.0: [(0.65, 0.85), (0.7, 0.9), (0.72, 0.97)],
                }
            ),
        ),
        "a rate with more seeds than the other": (
            _runs(
                {
                    0.1: [(0.6, 0.61), (0.62, 0.58), (0.58, 0.66), (0.6, 0.5)],
                    0.2: [(0.8, 0.7), (0.9, 0.79)],
                }
            ),
        ),
        "a rate of which one seed failed": (
            _runs(
                {
                    0.1: [(0.9, 0.91), (0.9, 0.93), (0.1, 0.05)],
                    0.2: [(0.8, 0.77), (0.81, 0.78), (0.79, 0.82)],
                }
            ),
        ),
        "a rate with the worst seed and the better mean": (
            _runs(
                {
                    0.1: [(0.7, 0.72), (0.7, 0.66), (0.7, 0.73)],
                    0.2: [(0.5, 0.55), (0.9, 0.86), (0.9, 0.84)],
                }
            ),
        ),
        "one rate and one seed": (_runs({0.3: [(0.5, 0.4)]}),),
    }


def _report(choose=("validation", statistics.fmean), tell=("test", statistics.fmean)):
    """Choose a rate by (column, how to sum up) and tell another column of it."""

    def report(runs):
        def of(lr, column, how):
            return how([r[column] for r in runs if r["lr"] == lr])

        return of(max(dict.fromkeys(r["lr"] for r in runs), key=lambda lr: of(lr, *choose)), *tell)

    return report


@exercise(3, "Give the mean test score over the seeds, at the rate that validation rows choose.")
def report_honestly(answer):
    mean, median = statistics.fmean, statistics.median

    def luckiest(column):
        return lambda runs: max(runs, key=lambda r: r[column])

    compare(
        answer,
        _report(),
        _searches(),
        [
            (
                "That is the luckiest of all runs. Report the mean of its rate's seeds, chosen "
                "without the test rows.",
                lambda runs: luckiest("test")(runs)["test"],
            ),
            (
                "You chose the rate by the test score. Choose by the mean validation score.",
                _report(("test", mean)),
                _report(("test", max)),
                _report(("test", mean), ("test", max)),
            ),
            (
                "The rate is right. Its best seed is luck: report the mean over its seeds.",
                _report(tell=("test", max)),
            ),
            (
                "The rate is right. You reported its worst seed: report the mean over its seeds.",
                _report(tell=("test", min)),
            ),
            (
                "The rate is right. The exercise asks for the mean, not the median.",
                _report(tell=("test", median)),
            ),
            (
                "You chose the rate by the median. The exercise asks for the best mean "
                "validation score.",
                _report(("validation", median)),
                _report(("validation", median), ("test", median)),
            ),
            (
                "You chose the rate by its worst seed. The exercise asks for the best mean "
                "validation score.",
                _report(("validation", min)),
            ),
            (
                "You took the one run with the best validation score. One lucky seed decides "
                "then; average over the seeds first.",
                lambda runs: luckiest("validation")(runs)["test"],
            ),
            (
                "A single lucky validation score chose the rate. Take the mean validation score "
                "of each rate.",
                _report(("validation", max)),
                _report(("validation", max), ("test", max)),
            ),
            (
                "You added the validation scores up, so the rate with more seeds wins. Take the "
                "mean.",
                _report(("validation", sum)),
                _report(("validation", sum), ("test", sum)),
            ),
            ("That is the sum of the test scores. Report the mean.", _report(tell=("test", sum))),
            (
                "The rate is right, but these rows chose it, so they flatter it. Report the "
                "test score.",
                _report(tell=("validation", mean)),
                _report(tell=("validation", max)),
            ),
            (
                "That is the mean over all rates. Only the chosen rate is reported.",
                lambda runs: mean(r["test"] for r in runs),
            ),
            (
                "That is the chosen rate itself. Report its mean test score.",
                _report(tell=("lr", max)),
            ),
            (
                "You divided by 5. There may be more or fewer seeds.",
                lambda runs: _report(tell=("test", sum))(runs) / 5,
            ),
            (
                "You looked at one seed only. Report the mean over the seeds.",
                _report(tell=("test", lambda v: v[0])),
                lambda runs: _report()([r for r in runs if r["seed"] == 0]),
            ),
        ],
        form="one number, the mean test score",
        advice="First choose the rate by its mean validation score, then average its test scores.",
    )
    return (
        "The lucky rate's best seed scores 0.99; its mean is lower, and the validation rows say "
        "so in advance."
    )
