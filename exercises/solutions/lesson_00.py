"""Solution of lesson 00. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {"share": "def answer(trained, total):\n    return 100 * trained / total"}

WRONG = {
    "share": [
        ("def answer(trained, total):\n    return trained / total", "fraction"),
        ("def answer(trained, total):\n    return 100 * total / trained", "divided the total"),
        (
            "def answer(trained, total):\n    return 100 * trained / (total - trained)",
            "frozen parameters",
        ),
        ("def answer(trained, total):\n    return trained", "2.5 percent"),
        ("def answer(trained, total):\n    return 2.5", "both arguments"),
    ]
}
