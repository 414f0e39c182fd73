"""Checks of lesson 17's exercises."""

import math
import statistics

import torch

from utils.checks import compare, exercise


@exercise(1, "Give the alpha of plain LoRA.")
def same_scale(answer):
    compare(
        answer,
        lambda alpha, rank: alpha * math.sqrt(rank),
        [(16, 4), (16, 16), (32, 64), (1, 1), (8, 2)],
        [
            (
                "That is the scale itself. Plain LoRA divides its alpha by the rank.",
                lambda alpha, rank: alpha / math.sqrt(rank),
            ),
            ("You gave back the same alpha. Then the scales differ.", lambda alpha, rank: alpha),
            (
                "The wrong way round: a larger rank needs a larger alpha in plain LoRA.",
                lambda alpha, rank: alpha / rank,
            ),
            (
                "You multiplied by the rank. rsLoRA divides by its square root already.",
                lambda alpha, rank: alpha * rank,
            ),
            ("The alpha of rsLoRA is missing.", lambda alpha, rank: math.sqrt(rank)),
        ],
        form="one number, the alpha",
        advice="Write both scales, set them equal, and solve for the alpha of plain LoRA.",
    )
    return "So rsLoRA needs no support from a server: an adapter with this alpha is plain LoRA."


def _adapter(seed, d_in=5, d_out=6, rank=2):
    """(W0, A, B, m) with random weights."""
    rng = torch.Generator().manual_seed(seed)
    shapes = ((d_out, d_in), (rank, d_in), (d_out, rank))
    W0, A, B = (torch.randn(*shape, generator=rng) for shape in shapes)
    return W0, A, B, torch.rand(d_out, generator=rng) + 0.5


def _dora(W, m, dim=1):
    return m[:, None] * W / W.norm(dim=dim, keepdim=True)


@exercise(2, "Give the merged weight of a DoRA layer.")
def merge_dora(answer):
    compare(
        answer,
        lambda W0, A, B, m, scale: _dora(W0 + scale * B @ A, m),
        [
            (*_adapter(0), 2.0),
            (*_adapter(1), 0.5),
            (*_adapter(2, 4, 4, 1), 1.0),
            (*_adapter(3, 3, 7, 3), 3.0),
        ],
        [
            (
                "The length m is missing: your rows have another length.",
                lambda W0, A, B, m, scale: W0 + scale * B @ A,
            ),
            (
                "Your rows have length 1. Multiply each by its entry of m.",
                lambda W0, A, B, m, scale: _dora(W0 + scale * B @ A, torch.ones_like(m)),
            ),
            (
                "You multiplied by m and did not divide by the length that the rows have.",
                lambda W0, A, B, m, scale: m[:, None] * (W0 + scale * B @ A),
            ),
            (
                "You divided by the length of the rows of W0. Take that of W0 + scale B A.",
                lambda W0, A, B, m, scale: (
                    m[:, None] * (W0 + scale * B @ A) / W0.norm(dim=1, keepdim=True)
                ),
            ),
            (
                "You took the length of columns. m has one entry for each row, that is each output.",
                lambda W0, A, B, m, scale: _dora(W0 + scale * B @ A, m, dim=0),
            ),
            (
                "You divided by the length of the whole matrix. Every row has a length of its own.",
                lambda W0, A, B, m, scale: (
                    m[:, None] * (W0 + scale * B @ A) / (W0 + scale * B @ A).norm()
                ),
            ),
            (
                "W0 is missing: the direction is that of W0 + scale B A.",
                lambda W0, A, B, m, scale: _dora(scale * B @ A, m),
            ),
            (
                "The scale is missing before B A.",
                lambda W0, A, B, m, scale: _dora(W0 + B @ A, m),
            ),
            (
                "Only W0 got a new length. The direction is that of W0 + scale B A.",
                lambda W0, A, B, m, scale: _dora(W0, m),
                lambda W0, A, B, m, scale: _dora(W0, m) + scale * B @ A,
            ),
        ],
        form="a tensor of the shape of W0",
        advice="Add scale B A first, then bring every row to the length in m.",
    )
    return "After merging, a DoRA layer is a plain linear layer. Its extra time is gone."


def _mean(values):
    return sum(values) / len(values)


def _best(rates):
    return max(_mean(scores) for scores in rates.values())


@exercise(3, "Give the difference of the best mean scores.")
def fair_gap(answer):
    runs = {
        "lora": {1e-3: [0.50, 0.52], 3e-3: [0.90, 0.94], 1e-2: [0.99, 0.10]},
        "rslora": {1e-3: [0.93, 0.95], 3e-3: [0.80, 0.98], 1e-2: [0.0, 0.0]},
        "oft": {3e-4: [0.2, 0.4], 1e-3: [0.88, 0.90]},
    }
    low = {"a": {1.0: [0.1, 0.1, 0.4]}, "b": {1.0: [0.3, 0.2, 0.7], 2.0: [0.35, 0.4, 0.3]}}

    def common(runs, method, other):
        rate = max(runs[other], key=lambda lr: _mean(runs[other][lr]))
        return _mean(runs[method][rate]) - _mean(runs[other][rate]) if rate in runs[method] else ...

    def each(how):
        return lambda runs, method, other: how(runs[method]) - how(runs[other])

    compare(
        answer,
        each(_best),
        [
            (runs, "rslora", "lora"),
            (runs, "oft", "lora"),
            (runs, "lora", "rslora"),
            (runs, "lora", "lora"),
            (low, "a", "b"),
            (low, "b", "a"),
        ],
        [
            (
                "You took the other's learning rate for both. Each gets its own.",
                common,
            ),
            (
                "You took the best single run. One lucky seed then decides: take means first.",
                each(lambda rates: max(max(scores) for scores in rates.values())),
            ),
            (
                "You averaged over the learning rates. Choose the best one.",
                each(lambda rates: _mean([_mean(scores) for scores in rates.values()])),
            ),
            (
                "You took the worst learning rate of each.",
                each(lambda rates: min(_mean(scores) for scores in rates.values())),
            ),
            (
                "You took the first learning rate of each. Choose the one with the best mean.",
                each(lambda rates: _mean(next(iter(rates.values())))),
            ),
            (
                "You took the last learning rate of each. Choose the one with the best mean.",
                each(lambda rates: _mean(list(rates.values())[-1])),
            ),
            (
                "You summed the seeds. Take the mean, so that the number of seeds does not count.",
                each(lambda rates: max(sum(scores) for scores in rates.values())),
            ),
            (
                "The sign counts: a method may be worse.",
                lambda runs, m, o: abs(_best(runs[m]) - _best(runs[o])),
            ),
            (
                "You looked at the first seed only. Take the mean over the seeds.",
                each(lambda rates: max(scores[0] for scores in rates.values())),
            ),
            (
                "You took the worst seed. Take the mean over the seeds.",
                each(lambda rates: max(min(scores) for scores in rates.values())),
            ),
            (
                "You took medians. Take the mean over the seeds.",
                each(lambda rates: max(statistics.median(s) for s in rates.values())),
            ),
            ("That is the score of `method` alone.", lambda runs, m, o: _best(runs[m])),
            ("That is the score of `other` alone.", lambda runs, m, o: _best(runs[o])),
        ],
        form="one difference of scores",
        advice="For each method: the mean of every learning rate, then the largest of them.",
    )
    return "In real work the choice is made on validation rows and the difference on test rows."
