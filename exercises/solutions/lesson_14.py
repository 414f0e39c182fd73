"""Solutions of lesson 14. A source defines `answer`, which the notebook's cell would hand to the check."""

HEAD = "def answer(prompt, rated):\n    return [{'prompt': prompt, 'chosen': a, 'rejected': b} for "
GRAD = "import math\ndef sigma(x):\n    return 1 / (1 + math.exp(-x))\ndef answer(c, r, rc, rr, beta):\n    m = beta * ((c - rc) - (r - rr))\n    "
RUN = "def answer(first_loss, accuracy, chosen_change, rejected_change):\n"

SOLUTIONS = {
    "pairs_from_ratings": HEAD + "a, s in rated for b, t in rated if s > t]",
    "gradient": GRAD + "g = beta * sigma(-m)\n    return -g, g",
    "diagnose": RUN
    + """    if abs(first_loss - 0.6931) > 0.01:
        return "wrong reference"
    if accuracy < 0.5:
        return "swapped"
    return "degenerate" if chosen_change < -20 else "healthy\"""",
}

WRONG = {
    "pairs_from_ratings": [
        (HEAD + "a, s in rated for b, t in rated if s >= t and a != b]", "equal ratings"),
        (HEAD + "a, s in rated for b, t in rated if s < t]", "rejected answer has the higher"),
        (HEAD + "a, s in rated for b, t in rated if s >= t]", "same answer twice"),
        (
            HEAD
            + "a, b in [(max(rated, key=lambda p: p[1])[0], min(rated, key=lambda p: p[1])[0])]]",
            "Compare every two",
        ),
        (HEAD + "a, s in rated for b, t in rated if s > t] * 2", "twice"),
        (
            "def answer(prompt, rated):\n    rated.sort(key=lambda p: p[1])\n    return []",
            "changed the list",
        ),
        (
            "def answer(prompt, rated):\n    return [(a, b) for a, s in rated for b, t in rated if s > t]",
            "list of dicts",
        ),
        (
            "def answer(prompt, rated):\n    return [{'prompt': prompt, 'chosen': s, 'rejected': t} for a, s in rated for b, t in rated if s > t]",
            "not their ratings",
        ),
        (
            HEAD + "a, b in (('b', 'a'), ('b', 'c'), ('b', 'd'), ('a', 'd'), ('c', 'd'))]",
            "Right for the first question",
        ),
    ],
    "gradient": [
        (GRAD + "g = beta * sigma(-m)\n    return g, -g", "wrong way round"),
        (GRAD + "g = beta * sigma(-m)\n    return -g, -g", "same sign"),
        (GRAD + "g = sigma(-m)\n    return -g, g", "factor beta"),
        (GRAD + "g = beta * sigma(m)\n    return -g, g", "sigma of the margin"),
        (GRAD + "g = beta * sigma(-beta * (c - r))\n    return -g, g", "reference is missing"),
        (GRAD + "g = beta * sigma(-m / beta)\n    return -g, g", "inside sigma"),
        (GRAD + "return -beta, beta", "every pair alike"),
        (GRAD + "return -beta * sigma(-m), 0.0", "in the margin too"),
        (GRAD + "g = beta * sigma(m) * sigma(-m)\n    return -g, g", "derivative of sigma"),
        (GRAD + "return -beta * sigma(-m)", "two numbers"),
        (GRAD + "return 0.0, 0.0", "chain rule"),
    ],
    "diagnose": [
        (RUN + "    return 'healthy'", "hardly ever said"),
        (RUN + "    return 'healthy' if accuracy > 0.5 else 'swapped'", "hardly ever said"),
        (RUN + "    return 'degenerate' if accuracy > 0.95 else 'healthy'", "should be one model"),
        (
            RUN
            + "    return 'degenerate' if chosen_change < -10 else 'wrong reference' if first_loss < 0.6 else 'healthy'",
            "rejected answers rose",
        ),
        (
            RUN + "    return 'degenerate' if chosen_change < 0 else 'healthy'",
            "should be one model",
        ),
        (
            RUN
            + "    if first_loss < 0.6:\n        return 'wrong reference'\n    if accuracy < 0.5:\n        return 'swapped'\n"
            "    return 'degenerate' if chosen_change < -20 else 'healthy'",
            "should be one model",
        ),
        (
            RUN
            + "    if abs(first_loss - 0.6931) > 0.01:\n        return 'wrong reference'\n    if accuracy < 0.5:\n        return 'swapped'\n"
            "    return 'degenerate' if chosen_change < 0 else 'healthy'",
            "nothing is wrong",
        ),
        (
            RUN
            + "    if first_loss != 0.6931:\n        return 'wrong reference'\n    if accuracy < 0.5:\n        return 'swapped'\n"
            "    return 'degenerate' if chosen_change < -20 else 'healthy'",
            "but for rounding",
        ),
        (RUN + "    return 'broken'", "Give one of"),
    ],
}
