"""Checks of lesson 10's exercises."""

import torch

from utils.checks import compare, exercise

ANY = ...  # this part of a pair does not matter


@exercise(
    1, "Give L (d_k + d_v + d_ff), with d_k and d_v as wide as the keys and values really are."
)
def count_parameters(answer):
    def total(one):
        return lambda n, d, heads, kv, ffn: n * one(d, d // heads * kv, ffn, heads, kv)

    compare(
        answer,
        total(lambda d, width, ffn, heads, kv: 2 * width + ffn),
        [(4, 192, 6, 2, 512), (32, 4096, 32, 8, 14336), (2, 96, 4, 1, 320), (3, 60, 5, 5, 100), (1, 64, 4, 2, 64)],
        [
            ("You gave keys and values the width of the hidden state. With grouped-query attention they have only kv_heads heads.", total(lambda d, w, f, h, kv: 2 * d + f)),
            ("You gave the keys or the values the width of the hidden state. Both have only kv_heads heads.", total(lambda d, w, f, h, kv: d + w + f)),
            ("That is one layer. Each layer has vectors of its own.", lambda n, d, heads, kv, ffn: 2 * (d // heads * kv) + ffn),
            ("Only one of keys and values is counted. There are l_k and l_v.", total(lambda d, w, f, h, kv: w + f)),
            ("The vector l_ff scales the inner activations of the feed-forward, which are ffn wide, not its output.", total(lambda d, w, f, h, kv: 2 * w + d)),
            ("The gate and the up projection share one l_ff: it scales their product, ffn numbers.", total(lambda d, w, f, h, kv: 2 * w + 2 * f)),
            ("You counted a vector too many, of the hidden size: neither queries nor the output of the feed-forward is scaled.", total(lambda d, w, f, h, kv: d + 2 * w + f)),
            ("You counted a third vector of the width of keys. Only keys and values have one.", total(lambda d, w, f, h, kv: 3 * w + f)),
            ("A head is not one number: its width is hidden / heads.", total(lambda d, w, f, h, kv: 2 * kv + f)),
            ("That is one head's width. There are kv_heads of them.", total(lambda d, w, f, h, kv: 2 * (d // h) + f)),
            ("You divided by the key-value heads. A head's width is hidden / heads.", total(lambda d, w, f, h, kv: 2 * (d // kv) + f)),
            ("Those are the sizes of the frozen matrices. IA3 trains one number for each row or column.", total(lambda d, w, f, h, kv: 2 * w * d + f * d), total(lambda d, w, f, h, kv: 2 * w * d + 3 * f * d)),
            ("The vector of the feed-forward is missing.", total(lambda d, w, f, h, kv: 2 * w)),
            ("The vectors of keys and values are missing.", total(lambda d, w, f, h, kv: f)),
        ],
        form="one number of parameters",
        advice="How wide is one head, how many key heads are there, and how many numbers leave the gate?",
    )  # fmt: skip
    return "This base: 2,560. The same function gives 524,288 for Mistral-7B."


def _layer(seed, d_out, d_in):
    """(W, b, l_v) with random numbers."""
    rng = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=rng) for shape in ((d_out, d_in), (d_out,), (d_out,)))


@exercise(2, "Return the weight and the bias of the one layer that does the same.")
def merge_values(answer):
    compare(
        answer,
        lambda W, b, v: (v[:, None] * W, v * b),
        {
            "a square W_v of 5 by 5": _layer(0, 5, 5),
            "another square W_v": _layer(1, 3, 3),
            "a W_v of 2 outputs and 6 inputs": _layer(2, 2, 6),
        },
        [
            ("W_v * l_v scales the columns, which meet the input. l_v scales the output: W_v is [d_out, d_in], so scale its rows.", lambda W, b, v: (W * v, ANY)),
            ("The weight and the bias are still those of the base: l_v is missing.", lambda W, b, v: (W, b)),
            ("The bias is right; the weight is still the base's. l_v multiplies it as well.", lambda W, b, v: (W, v * b)),
            ("The weight is right. The bias is part of what l_v multiplies, so it has to be scaled as well.", lambda W, b, v: (v[:, None] * W, b)),
            ("The weight is right. The bias is scaled once, not twice.", lambda W, b, v: (v[:, None] * W, v * v * b)),
            ("The weight is right. The bias is multiplied by l_v; it is not replaced by it.", lambda W, b, v: (v[:, None] * W, v), lambda W, b, v: (v[:, None] * W, v + b)),
            ("The weight is right. The bias does not vanish: l_v multiplies it.", lambda W, b, v: (v[:, None] * W, 0 * b)),
            ("The vector l_v multiplies; it does not divide.", lambda W, b, v: (W / v[:, None], ANY)),
            ("The vector l_v multiplies; it is not added.", lambda W, b, v: (W + v[:, None], ANY), lambda W, b, v: (W + v, ANY)),
            ("The weight is transposed: W_v is [d_out, d_in].", lambda W, b, v: ((v[:, None] * W).T, ANY)),
            ("You scaled twice: once the rows and once the columns.", lambda W, b, v: (v[:, None] * W * v, ANY), lambda W, b, v: (v[:, None] ** 2 * W, ANY)),
            ("You scaled by the mean of l_v. Each output has its own number.", lambda W, b, v: (W * v.mean(), ANY)),
        ],
        form="two tensors, the merged weight and the merged bias",
        names=("the weight", "the bias"),
        advice="Write l_v * (W x + b) out for one output number.",
    )  # fmt: skip
    return "W_v is square here on purpose: scaling the wrong side would have raised no error."


def _batch(seed, batch, heads, length, width, tasks, task):
    """(x, L, task) with random numbers."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, heads, length, width, generator=rng)
    return x, torch.rand(tasks, heads * width, generator=rng) + 0.5, torch.tensor(task)


@exercise(
    3, "Give each row of the batch its own task's vector, in every head and at every position."
)
def scale_batch(answer):
    def own(x, L, task):
        return L[task].view(len(x), x.shape[1], 1, x.shape[3])

    compare(
        answer,
        lambda x, L, task: x * own(x, L, task),
        {
            "two rows of tasks 4 and 0, two heads, two positions, two numbers a head": _batch(1, 2, 2, 2, 2, 5, [4, 0]),
            "other numbers and the tasks 1 and 2": _batch(2, 2, 2, 2, 2, 3, [1, 2]),
            "three rows of tasks 1, 1 and 0, four heads, six positions, five numbers a head": _batch(3, 3, 4, 6, 5, 2, [1, 1, 0]),
            "one row, one head, three positions, four numbers": _batch(4, 1, 1, 3, 4, 2, [1]),
        },
        [
            ("The heads were lined up with the positions: number i of head 0 scales position 0. Where is the axis of the positions?", lambda x, L, t: x * L[t].view(len(x), 1, x.shape[1], -1)),
            ("Rows were lined up with heads and heads with positions. Give the vectors all four axes.", lambda x, L, t: x * L[t].view(len(x), x.shape[1], -1)),
            ("Every row was scaled with the first row's task.", lambda x, L, t: x * L[t[0]].view(x.shape[1], 1, -1)),
            ("Every row was scaled with the last row's task.", lambda x, L, t: x * L[t[-1]].view(x.shape[1], 1, -1)),
            ("You scaled with the mean of the tasks' vectors. Each row has its own.", lambda x, L, t: x * L[t].mean(0).view(x.shape[1], 1, -1)),
            ("You used the row's number in the batch as its task. `task` says which vector a row has.", lambda x, L, t: x * L[: len(x)].view(len(x), x.shape[1], 1, -1)),
            ("The vectors multiply; they are not added.", lambda x, L, t: x + own(x, L, t)),
            ("The vectors multiply; they do not divide.", lambda x, L, t: x / own(x, L, t)),
            ("The vector of a task is head after head: its first numbers belong to head 0.", lambda x, L, t: x * L[t].view(len(x), x.shape[3], x.shape[1]).transpose(1, 2)[:, :, None]),
            ("The vector of the first head scales all heads. Each head has its own part.", lambda x, L, t: x * own(x, L, t)[:, :1]),
            ("The vectors came in twice.", lambda x, L, t: x * own(x, L, t) ** 2),
            ("That is x as it was.", lambda x, L, t: x),
            ("You sorted the tasks. Row i has the task task[i].", lambda x, L, t: x * own(x, L, t.sort().values)),
        ],
        form="a tensor of the shape of x",
        advice="What should row 0 be multiplied by in head 1?",
    )  # fmt: skip
    return "One look-up, one view, one product. In a batch of two everything, a wrong axis raises no error."
