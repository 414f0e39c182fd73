"""Solutions and plausible mistakes of lesson 04's exercises."""

import torch
from torch import nn


def count(d, m, blocks, each):
    return blocks * each * (2 * m * d + d + m) + (2 * blocks + 1) * d


def set_to(*parts, how=nn.init.zeros_):
    """Fill parts such as "up.weight" of the adapter."""

    def answer(adapter):
        for part in parts:
            how(adapter.get_parameter(part))
        return adapter

    return answer


def small(p):
    return nn.init.normal_(p, std=1e-9)


def frozen(adapter):
    set_to("up.weight", "up.bias")(adapter).down.requires_grad_(False)
    return adapter


def in_place(x, norm, sublayer, adapter):
    return x.add_(adapter(sublayer(norm(x))))


def kaiming(adapter):
    nn.init.kaiming_uniform_(adapter.down.weight)
    with torch.no_grad():
        adapter.up.weight.zero_()
        adapter.up.bias.zero_()
    return adapter


ALL = ("down.weight", "down.bias", "up.weight", "up.bias")

SOLUTIONS = {
    "count_parameters": count,
    "place_adapter": lambda x, norm, sublayer, adapter: x + adapter(sublayer(norm(x))),
    "start_as_identity": [set_to("up.weight", "up.bias"), kaiming],
}

MISTAKES = {
    "count_parameters": [
        ("no norms", lambda d, m, b, e: b * e * (2 * m * d + d + m), "norms are missing"),
        ("last norm", lambda d, m, b, e: count(d, m, b, e) - d, "One norm is missing"),
        ("one norm a block", lambda d, m, b, e: count(d, m, b, e) - b * d, "has two norms"),
        ("one norm", lambda d, m, b, e: count(d, m, b, e) - 2 * b * d, "one norm alone"),
        ("no biases", lambda d, m, b, e: count(d, m, b, e) - b * e * (d + m), "biases of the adapters are missing"),
        ("one bias", lambda d, m, b, e: count(d, m, b, e) - b * e * m, "Both ways have a bias"),
        ("down", lambda d, m, b, e: count(d, m, b, e) - b * e * (m * d + d), "way down only"),
        ("up", lambda d, m, b, e: count(d, m, b, e) - b * e * (m * d + m), "way up only"),
        ("one a block", lambda d, m, b, e: count(d, m, b, 1), "`each` of them"),
        ("two a block", lambda d, m, b, e: count(d, m, b, 2), "two adapters a block, always"),
        ("one block", lambda d, m, b, e: e * (2 * m * d + d + m) + (2 * b + 1) * d, "one block's adapters"),
        ("LayerNorm", lambda d, m, b, e: count(d, m, b, e) + (2 * b + 1) * d, "as a LayerNorm has"),
        ("linear", lambda d, m, b, e: count(d, m, b, e) + b * e * d * d, "is frozen"),
        ("constant", lambda d, m, b, e: 7, "whatever it is given"),
        ("other", lambda d, m, b, e: count(d, m, b, e) + 1, "the norms come on top"),
    ],
    "place_adapter": [
        ("none", lambda x, n, s, a: x + s(n(x)), "No adapter"),
        ("after the sum", lambda x, n, s, a: a(x + s(n(x))), "after the residual sum"),
        ("twice in", lambda x, n, s, a: x + s(n(x)) + a(s(n(x))), "comes in twice"),
        ("no residual", lambda x, n, s, a: a(s(n(x))), "residual is lost"),
        ("no norm", lambda x, n, s, a: x + a(s(x)), "norm is missing"),
        ("before", lambda x, n, s, a: x + s(a(n(x))), "before the sublayer"),
        ("change alone", lambda x, n, s, a: x + a(s(n(x))) - s(n(x)), "h itself got lost"),
        ("of x", lambda x, n, s, a: x + s(n(x)) + a(x), "reads the block's input"),
        ("of norm", lambda x, n, s, a: x + s(n(x)) + a(n(x)), "reads the normed input"),
        ("normed skip", lambda x, n, s, a: n(x) + a(s(n(x))), "carries x itself"),
        ("post-norm", lambda x, n, s, a: x + a(n(s(x))), "norm stands after"),
        ("in place", in_place, "changes `x`"),
        ("minus", lambda x, n, s, a: x - a(s(n(x))), "Say the order aloud"),
        ("shape", lambda x, n, s, a: (x + a(s(n(x))))[0], "you gave the shape [5, 6]"),
    ],
    "start_as_identity": [
        ("as given", lambda adapter: adapter, "should be equal"),
        ("bias left", set_to("up.weight"), "its bias is not"),
        ("all zero", set_to(*ALL), "which one?"),
        ("down zero", set_to("down.weight", "down.bias", "up.bias"), "which one?"),
        ("both weights zero", set_to("down.weight", "up.weight", "up.bias", "down.bias"), "which one?"),
        ("down's weight zero", set_to("down.weight", "up.bias"), "should be equal"),
        ("small", set_to(*ALL, how=small), "should be equal"),
        ("small, bias zero", lambda adapter: set_to("up.bias")(set_to("up.weight", how=small)(adapter)), "Near the identity"),
        ("linear", lambda adapter: set_to("linear.weight")(adapter), "frozen layer"),
        ("frozen", frozen, "switched gradients off"),
        ("another", lambda adapter: nn.Identity(), "Return the adapter itself"),
        ("nan", set_to("up.weight", how=lambda p: nn.init.constant_(p, float("nan"))), "nan"),
    ],
}  # fmt: skip
