"""Checks of lesson 10's exercises."""

import torch

from utils.checks import Hint, call, exercise


@exercise(
    1, "Give L (d_k + d_v + d_ff), with d_k and d_v as wide as the keys and values really are."
)
def count_parameters(answer):
    layers, hidden, heads, kv_heads, ffn = 4, 192, 6, 2, 512
    got, width = call(answer, layers, hidden, heads, kv_heads, ffn), hidden // heads * kv_heads
    if got == layers * (2 * width + ffn):
        if call(answer, 32, 4096, 32, 8, 14336) != 32 * (2 * 1024 + 14336):
            raise Hint(
                "Right for these sizes and wrong for those of Mistral-7B: every number should come from the arguments."
            )
        if call(answer, 2, 96, 4, 1, 320) != 2 * (2 * 24 + 320):
            raise Hint(
                "Right for the two models of this lesson only. Use the arguments, not the numbers printed above."
            )
        return "This base: 2,560. The same function gives 524,288 for Mistral-7B."
    for value, hint in (
        (
            layers * (2 * hidden + ffn),
            "You gave keys and values the width of the hidden state. With grouped-query attention they "
            "have only kv_heads heads.",
        ),
        (2 * width + ffn, "That is one layer. Each layer has vectors of its own."),
        (layers * (width + ffn), "Only one of keys and values is counted. There are l_k and l_v."),
        (
            layers * (2 * width + hidden),
            "l_ff scales the inner activations of the feed-forward, which are ffn wide, not its output.",
        ),
        (
            layers * (2 * width + 2 * ffn),
            "The gate and the up projection share one l_ff: it scales their product, ffn numbers.",
        ),
        (
            layers * (hidden + 2 * width + ffn),
            "Queries are not scaled, only keys, values and the feed-forward.",
        ),
        (layers * (2 * kv_heads + ffn), "A head is not one number: its width is hidden / heads."),
        (
            layers * (2 * width * hidden + ffn * hidden),
            "Those are the sizes of the frozen matrices. IA3 trains one "
            "number for each row or column.",
        ),
    ):
        if got == value:
            raise Hint(hint)
    raise Hint(
        f"For 4 layers you gave {got}. How wide is one head, how many key heads are there, and how many numbers leave the gate?"
    )


@exercise(2, "Return the weight and the bias of the one layer that does the same.")
def merge_values(answer):
    rng = torch.Generator().manual_seed(0)
    W, b, l_v, x = (torch.randn(*shape, generator=rng) for shape in ((5, 5), (5,), (5,), (3, 5)))
    kept = W.clone(), b.clone()
    got = call(answer, W, b, l_v)
    if not torch.equal(W, kept[0]) or not torch.equal(b, kept[1]):
        raise Hint("W or b was changed in place. Keep the base intact: return new tensors.")
    if not isinstance(got, tuple) or len(got) != 2:
        raise Hint("Return two tensors: the merged weight and the merged bias.")
    weight, bias = got
    if weight.shape != W.shape or bias.shape != b.shape:
        raise Hint(
            f"The shapes should stay as they are, {list(W.shape)} and {list(b.shape)}; you gave {list(weight.shape)} and {list(bias.shape)}."
        )
    if torch.allclose(weight, W * l_v):
        raise Hint(
            "W * l_v scales the columns, which meet the input. l_v scales the output: W_v is [d_out, d_in], so scale its rows."
        )
    if torch.allclose(weight, l_v[:, None] * W) and torch.allclose(bias, b):
        raise Hint(
            "The weight is right. The bias is part of what l_v multiplies, so it has to be scaled as well."
        )
    if torch.allclose(weight, W / l_v[:, None]) or torch.allclose(weight, l_v[:, None] + W):
        raise Hint("l_v multiplies; it neither divides nor adds.")
    if not torch.allclose(x @ weight.T + bias, l_v * (x @ W.T + b), atol=1e-5):
        raise Hint(
            "The merged layer does not give l_v * (W x + b). Write that product out for one output number."
        )
    return "W_v is square here on purpose: scaling the wrong side would have raised no error."


@exercise(
    3, "Give each row of the batch its own task's vector, in every head and at every position."
)
def scale_batch(answer):
    rng = torch.Generator().manual_seed(1)
    x, L, task = (
        torch.randn(2, 2, 2, 2, generator=rng),
        torch.rand(5, 4, generator=rng) + 0.5,
        torch.tensor([4, 0]),
    )
    got = call(answer, x, L, task)
    right = torch.stack([row * L[t].view(2, 1, 2) for row, t in zip(x, task.tolist())])
    if got.shape != x.shape:
        raise Hint(f"The result has shape {list(got.shape)}, the batch has {list(x.shape)}.")
    if torch.allclose(got, right):
        wide = (
            torch.randn(3, 4, 6, 5, generator=rng),
            torch.rand(2, 20, generator=rng),
            torch.tensor([1, 1, 0]),
        )
        if not torch.allclose(
            call(answer, *wide),
            torch.stack(
                [row * wide[1][t].view(4, 1, 5) for row, t in zip(wide[0], wide[2].tolist())]
            ),
        ):
            raise Hint(
                "Right for two heads, two positions and two numbers a head, wrong for four heads, six positions and five numbers."
            )
        return "One look-up, one view, one product. In a batch of two everything, a wrong axis goes unseen."
    for value, hint in (
        (
            x * L[task].view(2, 2, 2)[:, None],
            "The heads were lined up with the positions: number i of head 0 scales position 0. "
            "All sizes are two here, so nothing raised an error. Where is the axis of the positions?",
        ),
        (
            x * L[task].view(2, 2, 2),
            "Rows were lined up with heads and heads with positions. Give the vectors all four axes.",
        ),
        (x * L[task[0]].view(2, 1, 2), "Every row was scaled with the first row's task."),
        (
            x * L[task].mean(0).view(2, 1, 2),
            "You scaled with the mean of the tasks' vectors. Each row wants its own.",
        ),
        (
            x * L[:2].view(2, 2, 1, 2),
            "You used the row's number in the batch as its task. `task` says which vector a row wants.",
        ),
        (x + L[task].view(2, 2, 1, 2), "The vectors multiply; they are not added."),
        (
            x * L[task].view(2, 2, 2).transpose(1, 2)[:, :, None],
            "The vector of a task is head after head: numbers 0 and 1 belong to head 0.",
        ),
    ):
        if torch.allclose(got, value):
            raise Hint(hint)
    raise Hint(
        "The shape is right and the values are not. What should row 0, of task 4, be multiplied by in head 1?"
    )
