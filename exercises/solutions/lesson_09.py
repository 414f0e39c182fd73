"""Solutions of lesson 09. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count": "def answer(p, d, h):\n    return p * d + (d * h + h) + (h * h + h) + (h * d + d), p * d",
    "bake": "def answer(encoder):\n    prompt = encoder().detach()\n    return lambda: prompt",
    "afford": "def answer(numbers, layers, d, kv_heads, head_dim):\n    return numbers // d, numbers // (2 * layers * kv_heads * head_dim)",
}

WRONG = {
    "count": [
        ("def answer(p, d, h):\n    return p * d", "two numbers"),
        (
            "def answer(p, d, h):\n    return (d * h + h) + (h * h + h) + (h * d + d), p * d",
            "trained as well",
        ),
        ("def answer(p, d, h):\n    return p * d + d * h + h * h + h * d, p * d", "bias"),
        ("def answer(p, d, h):\n    return p * d, p * d", "what is stored"),
        (
            "def answer(p, d, h):\n    n = p * d + (d * h + h) + (h * h + h) + (h * d + d)\n    return n, n",
            "not stored",
        ),
        ("def answer(p, d, h):\n    return p * d + 3 * (d * d + d), p * d", "d -> hidden"),
        (
            "def answer(p, d, h):\n    return p * d + (d * h + h) + (h * h + h) + (h * d + d), 640",
            "Use the arguments",
        ),
    ],
    "bake": [
        ("def answer(encoder):\n    return encoder", "still call it"),
        ("def answer(encoder):\n    return encoder().tolist()", "Return a function"),
        ("def answer(encoder):\n    return encoder().detach()", "function that gives it"),
        ("def answer(encoder):\n    return lambda: encoder().detach()", "still call it"),
        ("def answer(encoder):\n    prompt = encoder()\n    return lambda: prompt", "Detach"),
        (
            "def answer(encoder):\n    prompt = encoder().detach() * 0\n    return lambda: prompt",
            "not what the encoder writes",
        ),
    ],
    "afford": [
        ("def answer(n, l, d, k, w):\n    return n // d", "two numbers"),
        ("def answer(n, l, d, k, w):\n    return n / d, n / (2 * l * k * w)", "whole numbers"),
        (
            "def answer(n, l, d, k, w):\n    return -(-n // d), -(-n // (2 * l * k * w))",
            "Round down",
        ),
        (
            "def answer(n, l, d, k, w):\n    return n // (k * w), n // (2 * l * k * w)",
            "as wide as an embedding",
        ),
        ("def answer(n, l, d, k, w):\n    return n // d, n // (2 * l * d)", "grouped-query"),
        ("def answer(n, l, d, k, w):\n    return n // d, n // (l * k * w)", "twice"),
        ("def answer(n, l, d, k, w):\n    return n // d, n // (2 * k * w)", "one layer"),
        (
            "def answer(n, l, d, k, w):\n    return n // d, round(n / (2 * l * k * w) + 0.5)",
            "Round down",
        ),
        ("def answer(n, l, d, k, w):\n    return n // d, n // l", "What does one virtual token"),
        ("def answer(n, l, d, k, w):\n    return n // d, n // (3 * d)", "wrong for numbers"),
    ],
}
