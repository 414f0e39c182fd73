"""Solutions of lesson 11. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "decide_winner": """import statistics
def answer(a, b):
    d = [x - y for x, y in zip(a, b)]
    mean, half = statistics.mean(d), 2.776 * statistics.stdev(d) / 5 ** 0.5
    return "a" if mean - half > 0 else "b" if mean + half < 0 else "undecided\"""",
    "count_storage": "def answer(base_bytes, adapter_bytes, tasks):\n    return tasks * base_bytes, base_bytes + tasks * adapter_bytes",
    "report_honestly": """import statistics
def answer(runs):
    def mean(lr, column):
        return statistics.mean(r[column] for r in runs if r["lr"] == lr)
    best = max({r["lr"] for r in runs}, key=lambda lr: mean(lr, "validation"))
    return mean(best, "test")""",
}

_MEAN = "import statistics\ndef answer(a, b):\n    d = [x - y for x, y in zip(a, b)]\n    m, s = statistics.mean(d), statistics.stdev(d)\n    "

WRONG = {
    "decide_winner": [
        ("def answer(a, b):\n    return 'a' if sum(a) > sum(b) else 'b'", "means alone"),
        (
            "def answer(a, b):\n    return 'a' if sum(x > y for x, y in zip(a, b)) > 2 else 'b'",
            "wins more seeds",
        ),
        (
            "import statistics\ndef answer(a, b):\n    gap = statistics.mean(a) - statistics.mean(b)\n    s = statistics.stdev(a) + statistics.stdev(b)\n"
            "    return 'a' if gap > s else 'b' if -gap > s else 'undecided'",
            "fourth case is decided",
        ),
        (
            _MEAN
            + "return 'b' if m > 2.776 * s / 5 ** .5 else 'a' if -m > 2.776 * s / 5 ** .5 else 'undecided'",
            "wrong way round",
        ),
        (_MEAN + "return 'a' if m > 0.3 * s else 'b' if -m > s else 'undecided'", "leave open"),
        (
            _MEAN
            + "return 'a' if m >= 2.776 * s / 5 ** .5 else 'b' if -m > 2.776 * s / 5 ** .5 else 'undecided'",
            "exactly equal",
        ),
        ("def answer(a, b):\n    return 'A'", "the answers are"),
    ],
    "count_storage": [
        ("def answer(b, a, t):\n    return b, b + t * a", "whole model of its own"),
        ("def answer(b, a, t):\n    return b + t * b, b + t * a", "no separate base"),
        ("def answer(b, a, t):\n    return t * b, t * a", "Where is the base"),
        ("def answer(b, a, t):\n    return t * b, t * (a + b)", "held once"),
        ("def answer(b, a, t):\n    return t * b, a + b", "adapter of its own"),
        ("def answer(b, a, t):\n    return b + t * a, t * b", "swapped"),
        ("def answer(b, a, t):\n    return 3 * b, b + 3 * a", "wrong for fifty"),
        ("def answer(b, a, t):\n    return t * b", "two numbers"),
    ],
    "report_honestly": [
        ("def answer(runs):\n    return max(r['test'] for r in runs)", "luckiest"),
        (
            "def answer(runs):\n    return max(runs, key=lambda r: r['validation'])['test']",
            "one run with the best validation",
        ),
        (
            "import statistics\ndef answer(runs):\n    lr = max(runs, key=lambda r: r['validation'])['lr']\n    return statistics.mean(r['test'] for r in runs if r['lr'] == lr)",
            "single lucky validation score",
        ),
        (
            "import statistics\ndef answer(runs):\n    return statistics.mean(r['test'] for r in runs)",
            "both rates",
        ),
        (
            "def answer(runs):\n    return max(r['test'] for r in runs if r['lr'] == 1e-3)",
            "Its best seed is luck",
        ),
        (
            "import statistics\ndef answer(runs):\n    return statistics.mean(r['validation'] for r in runs if r['lr'] == 1e-3)",
            "flatter it",
        ),
        (
            "import statistics\ndef answer(runs):\n    return statistics.mean(r['test'] for r in runs if r['lr'] == 1e-3)",
            "StatisticsError",
        ),
        (
            """def answer(runs):
    best = {}
    for r in runs:
        best.setdefault(r["lr"], []).append(r)
    mine = max(best.values(), key=lambda rs: sum(r["validation"] for r in rs))
    return sum(r["test"] for r in mine) / 5""",
            "wrong for others",
        ),
    ],
}
