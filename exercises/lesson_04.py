"""Checks of lesson 04's exercises."""

import torch
from torch import nn

from utils.adapters import Adapter
from utils.checks import Hint, call, exercise


@exercise(1, "Give the number of all parameters that train: the adapters' and the norms'.")
def count_parameters(answer):
    d, m, blocks, each = 192, 16, 4, 2
    got, one, norms = call(answer, d, m, blocks, each), 2 * m * d + d + m, (2 * blocks + 1) * d
    right = blocks * each * one + norms
    if got == right:
        if call(answer, d, m, blocks, 1) != blocks * one + norms:
            raise Hint(
                "Right for two adapters a block, wrong for one: `each` says how many there are."
            )
        return "On Mistral-7B the same formula gives 34.1 million for m = 64: about half a per cent of the base."
    for value, hint in (
        (
            blocks * each * one,
            "The norms are missing: two in every block and one at the end, d numbers each.",
        ),
        (right - d, "One norm is missing: the last one, after all blocks."),
        (
            blocks * each * 2 * m * d + norms,
            "The biases are missing: m numbers going down, d numbers going up.",
        ),
        (
            blocks * each * (m * d + m) + norms,
            "That is the way down only. The way up has as many weights, and d biases.",
        ),
        (blocks * one + norms, "You counted one adapter a block; there are `each` of them."),
        (
            right + norms,
            "An RMSNorm has d numbers. You gave it a bias as well, as a LayerNorm has.",
        ),
        (
            blocks * each * (one + d * d) + norms,
            "The layer that the adapter follows is frozen; it does not count.",
        ),
    ):
        if got == value:
            raise Hint(hint)
    raise Hint(
        f"For d = {d}, m = {m}, {blocks} blocks with {each} adapters you gave {got}; an adapter has 2md + d + m, and norms come on top."
    )


@exercise(2, "Return the block's output with the adapter in its place.")
def place_adapter(answer):
    torch.manual_seed(0)
    sublayer, norm = nn.Linear(6, 6), nn.RMSNorm(6)
    inner = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 6))
    x = torch.randn(2, 5, 6)

    def adapter(h):
        return h + inner(h)

    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        got, h = call(answer, x, norm, sublayer, adapter), sublayer(norm(x))
        for value, hint in (
            (x + h, "No adapter is in there yet."),
            (
                adapter(x + h),
                "That is after the residual sum. There the adapter rewrites the whole stream, not one sublayer's contribution.",
            ),
            (
                x + h + adapter(h),
                "The sublayer's output comes in twice: the adapter already contains h, by its own skip.",
            ),
            (adapter(h), "The residual is lost. The block's input x has to be added."),
            (x + adapter(sublayer(x)), "The norm is missing: the sublayer reads norm(x)."),
            (x + sublayer(adapter(norm(x))), "That is before the sublayer. Houlsby puts it after."),
            (x + inner(h), "Only the adapter's change is added; h itself got lost."),
        ):
            if got.shape == value.shape and torch.allclose(got, value, atol=1e-6):
                raise Hint(hint)
        if got.shape != x.shape or not torch.allclose(got, x + adapter(h), atol=1e-6):
            raise Hint(
                "Not x + adapter(sublayer(norm(x))). Say the order aloud: norm, sublayer, adapter, then the sum."
            )
    return "Two skips: one inside the adapter, one around everything."


@exercise(3, "Set the initial weights in place and return the adapter.")
def start_as_identity(answer):
    torch.manual_seed(0)
    linear = nn.Linear(8, 8, bias=False).requires_grad_(False)
    adapter, x, frozen = Adapter(linear, 4, std=0.5), torch.randn(32, 8), linear.weight.clone()
    nn.init.normal_(adapter.up.bias)
    adapter = call(answer, adapter)
    if not isinstance(adapter, nn.Module):
        raise Hint("Return the adapter itself.")
    if not torch.equal(linear.weight, frozen):
        raise Hint("You changed the frozen layer. Only `down` and `up` are yours.")
    away = (adapter(x) - linear(x)).abs().max().item()
    begun = {"down": adapter.down.weight.detach().clone(), "up": adapter.up.weight.detach().clone()}
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (adapter(x) - linear(x) - x.roll(1, 1)).square().mean().backward()
        optimizer.step()
    if away and not adapter.up.weight.isnan().any() and not begun["up"].any():
        raise Hint(
            "The weight of `up` is zero, its bias is not, so the output is shifted from the start."
        )
    if away:
        raise Hint(
            f"Near the identity or far from it, but not equal: the output differs by {away:.2g}. What must `up` hold so that nothing is added?"
        )
    if adapter.down.weight.equal(begun["down"]) and adapter.up.weight.equal(begun["up"]):
        raise Hint(
            "It is the identity and stays it: with nothing coming out of the ReLU, neither weight gets a gradient. "
            "Leave one of the two matrices random; which one?"
        )
    return "Up at zero, down random: as in LoRA, where B is zero and A is not."
