"""Solutions and plausible mistakes of lesson 06's exercises."""

import numpy as np


def worst(how=lambda gaps: gaps.max(), finish=lambda gap, absmax: gap / 2 * absmax, first=lambda v: v):
    return lambda values, absmax: finish(how(first(values)[1:] - first(values)[:-1]), absmax)


def switched(rule, finish=lambda model: model, only=None):
    """Set requires_grad of every parameter, or of those for which `only` holds."""

    def answer(model):
        for name, p in model.named_parameters():
            if only is None or only(name, p):
                p.requires_grad_(rule(name, p))
        return finish(model)

    return answer


def freeze_first(model):
    model.requires_grad_(False)
    for name, module in model.named_modules():
        if name.endswith(("lora_A", "lora_B")):
            module.requires_grad_(True)
    return model


def trained_already(model):
    for name, p in model.named_parameters():
        p.requires_grad_("lora_" in name)
        p.data.zero_()
    return model


def nf4(n, block, group):
    return n / 2 + n / block + 4 * n / (block * group)


SOLUTIONS = {
    "worst_error": [worst(), lambda values, absmax: max(b - a for a, b in zip(values, values[1:])) / 2 * absmax,
                    lambda values, absmax: np.diff(values).max() / 2 * absmax],
    "bytes_of_nf4": nf4,
    "prepare_model": [switched(lambda n, p: "lora_" in n), freeze_first],
}

MISTAKES = {
    "worst_error": [
        ("whole gap", worst(finish=lambda gap, absmax: gap * absmax), "whole gap"),
        ("scaled", worst(finish=lambda gap, absmax: gap / 2), "scaled weight"),
        ("divided", worst(finish=lambda gap, absmax: gap / 2 / absmax), "divide by absmax"),
        ("scaled gap", worst(finish=lambda gap, absmax: gap), "gap of the scaled values"),
        ("narrowest", worst(how=lambda gaps: gaps.min()), "narrowest gap"),
        ("mean", worst(how=lambda gaps: gaps.mean()), "mean gap"),
        ("first", worst(how=lambda gaps: gaps[0]), "first gap only"),
        ("last", lambda values, absmax: (values[-1] - values[-2]) / 2 * absmax, "last gap only"),
        ("absolute values", worst(first=lambda v: v.abs()), "absolute values first"),
        ("positive", worst(first=lambda v: v[v >= 0]), "positive values only"),
        ("equal steps", lambda values, absmax: absmax / 16, "it should be near"),
        ("constant", lambda values, absmax: 1.2, "whatever it is given"),
        ("a number for each", lambda values, absmax: (values[1:] - values[:-1]) / 2 * absmax, "Give one number"),
        ("square", worst(finish=lambda gap, absmax: gap / 2 * absmax**2), "furthest from all values"),
    ],
    "bytes_of_nf4": [
        ("bits", lambda n, block, group: 8 * nf4(n, block, group), "That is bits"),
        ("codes", lambda n, block, group: n // 2, "codes alone"),
        ("no second scale", lambda n, block, group: n // 2 + n // block, "scales of the scales are missing"),
        ("no double", lambda n, block, group: n // 2 + 4 * n // block, "without double quantisation"),
        ("four bytes a scale", lambda n, block, group: nf4(n, block, group) + 3 * n // block, "one byte each after"),
        ("one byte a second scale", lambda n, block, group: n // 2 + n // block + n // (block * group), "four bytes each."),
        ("group of weights", lambda n, block, group: n // 2 + n // block + 4 * n // group, "block * group weights"),
        ("byte a code", lambda n, block, group: nf4(n, block, group) + n // 2, "share one byte"),
        ("64 and 256", lambda n, block, group: nf4(n, 64, 256), "groups of 256 only"),
        ("swapped", lambda n, block, group: nf4(n, group, block), "swapped"),
        ("constant", lambda n, block, group: 50712, "whatever it is given"),
        ("n", lambda n, block, group: n, "Half a byte a weight"),
        ("no scales", lambda n, block, group: n // 2 + 4 * n // (block * group), "scales of the blocks are missing"),
    ],
    "prepare_model": [
        ("all", switched(lambda n, p: True), "4-bit codes"),
        ("all floats", switched(lambda n, p: p.is_floating_point()), "would train too"),
        ("A", switched(lambda n, p: "lora_A" in n), "Only 2 of the 4"),
        ("none", switched(lambda n, p: False), "Nothing trains"),
        ("only off", switched(lambda n, p: False, only=lambda n, p: "lora_" not in n), "Nothing trains now. A and B must"),
        ("only on", switched(lambda n, p: True, only=lambda n, p: "lora_" in n), "would train too"),
        ("norms as well", switched(lambda n, p: "lora_" in n or "norm" in n), "norm.bias, norm.weight would train too"),
        ("one layer", switched(lambda n, p: n.startswith("first.lora")), "Only 2 of the 4"),
        ("norm", switched(lambda n, p: "norm" in n), "Not the right ones"),
        ("a number", switched(lambda n, p: "lora_" in n, lambda model: 1), "Return the model"),
        ("zeroed", trained_already, "You changed parameters"),
    ],
}  # fmt: skip
