"""Solutions and plausible mistakes of lesson 17's exercises."""

import math
import statistics

import numpy as np


def merge(W0, A, B, m, scale):
    W = W0 + scale * B @ A
    return W / W.norm(dim=1, keepdim=True) * m[:, None]


def in_numpy(W0, A, B, m, scale):
    W = np.asarray(W0) + scale * np.asarray(B) @ np.asarray(A)
    return W * (np.asarray(m) / np.linalg.norm(W, axis=1))[:, None]


def in_place(W0, A, B, m, scale):
    W0 += scale * B @ A
    return W0 / W0.norm(dim=1, keepdim=True) * m[:, None]


def mean(values):
    return sum(values) / len(values)


def best(rates):
    return max(mean(scores) for scores in rates.values())


def gap(runs, method, other):
    return best(runs[method]) - best(runs[other])


def common(runs, method, other):
    rate = max(runs[other], key=lambda lr: mean(runs[other][lr]))
    return mean(runs[method][rate]) - mean(runs[other][rate])


def of_each(how):
    return lambda runs, method, other: how(runs[method]) - how(runs[other])


SOLUTIONS = {
    "same_scale": [
        lambda alpha, rank: alpha * math.sqrt(rank),
        lambda alpha, rank: np.float32(alpha) * np.sqrt(np.float32(rank)),
    ],
    "merge_dora": [merge, in_numpy],
    "fair_gap": gap,
}

MISTAKES = {
    "same_scale": [
        ("scale", lambda alpha, rank: alpha / math.sqrt(rank), "scale itself"),
        ("same", lambda alpha, rank: alpha, "same alpha"),
        ("divided", lambda alpha, rank: alpha / rank, "wrong way round"),
        ("times rank", lambda alpha, rank: alpha * rank, "square root already"),
        ("no alpha", lambda alpha, rank: math.sqrt(rank), "alpha of rsLoRA is missing"),
        ("twice", lambda alpha, rank: 2 * alpha * math.sqrt(rank), "set them equal"),
    ],
    "merge_dora": [
        ("LoRA", lambda W0, A, B, m, scale: W0 + scale * B @ A, "length m is missing"),
        (
            "unit",
            lambda W0, A, B, m, scale: merge(W0, A, B, m / m, scale),
            "length 1",
        ),
        (
            "times m",
            lambda W0, A, B, m, scale: m[:, None] * (W0 + scale * B @ A),
            "did not divide",
        ),
        (
            "length of W0",
            lambda W0, A, B, m, scale: (
                m[:, None] * (W0 + scale * B @ A) / W0.norm(dim=1, keepdim=True)
            ),
            "rows of W0",
        ),
        (
            "columns",
            lambda W0, A, B, m, scale: (
                m[:, None] * (W0 + scale * B @ A) / (W0 + scale * B @ A).norm(dim=0, keepdim=True)
            ),
            "length of columns",
        ),
        (
            "whole matrix",
            lambda W0, A, B, m, scale: (
                m[:, None] * (W0 + scale * B @ A) / (W0 + scale * B @ A).norm()
            ),
            "whole matrix",
        ),
        ("no W0", lambda W0, A, B, m, scale: merge(0 * W0, A, B, m, scale), "W0 is missing"),
        ("no scale", lambda W0, A, B, m, scale: merge(W0, A, B, m, 1.0), "scale is missing"),
        ("W0 alone", lambda W0, A, B, m, scale: merge(W0, A, B, m, 0.0), "Only W0"),
        ("in place", in_place, "changes `W0`"),
    ],
    "fair_gap": [
        ("common", common, "other's learning rate"),
        (
            "best run",
            of_each(lambda rates: max(max(scores) for scores in rates.values())),
            "best single run",
        ),
        (
            "average",
            of_each(lambda rates: mean([mean(scores) for scores in rates.values()])),
            "averaged over the learning rates",
        ),
        (
            "worst",
            of_each(lambda rates: min(mean(scores) for scores in rates.values())),
            "worst learning rate",
        ),
        ("first", of_each(lambda rates: mean(next(iter(rates.values())))), "first learning rate"),
        ("last", of_each(lambda rates: mean(list(rates.values())[-1])), "last learning rate"),
        (
            "sums",
            of_each(lambda rates: max(sum(scores) for scores in rates.values())),
            "summed the seeds",
        ),
        ("abs", lambda runs, method, other: abs(gap(runs, method, other)), "sign counts"),
        (
            "first seed",
            of_each(lambda rates: max(scores[0] for scores in rates.values())),
            "first seed only",
        ),
        (
            "worst seed",
            of_each(lambda rates: max(min(scores) for scores in rates.values())),
            "worst seed",
        ),
        (
            "median",
            of_each(lambda rates: max(statistics.median(s) for s in rates.values())),
            "medians",
        ),
        ("alone", lambda runs, method, other: best(runs[method]), "`method` alone"),
        ("other", lambda runs, method, other: best(runs[other]), "`other` alone"),
        ("turned round", lambda runs, method, other: gap(runs, other, method), "sign"),
    ],
}
