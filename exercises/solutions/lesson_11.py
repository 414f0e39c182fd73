"""Solutions and plausible mistakes of lesson 11's exercises."""

import statistics

import numpy as np


def decide(a, b):
    d = [x - y for x, y in zip(a, b)]
    mean, half = statistics.mean(d), 2.776 * statistics.stdev(d) / 5**0.5
    return "a" if mean - half > 0 else "b" if mean + half < 0 else "undecided"


def in_numpy(a, b):
    d = np.array(a) - np.array(b)
    half = 2.776 * d.std(ddof=1) / np.sqrt(len(d))
    return "a" if d.mean() > half else "b" if d.mean() < -half else "undecided"


def by(width):
    """A decision by the mean difference against a width that the differences give."""

    def answer(a, b):
        d = [x - y for x, y in zip(a, b)]
        m, half = statistics.mean(d), width(d)
        return "a" if m > half else "b" if -m > half else "undecided"

    return answer


def agree(a, b):
    if all(x > y for x, y in zip(a, b)):
        return "a"
    return "b" if all(x < y for x, y in zip(a, b)) else "undecided"


def t_value(a, b):
    d = [x - y for x, y in zip(a, b)]
    t = statistics.mean(d) / (statistics.stdev(d) / 5**0.5)
    return "a" if t > 2.776 else "b" if t < -2.776 else "undecided"


def spreads(a, b):
    gap = statistics.mean(a) - statistics.mean(b)
    s = statistics.stdev(a) + statistics.stdev(b)
    return "a" if gap > s else "b" if -gap > s else "undecided"


def report(runs):
    def mean(lr, column):
        return statistics.mean(r[column] for r in runs if r["lr"] == lr)

    best = max({r["lr"] for r in runs}, key=lambda lr: mean(lr, "validation"))
    return mean(best, "test")


def reported(choose=("validation", statistics.mean), tell=("test", statistics.mean)):
    def answer(runs):
        groups = {}
        for r in runs:
            groups.setdefault(r["lr"], []).append(r)
        best = max(groups.values(), key=lambda g: choose[1]([r[choose[0]] for r in g]))
        return tell[1]([r[tell[0]] for r in best])

    return answer


def one_rate(runs):
    return statistics.mean(r["test"] for r in runs if r["lr"] == 1e-3)


ST = statistics.stdev
SOLUTIONS = {
    "decide_winner": [decide, in_numpy],
    "count_storage": lambda base, adapter, tasks: (tasks * base, base + tasks * adapter),
    "report_honestly": [report, reported()],
}

MISTAKES = {
    "decide_winner": [
        ("means", lambda a, b: "a" if sum(a) > sum(b) else "b", "means alone"),
        (
            "majority",
            lambda a, b: "a" if sum(x > y for x, y in zip(a, b)) > 2 else "b",
            "wins more seeds",
        ),
        ("all agree", agree, "all five seeds agree"),
        ("spreads", spreads, "seed by seed"),
        ("1.96", by(lambda d: 1.96 * ST(d) / 5**0.5), "near 2, which"),
        ("2.571", by(lambda d: 2.571 * ST(d) / 5**0.5), "2.571"),
        ("3.182", by(lambda d: 3.182 * ST(d) / 5**0.5), "3.182"),
        ("2.132", by(lambda d: 2.132 * ST(d) / 5**0.5), "2.132"),
        ("no root", by(lambda d: 2.776 * ST(d)), "square root of 5 is missing"),
        ("twice", by(lambda d: 2 * 2.776 * ST(d) / 5**0.5), "twice as wide"),
        ("by 5", by(lambda d: 2.776 * ST(d) / 5), "You divided by 5"),
        ("root of 4", by(lambda d: 2.776 * ST(d) / 4**0.5), "square root of 4"),
        ("pstdev", by(lambda d: 2.776 * statistics.pstdev(d) / 5**0.5), "divides by 4"),
        ("2.571, pstdev", by(lambda d: 2.571 * statistics.pstdev(d) / 5**0.5), "Right in 3"),
        (
            "3.182, pstdev",
            by(lambda d: 3.182 * statistics.pstdev(d) / 5**0.5),
            "2.81 standard errors",
        ),
        (
            "2.132, pstdev",
            by(lambda d: 2.132 * statistics.pstdev(d) / 5**0.5),
            "1.93 standard errors",
        ),
        ("one error", by(lambda d: ST(d) / 5**0.5), "one standard error"),
        ("spread", by(lambda d: ST(d)), "it should be"),
        ("signs", lambda a, b: decide(b, a), "wrong way round"),
        ("only a", lambda a, b: "a" if decide(a, b) == "a" else "undecided", "never find b"),
        ("equal", lambda a, b: "a" if a == b else decide(a, b), "between equals"),
        ("t value", t_value, "ZeroDivisionError"),
        ("capital", lambda a, b: decide(a, b).upper(), "the answers are"),
        ("a number", lambda a, b: statistics.mean(a) - statistics.mean(b), "one of the texts"),
        ("constant", lambda a, b: "undecided", "whatever it is given"),
    ],
    "count_storage": [
        ("base once", lambda b, a, t: (b, b + t * a), "whole model of its own"),
        ("base besides", lambda b, a, t: (b + t * b, b + t * a), "no separate base"),
        ("no base", lambda b, a, t: (t * b, t * a), "Where is the base"),
        ("base each", lambda b, a, t: (t * b, t * (a + b)), "held once"),
        ("one adapter", lambda b, a, t: (t * b, a + b), "adapter of its own"),
        ("swapped", lambda b, a, t: (b + t * a, t * b), "swapped: full tuning comes first"),
        ("three", lambda b, a, t: (3 * b, b + 3 * a), "Use `tasks`"),
        ("one number", lambda b, a, t: t * b, "two numbers"),
        ("one less", lambda b, a, t: (t * b, b + (t - 1) * a), "One adapter is missing"),
        ("GB", lambda b, a, t: (t * b / 1e9, (b + t * a) / 1e9), "Draw the files"),
    ],
    "report_honestly": [
        ("luckiest", lambda runs: max(r["test"] for r in runs), "luckiest"),
        (
            "best validation run",
            lambda runs: max(runs, key=lambda r: r["validation"])["test"],
            "one run with the best validation",
        ),
        ("by the best run", reported(("validation", max)), "single lucky validation score"),
        ("by the test", reported(("test", statistics.mean)), "by the test score"),
        ("all rates", lambda runs: statistics.mean(r["test"] for r in runs), "all rates"),
        ("best seed", reported(tell=("test", max)), "Its best seed is luck"),
        ("validation", reported(tell=("validation", statistics.mean)), "flatter it"),
        ("median", reported(tell=("test", statistics.median)), "not the median"),
        (
            "chosen by median",
            reported(("validation", statistics.median)),
            "chose the rate by the median",
        ),
        ("sums", reported(("validation", sum)), "the rate with more seeds wins"),
        ("by 5", lambda runs: reported(tell=("test", sum))(runs) / 5, "more or fewer seeds"),
        ("rate written in", one_rate, "StatisticsError"),
        ("rate", reported(tell=("lr", max)), "rate itself"),
        ("rounded", lambda runs: round(report(runs), 2), "unrounded"),
        ("pair", lambda runs: (report(runs), 0.1), "one number"),
    ],
}
