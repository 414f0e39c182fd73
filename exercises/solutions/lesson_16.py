"""Solutions of lesson 16 and the mistakes that its checks name."""

LOW = "def answer(wins, total):\n    z, n = 1.96, total\n    p = wins / n\n"
ROOT = "z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5"
LEAKS = "import re\ndef answer(train, test):\n"


def low(text):
    return f"{LOW}    return {text}"


def leaks(key):
    return (
        f"{LEAKS}    key = lambda t: {key}\n    known = {{key(t) for t in train}}\n"
        "    return sum(key(t) in known for t in test)"
    )


WORDS = "re.findall(r'\\w+', t.lower())"

SOLUTIONS = {
    "wilson_low": [
        low(f"(p + z**2 / (2 * n) - {ROOT}) / (1 + z**2 / n)"),
        low("(p + z*z/(2*n) - z * ((p*(1-p) + z*z/(4*n)) / n) ** 0.5) / (1 + z*z/n)"),
    ],
    "leaks": [
        leaks(f"tuple({WORDS})"),
        LEAKS
        + f"    key = lambda t: ' '.join({WORDS})\n"
        + "    return len([t for t in test if key(t) in [key(a) for a in train]])",
    ],
}

MISTAKES = {
    "wilson_low": [
        ("the share", low("p"), "the share itself"),
        ("the upper end", low(f"(p + z**2 / (2 * n) + {ROOT}) / (1 + z**2 / n)"), "upper end"),
        ("the simple interval", low("p - z * (p * (1 - p) / n) ** 0.5"), "simple interval"),
        ("no denominator", low(f"p + z**2 / (2 * n) - {ROOT}"), "denominator"),
        ("no shift", low(f"(p - {ROOT}) / (1 + z**2 / n)"), "centred on the share"),
        (
            "half a root",
            low("(p + z**2 / (2 * n) - z * (p * (1 - p) / n) ** 0.5) / (1 + z**2 / n)"),
            "Under the root",
        ),
        (
            "losses",
            low(f"(1 - p + z**2 / (2 * n) - {ROOT}) / (1 + z**2 / n)"),
            "counted losses",
        ),
        ("a constant", low("0.5"), "whatever it is given"),
    ],
    "leaks": [
        ("as they stand", leaks("t"), "as they stand"),
        ("capitals", leaks("t.lower()"), "punctuation and spaces still do"),
        ("punctuation", leaks("' '.join(re.findall(r'\\w+', t))"), "capitals still do"),
        ("no spaces", leaks(f"''.join({WORDS})"), "removed the spaces"),
        ("no order", leaks(f"frozenset({WORDS})"), "order of the words"),
        (
            "a set",
            LEAKS
            + f"    key = lambda t: ' '.join({WORDS})\n"
            + "    return len({key(t) for t in test} & {key(t) for t in train})",
            "counts them once",
        ),
        (
            "training rows",
            LEAKS
            + f"    key = lambda t: ' '.join({WORDS})\n"
            + "    return sum(key(t) in {key(a) for a in test} for t in train)",
            "Count the test rows",
        ),
        (
            "new rows",
            LEAKS
            + f"    key = lambda t: ' '.join({WORDS})\n"
            + "    return sum(key(t) not in {key(a) for a in train} for t in test)",
            "that are new",
        ),
    ],
}
