"""Checks of lesson 06's exercises."""

import torch
from torch import nn

from utils.checks import Hint, call, exercise


@exercise(1, "Give the largest error that rounding can make in such a block.")
def worst_error(answer):
    for values, absmax in (
        (torch.tensor([-1.0, -0.5, 0.0, 0.2, 1.0]), 3.0),
        (torch.linspace(-1, 1, 16) ** 3, 0.7),
    ):
        got, gaps = float(call(answer, values.clone(), absmax)), values[1:] - values[:-1]
        right = float(gaps.max() / 2 * absmax)
        for wrong, hint in (
            (
                gaps.max() * absmax,
                "That is the whole gap. A weight in its middle is half a gap away from either value.",
            ),
            (
                gaps.max() / 2,
                "That is the error of the scaled weight. Dequantising multiplies it by absmax.",
            ),
            (gaps.max() / 2 / absmax, "You divide by absmax. Dequantising multiplies by it."),
            (
                gaps.min() / 2 * absmax,
                "That is the narrowest gap. The error is largest where neighbours are furthest apart.",
            ),
            (
                gaps.mean() / 2 * absmax,
                "That is the mean gap, as if the values were equally spaced. They are not.",
            ),
        ):
            if abs(got - float(wrong)) < 1e-6 and abs(right - float(wrong)) > 1e-6:
                raise Hint(hint)
        if abs(got - right) > 1e-6:
            raise Hint(
                f"For the values {', '.join(f'{v:.3g}' for v in values.tolist())} and absmax {absmax:g} you gave {got:.4g}. "
                "Which weight is furthest from all values?"
            )
    return "In NF4 that is between -1 and -0.70, where weights are rare."


@exercise(2, "Add up codes, scales, and the scales of the scales.")
def bytes_of_nf4(answer):
    n = 16_384 * 6
    for block, group in ((64, 256), (32, 512)):
        got, right = call(answer, n, block, group), n // 2 + n // block + 4 * n // (block * group)
        known = (
            (8 * right, "That is bits. Divide by 8."),
            (n // 2, f"Those are the codes alone. Each block of {block} also has a scale."),
            (
                n // 2 + n // block,
                f"Each {group} scales share a scale of their own, in four bytes.",
            ),
            (
                n // 2 + 4 * n // block,
                "That is without double quantisation: the scales take one byte each, not four.",
            ),
            (
                n // 2 + 4 * n // block + 4 * n // (block * group),
                "The scales of the blocks take one byte each after double quantisation, not four.",
            ),
            (
                n // 2 + n // block + n // (block * group),
                "The scales of the scales stay in 32 bits: four bytes each.",
            ),
            (
                n // 2 + n // block + 4 * n // group,
                "There is one second scale for a group of blocks, so for block * group weights.",
            ),
            (n + n // block + 4 * n // (block * group), "Two 4-bit codes share one byte."),
            (
                n // 2 + n // 64 + 4 * n // (64 * 256),
                "Right for blocks of 64 in groups of 256 only. Use `block` and `group`.",
            ),
        )
        if abs(got - right) < 1e-6:
            continue
        for wrong, hint in known:
            if abs(got - wrong) < 1e-6:
                raise Hint(hint)
        raise Hint(
            f"For {n:,} weights, blocks of {block} and groups of {group} you gave {got:,}. Half a byte each, one byte a block, four bytes "
            "a group."
        )
    if abs(call(answer, 2 * n, 64, 256) - 2 * (n // 2 + n // 64 + 4 * n // (64 * 256))) > 1e-6:
        raise Hint("Right for this matrix, wrong for one of twice the size.")
    return "Larger blocks save bytes, and one large weight then spoils more of its neighbours."


class Layer(nn.Module):
    """Stands in for a 4-bit linear layer with LoRA: the base's codes are bytes."""

    def __init__(self):
        super().__init__()
        self.base_layer = nn.Module()
        self.base_layer.weight = nn.Parameter(
            torch.zeros(64, 1, dtype=torch.uint8), requires_grad=False
        )
        self.lora_A, self.lora_B = nn.Linear(8, 2, bias=False), nn.Linear(2, 16, bias=False)


def toy_model():
    """Embeddings, two layers, a norm and a head, as a checkpoint leaves them: floats require gradients."""
    return nn.ModuleDict(
        {
            "embed_tokens": nn.Embedding(10, 8),
            "first": Layer(),
            "second": Layer(),
            "norm": nn.LayerNorm(8),
            "lm_head": nn.Linear(8, 10),
        }
    )


@exercise(3, "Switch gradients on for A and B and off for everything else.")
def prepare_model(answer):
    got = None
    for start in (True, False):  # with the floats switched on, then off
        model = toy_model()
        for p in model.parameters():
            p.requires_grad_(start and p.is_floating_point())
        try:
            got = call(answer, model)
        except RuntimeError as error:
            if "floating point" in str(error):
                raise Hint(
                    "You asked for the gradient of 4-bit codes. They are whole numbers; only floating-point tensors can have one."
                ) from error
            raise
        if not isinstance(got, nn.Module):
            raise Hint("Return the model.")
        on = {name for name, p in got.named_parameters() if p.requires_grad}
        lora = {name for name, _ in got.named_parameters() if "lora_" in name}
        if not on:
            raise Hint("Nothing trains now. A and B must, whatever they were set to before.")
        if on < lora:
            raise Hint(
                f"Only {len(on)} of the {len(lora)} adapter matrices train. Both A and B must, in every layer."
            )
        if on > lora:
            raise Hint(
                f"{', '.join(sorted(on - lora))} would train too. Embeddings, norms and head stay frozen."
            )
        if on != lora:
            raise Hint(
                "Not the right ones: exactly the parameters with lora_A or lora_B in their names."
            )
    return "In a real model peft does this for you; count what trains before you start."
