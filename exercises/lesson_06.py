"""Checks of lesson 06's exercises."""

import torch
from torch import nn

from utils.checks import Hint, call, compare, exercise

# The 16 values of NF4, as the lesson computes them.
NF4 = (-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.09105, 0.0,
       0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.562617, 0.7229568, 1.0)  # fmt: skip


@exercise(1, "Give the largest error that rounding can make in such a block.")
def worst_error(answer):
    def gaps(v):
        return v[1:] - v[:-1]

    compare(
        answer,
        lambda v, absmax: (gaps(v).max() / 2 * absmax).item(),
        {
            "the values -1, -0.5, 0, 0.2, 1 and absmax = 3": (torch.tensor([-1.0, -0.5, 0.0, 0.2, 1.0]), 3.0),
            "the values of NF4 and absmax = 0.5": (torch.tensor(NF4), 0.5),
            "the values -1, -0.9, -0.2, 0.5, 0.8, 1 and absmax = 2": (torch.tensor([-1.0, -0.9, -0.2, 0.5, 0.8, 1.0]), 2.0),
            "the values -1, -0.3, -0.1, 0.1, 1 and absmax = 0.1": (torch.tensor([-1.0, -0.3, -0.1, 0.1, 1.0]), 0.1),
            "the values -1, -0.05, 0.7, 0.8, 1 and absmax = 1.5": (torch.tensor([-1.0, -0.05, 0.7, 0.8, 1.0]), 1.5),
            "the values -1, 1 and absmax = 1": (torch.tensor([-1.0, 1.0]), 1.0),
        },
        [
            ("That is the whole gap. A weight in its middle is half a gap away from either value.", lambda v, a: gaps(v).max() * a),
            ("That is the error of the scaled weight. Dequantising multiplies it by absmax.", lambda v, a: gaps(v).max() / 2),
            ("You divide by absmax. Dequantising multiplies by it.", lambda v, a: gaps(v).max() / 2 / a),
            ("That is the gap of the scaled values. Half of it, times absmax, is the error.", lambda v, a: gaps(v).max()),
            ("That is the narrowest gap. The error is largest where neighbours are furthest apart.", lambda v, a: gaps(v).min() / 2 * a),
            ("That is the mean gap, as if the values were equally spaced. They are not.", lambda v, a: gaps(v).mean() / 2 * a, lambda v, a: a / (len(v) - 1)),
            ("That is the median gap. The largest error comes from the widest one.", lambda v, a: gaps(v).median() / 2 * a),
            ("You looked at the first gap only. Which gap is the widest?", lambda v, a: (v[1] - v[0]) / 2 * a),
            ("You looked at the last gap only. Which gap is the widest?", lambda v, a: (v[-1] - v[-2]) / 2 * a),
            ("You looked at the outermost gaps only. The widest may be inside.", lambda v, a: max(v[1] - v[0], v[-1] - v[-2]) / 2 * a),
            ("You took the absolute values first, and with them the order of the values got lost. The gaps are between neighbours with their signs.", lambda v, a: gaps(v.abs()).max() / 2 * a, lambda v, a: gaps(v.abs()).abs().max() / 2 * a, lambda v, a: gaps(v.abs().sort().values).max() / 2 * a),
            ("You looked at the positive values only.", lambda v, a: gaps(v[v >= 0]).max() / 2 * a),
            ("That is the spacing of a number format with equal steps.", lambda v, a: 2 * a / len(v), lambda v, a: a / len(v)),
            ("That is the distance from zero. The error is the distance to the nearest value.", lambda v, a: v.abs()[v != 0].min() / 2 * a),
        ],
        form="one number",
        advice="Which weight is furthest from all values?",
    )  # fmt: skip
    return "In NF4 that is between -1 and -0.70, where weights are rare."


