"""Checks of lesson 06's exercises."""
import torch
from torch import nn

from utils.checks import Hint, call, exercise


@exercise(1, "Give the number of the nearest of the 16 values for each weight, and the scale.")
def quantise_one_block(answer):
    rng = torch.Generator().manual_seed(0)
    values = torch.linspace(-1, 1, 16) ** 3  # any 16 ascending values will do
    block = 0.1 * torch.randn(64, generator=rng) - 0.02
    block[5] = -0.5  # the largest in size is negative
    kept = block.clone()
    got = call(answer, block, values)
    if not (isinstance(got, tuple) and len(got) == 2):
        raise Hint("Return two things: the codes and absmax.")
    codes, absmax = torch.as_tensor(got[0]), float(got[1])
    if not torch.equal(block, kept):
        raise Hint("The block was changed in place. Divide into a new tensor.")
    if abs(absmax - float(block.max())) < 1e-6:
        raise Hint("That is the largest value. The largest in size may be negative: take abs() first.")
    if abs(absmax - 0.5) > 1e-6:
        raise Hint(f"absmax should be 0.5, the largest size in this block; you gave {absmax:.4g}.")
    if codes.shape != block.shape:
        raise Hint(f"One code a weight is wanted, shape [64]; you gave {list(codes.shape)}.")
    if codes.is_floating_point():
        raise Hint("Codes are numbers from 0 to 15, not the values that they stand for.")
    scaled = block / 0.5
    right = (scaled[:, None] - values).abs().argmin(1)
    for wrong, hint in (((block[:, None] - values).abs().argmin(1), "The block was not divided by absmax before the nearest value was looked up."),
                        (torch.bucketize(scaled, values).clamp(max=15), "You took the next value above, not the nearest one: the borders lie half-way between two values."),
                        ((torch.bucketize(scaled, values, right=True) - 1).clamp(min=0), "You took the next value below, not the nearest one: the borders lie half-way between two values."),
                        (((scaled + 1) * 7.5).round().long(), "Those are 16 equal steps. Use the values that you were given.")):
        if torch.equal(codes.long(), wrong) and not torch.equal(wrong, right):
            raise Hint(hint)
    if not torch.equal(codes.long(), right):
        raise Hint(f"{int((codes.long() != right).sum())} of 64 codes are not the nearest value's. Compare |weight / absmax - value| for all 16.")
    return "The largest weight always comes back exactly: its quotient is 1 or -1."


@exercise(2, "Add up codes, scales, and the scales of the scales.")
def bytes_of_nf4(answer):
    n = 16_384 * 6
    got, right = call(answer, n), n // 2 + n // 64 + 4 * n // (64 * 256)
    if abs(got - right) < 1e-6:
        if abs(call(answer, 2 * n) - 2 * right) > 1e-6:
            raise Hint("Right for this matrix, wrong for one of twice the size.")
        return f"{8 * right / n:.3f} bits a weight."
    for wrong, hint in ((8 * right, "That is bits. Divide by 8."), (n // 2, "Those are the codes alone. Each block of 64 also has a scale."),
                        (n // 2 + n // 64, "Each 256 scales share a scale of their own, in four bytes."),
                        (n // 2 + 4 * n // 64, "That is without double quantisation: the scales take one byte each, not four."),
                        (n // 2 + 4 * n // 64 + 4 * n // (64 * 256), "The scales of the blocks take one byte each after double quantisation, not four."),
                        (n // 2 + n // 64 + n // (64 * 256), "The scales of the scales stay in 32 bits: four bytes each."),
                        (n // 2 + n // 64 + 4 * n // 256, "There is one second scale for 256 blocks, so for 64 * 256 weights."),
                        (n + n // 64 + 4 * n // (64 * 256), "Two 4-bit codes share one byte.")):
        if abs(got - wrong) < 1e-6:
            raise Hint(hint)
    raise Hint(f"For {n:,} weights you gave {got:,}. Half a byte each, one byte for 64, four bytes for 64 * 256.")


class Layer(nn.Module):
    """Stands in for a 4-bit linear layer with LoRA: the base's codes are bytes."""

    def __init__(self):
        super().__init__()
        self.base_layer = nn.Module()
        self.base_layer.weight = nn.Parameter(torch.zeros(64, 1, dtype=torch.uint8), requires_grad=False)
        self.lora_A, self.lora_B = nn.Linear(8, 2, bias=False), nn.Linear(2, 16, bias=False)


def toy_model():
    """Embeddings, two layers, a norm and a head, as a checkpoint leaves them: floats require gradients."""
    return nn.ModuleDict({"embed_tokens": nn.Embedding(10, 8), "first": Layer(), "second": Layer(), "norm": nn.LayerNorm(8), "lm_head": nn.Linear(8, 10)})


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
                raise Hint("You asked for the gradient of 4-bit codes. They are whole numbers; only floating-point tensors can have one.") from error
            raise
        if not isinstance(got, nn.Module):
            raise Hint("Return the model.")
        on = {name for name, p in got.named_parameters() if p.requires_grad}
        lora = {name for name, _ in got.named_parameters() if "lora_" in name}
        if not on:
            raise Hint("Nothing trains now. A and B must, whatever they were set to before.")
        if on < lora:
            raise Hint(f"Only {len(on)} of the {len(lora)} adapter matrices train. Both A and B must, in every layer.")
        if on > lora:
            raise Hint(f"{', '.join(sorted(on - lora))} would train too. Embeddings, norms and head stay frozen.")
        if on != lora:
            raise Hint("Not the right ones: exactly the parameters with lora_A or lora_B in their names.")
    return "In a real model peft does this for you; count what trains before you start."
