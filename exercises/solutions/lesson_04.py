"""Solutions of lesson 04. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count_parameters": "def answer(d, m, blocks, each):\n    return blocks * each * (2 * m * d + d + m) + (2 * blocks + 1) * d",
    "place_adapter": "def answer(x, norm, sublayer, adapter):\n    return x + adapter(sublayer(norm(x)))",
    "start_as_identity": """def answer(adapter):
    adapter.up.weight.data.zero_()
    adapter.up.bias.data.zero_()
    return adapter""",
}

WRONG = {
    "count_parameters": [
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * (2 * m * d + d + m)",
            "norms are missing",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * (2 * m * d + d + m) + 2 * blocks * d",
            "One norm is missing",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * 2 * m * d + (2 * blocks + 1) * d",
            "biases are missing",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * (m * d + m) + (2 * blocks + 1) * d",
            "way down only",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * (2 * m * d + d + m) + (2 * blocks + 1) * d",
            "one adapter a block",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * (2 * m * d + d + m) + (2 * blocks + 1) * 2 * d",
            "as a LayerNorm has",
        ),
        (
            "def answer(d, m, blocks, each):\n    return blocks * each * (2 * m * d + d + m + d * d) + (2 * blocks + 1) * d",
            "is frozen",
        ),
        (
            "def answer(d, m, blocks, each):\n    return 2 * blocks * (2 * m * d + d + m) + (2 * blocks + 1) * d",
            "`each` says",
        ),
        ("def answer(d, m, blocks, each):\n    return 7", "you gave 7"),
    ],
    "place_adapter": [
        ("def answer(x, norm, sublayer, adapter):\n    return x + sublayer(norm(x))", "No adapter"),
        (
            "def answer(x, norm, sublayer, adapter):\n    return adapter(x + sublayer(norm(x)))",
            "after the residual sum",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    h = sublayer(norm(x))\n    return x + h + adapter(h)",
            "comes in twice",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    return adapter(sublayer(norm(x)))",
            "residual is lost",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    return x + adapter(sublayer(x))",
            "norm is missing",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    return x + sublayer(adapter(norm(x)))",
            "before the sublayer",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    h = sublayer(norm(x))\n    return x + adapter(h) - h",
            "h itself got lost",
        ),
        (
            "def answer(x, norm, sublayer, adapter):\n    return norm(x) + adapter(sublayer(norm(x)))",
            "Say the order aloud",
        ),
    ],
    "start_as_identity": [
        ("def answer(adapter):\n    return adapter", "not equal"),
        (
            "def answer(adapter):\n    adapter.up.weight.data.zero_()\n    return adapter",
            "its bias is not",
        ),
        (
            "def answer(adapter):\n    for p in [*adapter.down.parameters(), *adapter.up.parameters()]:\n        p.data.zero_()\n    return adapter",
            "which one?",
        ),
        (
            "def answer(adapter):\n    for p in [*adapter.down.parameters(), adapter.up.bias]:\n        p.data.zero_()\n    return adapter",
            "which one?",
        ),
        (
            "def answer(adapter):\n    for p in [*adapter.down.parameters(), *adapter.up.parameters()]:\n        p.data.normal_(std=1e-2)\n    return adapter",
            "not equal",
        ),
        (
            "def answer(adapter):\n    adapter.linear.weight.data.zero_()\n    return adapter",
            "frozen layer",
        ),
    ],
}