@exercise(2, "Add up codes, scales, and the scales of the scales.")
def bytes_of_nf4(answer):
    n = 16_384 * 6
    compare(
        answer,
        lambda n, block, group: n // 2 + n // block + 4 * n // (block * group),
        [(n, 64, 256), (n, 32, 512), (2 * n, 64, 256), (n, 128, 128)],
        [
            ("That is bits. Divide by 8.", lambda n, b, g: 4 * n + 8 * n // b + 32 * n // (b * g)),
            ("Those are the codes alone. Each block also has a scale.", lambda n, b, g: n // 2),
            ("The scales of the scales are missing: each group of scales shares one, in four bytes.", lambda n, b, g: n // 2 + n // b),
            ("That is without double quantisation: the scales take one byte each, not four.", lambda n, b, g: n // 2 + 4 * n // b),
            ("The scales of the blocks take one byte each after double quantisation, not four.", lambda n, b, g: n // 2 + 4 * n // b + 4 * n // (b * g)),
            ("The scales of the scales stay in 32 bits: four bytes each.", lambda n, b, g: n // 2 + n // b + n // (b * g)),
            ("The scales of the scales stay in 32 bits: four bytes each, not two.", lambda n, b, g: n // 2 + n // b + 2 * n // (b * g)),
            ("There is one second scale for a group of blocks, so for block * group weights.", lambda n, b, g: n // 2 + n // b + 4 * n // g),
            ("Two 4-bit codes share one byte.", lambda n, b, g: n + n // b + 4 * n // (b * g)),
            ("You counted four bytes a code. A code has 4 bits, half a byte.", lambda n, b, g: 4 * n + n // b + 4 * n // (b * g)),
            ("You counted two bytes a weight: that is the matrix before it was quantised.", lambda n, b, g: 2 * n, lambda n, b, g: 2 * n + n // b + 4 * n // (b * g)),
            ("Right for blocks of 64 in groups of 256 only. Use `block` and `group`.", lambda n, b, g: n // 2 + n // 64 + 4 * n // (64 * 256)),
            ("Block and group are swapped: `block` weights make a block, `group` blocks a group.", lambda n, b, g: n // 2 + n // g + 4 * n // (b * g)),
            ("The scales of the blocks are missing: one byte each.", lambda n, b, g: n // 2 + 4 * n // (b * g)),
        ],
        form="one number of bytes",
        advice="Half a byte a weight, one byte a block, four bytes a group.",
    )  # fmt: skip
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
    for start in ("on", "off", "mixed"):  # how the floats come
        model = toy_model()
        for n, p in enumerate(model.parameters()):
            p.requires_grad_(p.is_floating_point() and start != "off" and (start == "on" or n % 2 == 0))
        came = f" This time the model came with gradients {start}." if start != "on" else ""
        values = {n: p.detach().clone() for n, p in model.named_parameters()}
        try:
            got = call(answer, model, changes=True)
        except RuntimeError as error:
            if "floating point" in str(error):
                raise Hint(
                    "You asked for the gradient of 4-bit codes. They are whole numbers; only floating-point tensors can have one."
                ) from error
            raise
        if got is not model:
            raise Hint("Return the model that you were given, changed in place.")
        now = dict(model.named_parameters())
        if set(now) != set(values) or any(not torch.equal(p, values[n]) for n, p in now.items()):
            raise Hint("You changed parameters. Only requires_grad should change.")
        on = {name for name, p in now.items() if p.requires_grad}
        lora = {name for name in now if "lora_" in name}
        if on == lora:
            continue
        if not on:
            raise Hint("Nothing trains now. A and B must, whatever they were set to before." + came)
        if not on & lora:
            raise Hint(f"Not the right ones: {', '.join(sorted(on))} would train. It should be exactly the parameters with lora_A or lora_B in their names." + came)
        if on < lora:
            raise Hint(f"Only {len(on)} of the {len(lora)} adapter matrices train. Both A and B must, in every layer." + came)
        if on > lora:
            raise Hint(f"{', '.join(sorted(on - lora))} would train too. Embeddings, norms and head stay frozen." + came)
        raise Hint(f"{', '.join(sorted(lora - on))} should train and does not; {', '.join(sorted(on - lora))} should not train." + came)
    return "In a real model peft does this for you; count what trains before you start."
