"""Solutions and plausible mistakes of lesson 02's exercises."""

import math

import numpy as np
import torch

PPL = """import math
def answer(texts):
    losses = [x for t in texts for x in t]
    return """
MARGIN = """import torch
from torch.nn.functional import logsigmoid
def answer(chosen, rejected, margin):
    return """
LAST = """import torch
def answer(ids, pad):
    real = ids != pad
    return """


def pooled(texts):
    total, count = 0.0, 0
    for text in texts:
        total, count = total + sum(text), count + len(text)
    return math.exp(total / count)


def margin_in_numpy(chosen, rejected, margin):
    c, r, m = (np.asarray(x, dtype=float) for x in (chosen, rejected, margin))
    return np.log1p(np.exp(-(c - r - m))).mean()


def last_by_masking(ids, pad):
    return ((ids != pad) * torch.arange(ids.shape[1])).argmax(1)


def last_in_a_loop(ids, pad):
    return [max(n for n, i in enumerate(row) if i != pad) for row in ids.tolist()]


SOLUTIONS = {
    "perplexity": [PPL + "math.exp(sum(losses) / len(losses))", pooled],
    "loss_with_margin": [
        MARGIN + "-logsigmoid(chosen - rejected - margin).mean()",
        margin_in_numpy,
    ],
    "last_token": [
        LAST + "ids.shape[1] - 1 - real.flip(1).int().argmax(1)",
        last_by_masking,
        last_in_a_loop,
    ],
}

MISTAKES = {
    "perplexity": [
        (
            "mean of means",
            PPL + "math.exp(sum(sum(t) / len(t) for t in texts) / len(texts))",
            "mean of the texts' means",
        ),
        (
            "mean of perplexities",
            PPL + "sum(math.exp(sum(t) / len(t)) for t in texts) / len(texts)",
            "texts' perplexities",
        ),
        ("loss", PPL + "sum(losses) / len(losses)", "e to the power of it"),
        (
            "each token",
            PPL + "sum(math.exp(x) for x in losses) / len(losses)",
            "First the mean",
        ),
        ("base 2", PPL + "2 ** (sum(losses) / len(losses))", "not 2"),
        ("by texts", PPL + "math.exp(sum(losses) / len(texts))", "number of tokens"),
        ("sum", PPL + "math.exp(sum(losses))", "did not divide"),
        ("sign", PPL + "math.exp(-sum(losses) / len(losses))", "already minus the log"),
        ("first", PPL + "math.exp(sum(texts[0]) / len(texts[0]))", "first text only"),
        ("last", PPL + "math.exp(sum(texts[-1]) / len(texts[-1]))", "divide by their number"),
    ],
    "loss_with_margin": [
        ("added", MARGIN + "-logsigmoid(chosen - rejected + margin).mean()", "larger difference"),
        ("no margin", MARGIN + "-logsigmoid(chosen - rejected).mean()", "margin is missing"),
        ("swapped", MARGIN + "-logsigmoid(rejected - chosen - margin).mean()", "rejected answer"),
        ("sign", MARGIN + "logsigmoid(chosen - rejected - margin).mean()", "log-likelihood"),
        (
            "probability",
            MARGIN + "torch.sigmoid(chosen - rejected - margin).mean()",
            "minus its logarithm",
        ),
        (
            "one minus",
            MARGIN + "1 - torch.sigmoid(chosen - rejected - margin).mean()",
            "one minus the probability",
        ),
        ("sum", MARGIN + "-logsigmoid(chosen - rejected - margin).sum()", "Give their mean"),
        (
            "log of mean",
            MARGIN + "-torch.sigmoid(chosen - rejected - margin).mean().log()",
            "logarithm of each pair first",
        ),
        (
            "mean first",
            MARGIN + "-logsigmoid((chosen - rejected - margin).mean())",
            "mean of the losses",
        ),
        ("times", MARGIN + "-logsigmoid((chosen - rejected) * margin).mean()", "multiplied"),
        ("outside", MARGIN + "(-logsigmoid(chosen - rejected) - margin).mean()", "inside the"),
        ("hinge", MARGIN + "torch.relu(margin - (chosen - rejected)).mean()", "hinge"),
        ("not a mean", MARGIN + "-logsigmoid(chosen - rejected - margin)", "Give one number"),
    ],
    "last_token": [
        ("last", LAST + "torch.full((len(ids),), ids.shape[1] - 1)", "last column"),
        ("minus one", LAST + "torch.full((len(ids),), -1)", "last column"),
        ("count", LAST + "real.sum(1) - 1", "counted the tokens"),
        ("number", LAST + "real.sum(1)", "number of tokens"),
        ("first pad", LAST + "(~real).int().argmax(1) - 1", "first padding token"),
        ("first", LAST + "real.int().argmax(1)", "first token of the text"),
        ("from the end", LAST + "real.flip(1).int().argmax(1)", "from the end"),
        (
            "token",
            LAST + "ids[torch.arange(len(ids)), ids.shape[1] - 1 - real.flip(1).int().argmax(1)]",
            "Its position is asked",
        ),
        ("after", LAST + "ids.shape[1] - real.flip(1).int().argmax(1)", "one further"),
        (
            "zero",
            LAST + "ids.shape[1] - 1 - (ids != 0).flip(1).int().argmax(1)",
            "Use `pad`",
        ),
        ("one row", LAST + "real[0].sum() - 1", "should be [3]"),
    ],
}
