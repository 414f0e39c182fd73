"""Solutions of lesson 09. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count": "def answer(p, d, h):\n    return p * d + (d * h + h) + (h * h + h) + (h * d + d), p * d",
    "bake": "def answer(encoder):\n    prompt = encoder().detach()\n    return lambda: prompt",
    "versions": "def answer(p, layers, d, kv_heads, head_dim):\n    return p * d, 2 * layers * p * kv_heads * head_dim",
}

WRONG = {
    "count": [
        ("def answer(p, d, h):\n    return p * d", "two numbers"),
        ("def answer(p, d, h):\n    return (d * h + h) + (h * h + h) + (h * d + d), p * d", "trained as well"),
        ("def answer(p, d, h):\n    return p * d + d * h + h * h + h * d, p * d", "bias"),
        ("def answer(p, d, h):\n    return p * d, p * d", "what is stored"),
        ("def answer(p, d, h):\n    n = p * d + (d * h + h) + (h * h + h) + (h * d + d)\n    return n, n", "not stored"),
        ("def answer(p, d, h):\n    return p * d + 3 * (d * d + d), p * d", "d -> hidden"),
        ("def answer(p, d, h):\n    return p * d + (d * h + h) + (h * h + h) + (h * d + d), 640", "Use the arguments"),
    ],
    "bake": [
        ("def answer(encoder):\n    return encoder().detach()", "function that gives it"),
        ("def answer(encoder):\n    return lambda: encoder().detach()", "still call it"),
        ("def answer(encoder):\n    prompt = encoder()\n    return lambda: prompt", "Detach"),
        ("def answer(encoder):\n    prompt = encoder().detach() * 0\n    return lambda: prompt", "not what the encoder writes"),
    ],
    "versions": [
        ("def answer(p, l, d, k, w):\n    return p * d", "two numbers"),
        ("def answer(p, l, d, k, w):\n    return p, 2 * l * p * k * w", "as wide as an embedding"),
        ("def answer(p, l, d, k, w):\n    return p * d, 2 * l * p * d", "grouped-query"),
        ("def answer(p, l, d, k, w):\n    return p * d, l * p * k * w", "twice"),
        ("def answer(p, l, d, k, w):\n    return p * d, 2 * p * k * w", "one layer"),
        ("def answer(p, l, d, k, w):\n    return p * d, 5120", "every layer"),
    ],
}
