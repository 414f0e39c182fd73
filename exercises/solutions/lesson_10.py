"""Solutions and plausible mistakes of lesson 10's exercises."""

import numpy as np
import torch


def count(layers, hidden, heads, kv_heads, ffn):
    return layers * (2 * kv_heads * (hidden // heads) + ffn)


def merge(W_v, b_v, l_v):
    return l_v[:, None] * W_v, l_v * b_v


def in_place(W_v, b_v, l_v):
    W_v *= l_v[:, None]
    b_v *= l_v
    return W_v, b_v


def scale(x, L, task):
    return x * L[task].view(len(task), x.shape[1], 1, x.shape[3])


def scale_in_place(x, L, task):
    x *= L[task].view(len(task), x.shape[1], 1, x.shape[3])
    return x


def row_by_row(x, L, task):
    rows = []
    for row, t in zip(x, task.tolist()):
        rows.append(row * L[t].reshape(row.shape[0], 1, row.shape[2]))
    return torch.stack(rows)


SOLUTIONS = {
    "count_parameters": count,
    "merge_values": [merge, lambda W, b, v: (torch.diag(v) @ W, v * b), lambda W, b, v: [np.asarray(v)[:, None] * np.asarray(W), np.asarray(v * b)]],
    "scale_batch": [scale, row_by_row],
}

MISTAKES = {
    "count_parameters": [
        ("hidden", lambda n, d, h, kv, f: n * (2 * d + f), "width of the hidden state. With"),
        ("one layer", lambda n, d, h, kv, f: count(1, d, h, kv, f), "one layer"),
        ("keys alone", lambda n, d, h, kv, f: n * (kv * (d // h) + f), "Only one of keys and values"),
        ("output", lambda n, d, h, kv, f: n * (2 * kv * (d // h) + d), "not its output"),
        ("gate and up", lambda n, d, h, kv, f: count(n, d, h, kv, 2 * f), "share one l_ff"),
        ("queries", lambda n, d, h, kv, f: count(n, d, h, kv, f) + n * d, "a vector too many"),
        ("heads", lambda n, d, h, kv, f: n * (2 * kv + f), "A head is not one number"),
        ("one head", lambda n, d, h, kv, f: n * (2 * (d // h) + f), "one head's width"),
        ("matrices", lambda n, d, h, kv, f: d * count(n, d, h, kv, f), "frozen matrices"),
        ("width 64", lambda n, d, h, kv, f: n * (128 + f), "Right in 1 of 5 cases"),
        ("two models", lambda n, d, h, kv, f: 2560 if n == 4 else 524288, "Right in 2 of 5 cases"),
        ("constant", lambda n, d, h, kv, f: 2560, "whatever it is given"),
        ("no feed-forward", lambda n, d, h, kv, f: count(n, d, h, kv, 0), "feed-forward is missing"),
        ("mixed widths", lambda n, d, h, kv, f: n * (d + kv * (d // h) + f), "the keys or the values"),
    ],
    "merge_values": [
        ("columns", lambda W, b, v: (W * v, v * b), "scales the columns"),
        ("bias left", lambda W, b, v: (v[:, None] * W, b), "The bias is part"),
        ("divided", lambda W, b, v: (W / v[:, None], b / v), "does not divide"),
        ("added", lambda W, b, v: (W + v[:, None], v + b), "not added"),
        ("in place", in_place, "changes `W_v`"),
        ("weight alone", lambda W, b, v: v[:, None] * W, "two tensors"),
        ("matrix times vector", lambda W, b, v: (W @ v, v * b), "the shape [5]"),
        ("bias twice", lambda W, b, v: (v[:, None] * W, v * v * b), "once, not twice"),
        ("nothing", lambda W, b, v: (W.clone(), b.clone()), "l_v is missing"),
        ("transposed", lambda W, b, v: ((v[:, None] * W).T, v * b), "transposed"),
        ("swapped", lambda W, b, v: merge(W, b, v)[::-1], "swapped: the weight comes first"),
        ("half", lambda W, b, v: (v[:, None] * W / 2, v * b), "one output number"),
    ],
    "scale_batch": [
        ("positions", lambda x, L, task: x * L[task].view(len(x), x.shape[1], -1)[:, None], "axis of the positions"),
        ("three axes", lambda x, L, task: x * L[task].view(len(x), x.shape[1], -1), "all four axes"),
        ("first task", lambda x, L, task: x * L[task[0]].view(x.shape[1], 1, -1), "first row's task"),
        ("mean", lambda x, L, task: x * L[task].mean(0).view(x.shape[1], 1, -1), "mean of the tasks"),
        ("row number", lambda x, L, task: x * L[: len(x)].view(len(x), x.shape[1], 1, -1), "row's number in the batch"),
        ("added", lambda x, L, task: x + L[task].view(len(x), x.shape[1], 1, -1), "not added"),
        ("heads inside", lambda x, L, task: x * L[task].view(len(x), -1, x.shape[1]).transpose(1, 2)[:, :, None], "head after head"),
        ("first row", lambda x, L, task: scale(x, L, task)[0], "shape"),
        ("twos", lambda x, L, task: x * L[task].view(2, 2, 1, 2), "For three rows"),
        ("squared", lambda x, L, task: x * L[task].view(len(x), x.shape[1], 1, -1) ** 2, "came in twice"),
        ("in place", scale_in_place, "changes `x`"),
        ("half", lambda x, L, task: scale(x, L, task) / 2, "row 0 be multiplied"),
    ],
}  # fmt: skip
