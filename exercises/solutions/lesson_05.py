"""Solutions of lesson 05. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count_parameters": "def answer(shapes, rank):\n    return sum(rank * (d_in + d_out) for d_in, d_out in shapes)",
    "merge_weight": "def answer(W0, A, B, alpha, rank):\n    return W0 + alpha / rank * B @ A",
    "switch_adapter": """def answer(W_one, one, two):
    (A1, B1, s1), (A2, B2, s2) = one, two
    return W_one - s1 * B1 @ A1 + s2 * B2 @ A2""",
}

WRONG = {
    "count_parameters": [
        (
            "def answer(shapes, rank):\n    return sum(rank * i * o for i, o in shapes)",
            "multiplied d_in by d_out",
        ),
        (
            "def answer(shapes, rank):\n    return sum(rank * i for i, o in shapes)",
            "only one of the two",
        ),
        (
            "def answer(shapes, rank):\n    return sum(2 * rank * i for i, o in shapes)",
            "Which side has B",
        ),
        (
            "def answer(shapes, rank):\n    return sum(2 * rank * o for i, o in shapes)",
            "Which side has A",
        ),
        (
            "def answer(shapes, rank):\n    for i, o in shapes:\n        return rank * (i + o)",
            "first layer only",
        ),
        (
            "def answer(shapes, rank):\n    return sum(i + o for i, o in shapes)",
            "Where is the rank",
        ),
        (
            "def answer(shapes, rank):\n    return sum(i * o + rank * (i + o) for i, o in shapes)",
            "frozen weight",
        ),
        (
            "def answer(shapes, rank):\n    return sum(8 * (i + o) for i, o in shapes)",
            "grow with the rank",
        ),
    ],
    "merge_weight": [
        ("def answer(W0, A, B, alpha, rank):\n    return W0 + B @ A", "alpha / rank is missing"),
        ("def answer(W0, A, B, alpha, rank):\n    return W0 + alpha * B @ A", "alpha alone"),
        ("def answer(W0, A, B, alpha, rank):\n    return W0 + rank / alpha * B @ A", "upside down"),
        ("def answer(W0, A, B, alpha, rank):\n    return W0 + alpha / rank**0.5 * B @ A", "rsLoRA"),
        ("def answer(W0, A, B, alpha, rank):\n    return W0 + 2 * B @ A", "usual scale of 2"),
        (
            "def answer(W0, A, B, alpha, rank):\n    return W0 + (alpha // rank + 1) * B @ A",
            "usual scale of 2",
        ),
        (
            "def answer(W0, A, B, alpha, rank):\n    B *= alpha / rank\n    return W0 + B @ A",
            "B was changed in place",
        ),
        ("def answer(W0, A, B, alpha, rank):\n    return alpha / rank * B @ A", "change alone"),
        (
            "def answer(W0, A, B, alpha, rank):\n    W0 += alpha / rank * B @ A\n    return W0",
            "W0 was changed in place",
        ),
        (
            "def answer(W0, A, B, alpha, rank):\n    return W0 + alpha / rank * A @ B",
            "RuntimeError",
        ),
        ("def answer(W0, A, B, alpha, rank):\n    return W0.T + alpha / rank * A.T @ B.T", "shape"),
    ],
    "switch_adapter": [
        ("def answer(W, one, two):\n    return W + two[2] * two[1] @ two[0]", "Both adapters"),
        (
            "def answer(W, one, two):\n    return W + one[2] * one[1] @ one[0] - two[2] * two[1] @ two[0]",
            "wrong way round",
        ),
        (
            "def answer(W, one, two):\n    return W - one[2] * one[1] @ one[0] - two[2] * two[1] @ two[0]",
            "The second has to go in",
        ),
        (
            "def answer(W, one, two):\n    return W - two[2] * one[1] @ one[0] + one[2] * two[1] @ two[0]",
            "swapped",
        ),
        ("def answer(W, one, two):\n    return W", "still the weight of task one"),
        (
            "def answer(W, one, two):\n    W -= one[2] * one[1] @ one[0]\n    W += two[2] * two[1] @ two[0]\n    return W",
            "in place",
        ),
        ("def answer(W, one, two):\n    return W - one[2] * one[1] @ one[0]", "That is the base"),
        (
            "def answer(W, one, two):\n    return W - one[1] @ one[0] + two[1] @ two[0]",
            "scales are missing",
        ),
    ],
}
