"""Solutions and plausible mistakes of lesson 09's exercises."""

import copy

import torch
from torch import nn


def trained(p, d, h):
    return p * d + (d * h + h) + (h * h + h) + (h * d + d)


def bake(encoder):
    prompt = encoder().detach()
    return lambda: prompt


class Baked(nn.Module):
    def __init__(self, prompt):
        super().__init__()
        self.prompt = nn.Parameter(prompt)

    def forward(self):
        return self.prompt


def with_graph(encoder):
    prompt = encoder()
    return lambda: prompt


def afford(numbers, layers, d, kv_heads, head_dim):
    return numbers // d, numbers // (2 * layers * kv_heads * head_dim)


SOLUTIONS = {
    "count": lambda p, d, h: (trained(p, d, h), p * d),
    "bake": [bake, lambda encoder: Baked(encoder().detach().clone()),
             lambda encoder: (lambda kept=encoder().tolist(): torch.tensor(kept))],
    "afford": [afford, lambda n, layers, d, kv, w: (float(n // d), float(n // (2 * layers * kv * w)))],
}

MISTAKES = {
    "count": [
        ("one number", lambda p, d, h: p * d, "two numbers"),
        ("no inputs", lambda p, d, h: (trained(p, d, h) - p * d, p * d), "trained as well"),
        ("no biases", lambda p, d, h: (p * d + d * h + h * h + h * d, p * d), "has a bias, too"),
        ("weights alone", lambda p, d, h: (d * h + h * h + h * d, p * d), "Neither the biases"),
        ("equal biases", lambda p, d, h: (p * d + d * h + h * h + h * d + 3 * h, p * d), "as long as its output"),
        ("stored twice", lambda p, d, h: (p * d, p * d), "what is stored"),
        ("encoder stored", lambda p, d, h: (trained(p, d, h),) * 2, "not stored"),
        ("all d", lambda p, d, h: (p * d + 3 * (d * d + d), p * d), "d inputs and d outputs"),
        ("two layers", lambda p, d, h: (trained(p, d, h) - h * h - h, p * d), "MLP of two layers"),
        ("an MLP each", lambda p, d, h: (p * trained(1, d, h), p * d), "one MLP for all"),
        ("640", lambda p, d, h: (trained(p, d, h), 640), "stored is wrong: you gave 640"),
        ("swapped", lambda p, d, h: (p * d, trained(p, d, h)), "swapped: trained comes first"),
        ("width", lambda p, d, h: (trained(p, d, h), p * h), "width of an embedding"),
    ],
    "bake": [
        ("encoder", lambda encoder: encoder, "still call it"),
        ("list", lambda encoder: encoder().tolist(), "That is the prompt itself"),
        ("prompt", lambda encoder: encoder().detach(), "That is the prompt itself"),
        ("calls it", lambda encoder: lambda: encoder().detach(), "still call it"),
        ("graph", with_graph, "Detach"),
        ("zeros", lambda encoder: (lambda prompt=encoder().detach() * 0: prompt), "not what the encoder writes"),
        ("transposed", lambda encoder: (lambda prompt=encoder().detach().T: prompt), "should have the shape"),
        ("inside none", lambda encoder: lambda: None, "gives None"),
        ("needs an argument", lambda encoder: lambda x: encoder().detach(), "is called with 0 arguments"),
        ("number", lambda encoder: 3, "Return a function"),
        ("copy of the encoder", lambda encoder: copy.copy(encoder), "still call it"),
    ],
    "afford": [
        ("one", lambda n, layers, d, kv, w: n // d, "two numbers"),
        ("parts", lambda n, layers, d, kv, w: (n / d, n / (2 * layers * kv * w)), "whole numbers"),
        ("rounded up", lambda n, layers, d, kv, w: (-(-n // d), -(-n // (2 * layers * kv * w))), "Round down"),
        ("v1 up", lambda n, layers, d, kv, w: (-(-n // d), n // (2 * layers * kv * w)), "Round down"),
        ("v1 narrow", lambda n, layers, d, kv, w: (n // (kv * w), n // (2 * layers * kv * w)), "as wide as an embedding"),
        ("v1 in layers", lambda n, layers, d, kv, w: (n // (layers * d), n // (2 * layers * kv * w)), "not in every layer"),
        ("v2 wide", lambda n, layers, d, kv, w: (n // d, n // (2 * layers * d)), "grouped-query"),
        ("v2 keys", lambda n, layers, d, kv, w: (n // d, n // (layers * kv * w)), "twice"),
        ("v2 one layer", lambda n, layers, d, kv, w: (n // d, n // (2 * kv * w)), "counted one layer"),
        ("v2 up", lambda n, layers, d, kv, w: (n // d, n // (2 * layers * kv * w) + 1), "Round down"),
        ("v2 layers", lambda n, layers, d, kv, w: (n // d, n // layers), "What does one virtual token"),
        ("swapped", lambda *a: afford(*a)[::-1], "swapped: v1 comes first"),
    ],
}  # fmt: skip
