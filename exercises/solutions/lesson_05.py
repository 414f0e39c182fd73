"""Solutions and plausible mistakes of lesson 05's exercises."""

import numpy as np


def count(shapes, rank):
    return sum(rank * (d_in + d_out) for d_in, d_out in shapes)


def one_layer(shapes, rank):
    for d_in, d_out in shapes:
        return rank * (d_in + d_out)


def last_layer(shapes, rank):
    for d_in, d_out in shapes:
        total = rank * (d_in + d_out)
    return total


def merge(W0, A, B, alpha, rank):
    return W0 + alpha / rank * B @ A


def scale_b(W0, A, B, alpha, rank):
    B *= alpha / rank
    return W0 + B @ A


def into_w0(W0, A, B, alpha, rank):
    W0 += alpha / rank * B @ A
    return W0


def switch(W_one, one, two):
    (A1, B1, s1), (A2, B2, s2) = one, two
    return W_one - s1 * B1 @ A1 + s2 * B2 @ A2


def in_place(W_one, one, two):
    W_one -= one[2] * one[1] @ one[0]
    W_one += two[2] * two[1] @ two[0]
    return W_one


def in_numpy(W_one, one, two):
    A1, B1, A2, B2 = (np.asarray(t) for t in (*one[:2], *two[:2]))
    return np.asarray(W_one) - one[2] * B1 @ A1 + two[2] * B2 @ A2


SOLUTIONS = {
    "count_parameters": count,
    "merge_weight": [merge, lambda W0, A, B, alpha, rank: W0.add(B.mm(A), alpha=alpha / rank)],
    "switch_adapter": [switch, in_numpy],
}

MISTAKES = {
    "count_parameters": [
        ("product", lambda shapes, rank: sum(rank * i * o for i, o in shapes), "multiplied d_in by d_out"),
        ("A", lambda shapes, rank: sum(rank * i for i, o in shapes), "A alone"),
        ("B", lambda shapes, rank: sum(rank * o for i, o in shapes), "B alone"),
        ("square in", lambda shapes, rank: sum(2 * rank * i for i, o in shapes), "Which side has B"),
        ("square out", lambda shapes, rank: sum(2 * rank * o for i, o in shapes), "Which side has A"),
        ("first", one_layer, "first layer only"),
        ("last", last_layer, "last layer only"),
        ("no rank", lambda shapes, rank: sum(i + o for i, o in shapes), "Where is the rank"),
        ("frozen too", lambda shapes, rank: sum(i * o + rank * (i + o) for i, o in shapes), "frozen weight as well"),
        ("frozen", lambda shapes, rank: sum(i * o for i, o in shapes), "frozen weights"),
        ("rank 8", lambda shapes, rank: count(shapes, 8), "grow with the rank"),
        ("biases", lambda shapes, rank: sum(rank * (i + o) + rank + o for i, o in shapes), "no biases"),
        ("list", lambda shapes, rank: [rank * (i + o) for i, o in shapes], "one number of parameters"),
        ("megabytes", lambda shapes, rank: 4 * count(shapes, rank), "Draw A and B"),
    ],
    "merge_weight": [
        ("no factor", lambda W0, A, B, alpha, rank: W0 + B @ A, "alpha / rank is missing"),
        ("alpha", lambda W0, A, B, alpha, rank: W0 + alpha * B @ A, "alpha alone"),
        ("upside down", lambda W0, A, B, alpha, rank: W0 + rank / alpha * B @ A, "upside down"),
        ("rsLoRA", lambda W0, A, B, alpha, rank: W0 + alpha / rank**0.5 * B @ A, "rsLoRA"),
        ("2", lambda W0, A, B, alpha, rank: W0 + 2 * B @ A, "usual scale of 2"),
        ("whole", lambda W0, A, B, alpha, rank: W0 + alpha // rank * B @ A, "whole-number division"),
        ("whole plus one", lambda W0, A, B, alpha, rank: W0 + (alpha // rank + 1) * B @ A, "it should be near"),
        ("B in place", scale_b, "changes `B`"),
        ("W0 in place", into_w0, "changes `W0`"),
        ("change", lambda W0, A, B, alpha, rank: alpha / rank * B @ A, "change alone"),
        ("A B", lambda W0, A, B, alpha, rank: W0 + alpha / rank * A @ B, "RuntimeError"),
        ("transposed", lambda W0, A, B, alpha, rank: W0.T + alpha / rank * A.T @ B.T, "transposed"),
        ("W0 scaled", lambda W0, A, B, alpha, rank: alpha / rank * (W0 + B @ A), "scaled W0 as well"),
        ("minus", lambda W0, A, B, alpha, rank: W0 - alpha / rank * B @ A, "has to be added"),
    ],
    "switch_adapter": [
        ("both", lambda W, one, two: W + two[2] * two[1] @ two[0], "Both adapters"),
        ("signs", lambda W, one, two: W + one[2] * one[1] @ one[0] - two[2] * two[1] @ two[0], "wrong way round"),
        ("both off", lambda W, one, two: W - one[2] * one[1] @ one[0] - two[2] * two[1] @ two[0], "took both changes off"),
        ("scales swapped", lambda W, one, two: W - two[2] * one[1] @ one[0] + one[2] * two[1] @ two[0], "swapped"),
        ("as it was", lambda W, one, two: W.clone(), "still the weight of task one"),
        ("in place", in_place, "changes `W_one`"),
        ("base", lambda W, one, two: W - one[2] * one[1] @ one[0], "That is the base"),
        ("no scales", lambda W, one, two: W - one[1] @ one[0] + two[1] @ two[0], "scales are missing"),
        ("first's scale", lambda W, one, two: W - one[1] @ one[0] + two[2] * two[1] @ two[0], "first adapter's scale is missing"),
        ("second's scale", lambda W, one, two: W - one[2] * one[1] @ one[0] + two[1] @ two[0], "second adapter's scale is missing"),
        ("one scale", lambda W, one, two: W + one[2] * (two[1] @ two[0] - one[1] @ one[0]), "scale for both"),
        ("change", lambda W, one, two: two[2] * two[1] @ two[0] - one[2] * one[1] @ one[0], "weight itself is missing"),
        ("half", lambda W, one, two: W - 0.5 * one[1] @ one[0] + two[2] * two[1] @ two[0], "get W0 back"),
    ],
}  # fmt: skip
