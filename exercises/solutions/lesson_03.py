"""Solutions of lesson 03. A source defines `answer`, which the notebook's cell would hand to the check."""

CHOOSE = """def answer(runs, slack):
    def mean(lr, column):
        values = [r[column] for r in runs if r["lr"] == lr]
        return sum(values) / len(values)
    rates = sorted({r["lr"] for r in runs})
    best = max(mean(lr, "validation_score") for lr in rates)
    enough = [lr for lr in rates if mean(lr, "validation_score") >= best - slack]
    return max(enough, key=lambda lr: mean(lr, "facts_kept"))"""
BITFIT = """def answer(model):
    for name, p in model.named_parameters():
        p.requires_grad = name.split(".")[-1] == "bias" or name.startswith("classifier.")
    return model"""

SOLUTIONS = {
    "state_bytes": "def answer(base, adapter):\n    return 2 * base + (4 + 4 + 8) * adapter",
    "choose_rate": CHOOSE,
    "bitfit": BITFIT,
}

WRONG = {
    "state_bytes": [
        ("def answer(base, adapter):\n    return 16 * (base + adapter)", "Adam remembers nothing"),
        ("def answer(base, adapter):\n    return 16 * base", "full tuning in mixed precision"),
        ("def answer(base, adapter):\n    return 4 * base + 16 * adapter", "2 bytes a parameter"),
        ("def answer(base, adapter):\n    return 2 * base + 12 * adapter", "One is missing"),
        ("def answer(base, adapter):\n    return 2 * base + 8 * adapter", "Two are missing"),
        ("def answer(base, adapter):\n    return 2 * base + 4 * adapter", "stored at the end"),
        ("def answer(base, adapter):\n    return 2 * base + 20 * adapter", "32 bits already"),
        ("def answer(base, adapter):\n    return 2 * base + 18 * adapter", "32 bits alone"),
        ("def answer(base, adapter):\n    return 2 * base + 14 * adapter", "4 bytes each"),
        ("def answer(base, adapter):\n    return base / 2 + 16 * adapter", "base in 4 bits"),
        ("def answer(base, adapter):\n    return 16 * adapter", "still has to be in memory"),
        ("def answer(base, adapter):\n    return 2 * base", "base alone"),
        ("def answer(base, adapter):\n    return 2160", "Write down"),
    ],
    "choose_rate": [
        (CHOOSE.replace('if mean(lr, "validation_score") >= best - slack', ""), "first the score"),
        (CHOOSE.replace("validation_score", "test_score"), "spoils them as a test"),
        (
            CHOOSE.replace(
                'max(mean(lr, "validation_score") for lr in rates)',
                'max(r["validation_score"] for r in runs)',
            ),
            "Did single runs decide",
        ),
        (
            CHOOSE.replace('r["lr"] == lr]', 'r["lr"] == lr and r["seed"] == 0]'),
            "Did single runs decide",
        ),
        (
            "def answer(runs, slack):\n    best = max(r['validation_score'] for r in runs)\n    return max((r for r in runs if r['validation_score'] >= best - slack), "
            "key=lambda r: r['facts_kept'])['lr']",
            "Did single runs decide",
        ),
        (
            CHOOSE.replace(
                'max(enough, key=lambda lr: mean(lr, "facts_kept"))',
                'max(rates, key=lambda lr: mean(lr, "validation_score"))',
            ),
            "another keeps more",
        ),
        (CHOOSE.replace("best - slack", "best - 0.03"), "Use the argument"),
        (
            CHOOSE.replace("sum(values) / len(values)", "sorted(values)[len(values) // 2]"),
            "its mean is not",
        ),
        (
            CHOOSE.replace("return max(enough", "return [max(enough").replace(
                '"facts_kept"))', '"facts_kept"))]'
            ),
            "Give the rate itself",
        ),
        ("def answer(runs, slack):\n    return 0.5", "none of the rates"),
    ],
    "bitfit": [
        (
            BITFIT.replace('name.split(".")[-1] == "bias"', '"bias" in name'),
            "last part of the name",
        ),
        (
            "def answer(model):\n    for name, p in model.named_parameters():\n        if name.endswith('.bias') or 'classifier' in name:\n"
            "            p.requires_grad = True\n    return model",
            "frozen first",
        ),
        (
            "def answer(model):\n    for name, p in model.named_parameters():\n        if not name.endswith('.bias') and 'classifier' not in name:\n"
            "            p.requires_grad = False\n    return model",
            "came frozen",
        ),
        (BITFIT.replace(' or name.startswith("classifier.")', ""), "its weight has to train too"),
        (BITFIT.replace('name.split(".")[-1] == "bias" or ', ""), "No bias of the linear layers"),
        (
            "def answer(model):\n    model.requires_grad_(False)\n    for m in model.modules():\n        if type(m).__name__ == 'Linear' and m.bias is not None:\n"
            "            m.bias.requires_grad = True\n    model.classifier.requires_grad_(True)\n    return model",
            "norm has a bias",
        ),
        (BITFIT.replace("return model", "return list(model.parameters())"), "Return the model"),
        (
            BITFIT.replace("return model", "model.dense.bias.data.zero_()\n    return model"),
            "changed the values",
        ),
    ],
}
