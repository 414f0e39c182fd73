"""Solutions and plausible mistakes of lesson 03's exercises."""

import statistics

from torch import nn

CHOOSE = """def answer(runs, slack):
    def mean(lr, column):
        values = [r[column] for r in runs if r["lr"] == lr]
        return sum(values) / len(values)
    rates = sorted({r["lr"] for r in runs})
    best = max(mean(lr, "validation_score") for lr in rates)
    enough = [lr for lr in rates if mean(lr, "validation_score") >= best - slack]
    return max(enough, key=lambda lr: mean(lr, "facts_kept"))"""
SINGLE = """def answer(runs, slack):
    best = max(r["validation_score"] for r in runs)
    enough = [r for r in runs if r["validation_score"] >= best - slack]
    return max(enough, key=lambda r: r["facts_kept"])["lr"]"""


def choose(*changes):
    """The solution's source with some texts replaced."""
    source = CHOOSE
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


def another(runs, slack):
    groups = {}
    for r in runs:
        groups.setdefault(r["lr"], []).append(r)
    score = {lr: statistics.fmean(r["validation_score"] for r in g) for lr, g in groups.items()}
    kept = {lr: statistics.fmean(r["facts_kept"] for r in g) for lr, g in groups.items()}
    return max((kept[lr], lr) for lr in groups if score[lr] >= max(score.values()) - slack)[1]


def bitfit(model):
    for name, p in model.named_parameters():
        p.requires_grad = name.split(".")[-1] == "bias" or name.startswith("classifier.")
    return model


def through_modules(model):
    model.requires_grad_(False)
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.requires_grad_(True)
    model.classifier.requires_grad_(True)
    return model


def by_name(rule, finish=lambda model: model):
    def answer(model):
        for name, p in model.named_parameters():
            p.requires_grad = bool(rule(name, p))
        return finish(model)

    return answer


def only_on(model):
    for name, p in model.named_parameters():
        if name.endswith(".bias") or name.startswith("classifier."):
            p.requires_grad = True
    return model


def only_off(model):
    for name, p in model.named_parameters():
        if not name.endswith(".bias") and not name.startswith("classifier."):
            p.requires_grad = False
    return model


def linear_only(model):
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.requires_grad = True
    model.classifier.requires_grad_(True)
    return model


def zeroed(model):
    bitfit(model).dense.bias.data.zero_()
    return model


SOLUTIONS = {
    "state_bytes": lambda base, adapter: 2 * base + (4 + 4 + 8) * adapter,
    "choose_rate": [CHOOSE, another],
    "bitfit": [bitfit, through_modules],
}

MISTAKES = {
    "state_bytes": [
        ("all mixed", lambda base, adapter: 16 * (base + adapter), "Adam remembers nothing"),
        ("full tuning", lambda base, adapter: 16 * base, "full tuning in mixed precision"),
        ("base in fp32", lambda base, adapter: 4 * base + 16 * adapter, "2 bytes a parameter"),
        ("one missing", lambda base, adapter: 2 * base + 12 * adapter, "One is missing"),
        ("two missing", lambda base, adapter: 2 * base + 8 * adapter, "Two are missing"),
        ("gradients in 16 bits", lambda base, adapter: 2 * base + 14 * adapter, "You gave it less"),
        ("stored", lambda base, adapter: 2 * base + 4 * adapter, "stored at the end"),
        ("master copy", lambda base, adapter: 2 * base + 20 * adapter, "32 bits already"),
        ("18 bytes", lambda base, adapter: 2 * base + 18 * adapter, "32 bits already"),
        ("4 bits", lambda base, adapter: base / 2 + 16 * adapter, "base in 4 bits"),
        ("8 bits", lambda base, adapter: base + 16 * adapter, "base in 8 bits"),
        ("no base", lambda base, adapter: 16 * adapter, "still has to be in memory"),
        ("base alone", lambda base, adapter: 2 * base, "base alone"),
        ("bits", lambda base, adapter: 16 * base + 128 * adapter, "You counted bits"),
        ("parameters", lambda base, adapter: base + adapter, "How many bytes"),
        ("constant", lambda base, adapter: 2160, "whatever it is given"),
        ("adapter twice", lambda base, adapter: 2 * base + 32 * adapter, "Write down"),
        ("GB", lambda base, adapter: (2 * base + 16 * adapter) / 1e9, "it should be 2160"),
    ],
    "choose_rate": [
        (
            "facts alone",
            choose((' if mean(lr, "validation_score") >= best - slack', "")),
            "First the score",
        ),
        (
            "score plus facts",
            choose(
                (
                    'max(enough, key=lambda lr: mean(lr, "facts_kept"))',
                    "max(rates, key=lambda lr: mean(lr, 'validation_score') + "
                    "mean(lr, 'facts_kept'))",
                )
            ),
            "The task has an order",
        ),
        (
            "score times facts",
            choose(
                (
                    'max(enough, key=lambda lr: mean(lr, "facts_kept"))',
                    "max(rates, key=lambda lr: mean(lr, 'validation_score') * "
                    "mean(lr, 'facts_kept'))",
                )
            ),
            "The task has an order",
        ),
        ("test score", choose(("validation_score", "test_score")), "spoils them as a test"),
        ("single runs", SINGLE, "Single runs decide"),
        (
            "best run's score",
            choose(
                (
                    'best = max(mean(lr, "validation_score") for lr in rates)',
                    'best = max(r["validation_score"] for r in runs)',
                )
            ),
            "not the best single run",
        ),
        (
            "seed 0",
            choose(('r["lr"] == lr]', 'r["lr"] == lr and r["seed"] == 0]')),
            "Single runs decide",
        ),
        (
            "best score",
            choose(
                (
                    'max(enough, key=lambda lr: mean(lr, "facts_kept"))',
                    'max(rates, key=lambda lr: mean(lr, "validation_score"))',
                )
            ),
            "another may keep more",
        ),
        ("slack written in", choose(("best - slack", "best - 0.03")), "Use the argument"),
        (
            "relative slack",
            choose(("best - slack", "best * (1 - slack)")),
            "a share of the best score",
        ),
        (
            "medians",
            choose(("sum(values) / len(values)", "sorted(values)[len(values) // 2]")),
            "median of the scores",
        ),
        (
            "smallest learning rate",
            choose(('max(enough, key=lambda lr: mean(lr, "facts_kept"))', "min(enough)")),
            "smallest learning rate",
        ),
        (
            "largest learning rate",
            choose(('max(enough, key=lambda lr: mean(lr, "facts_kept"))', "max(enough)")),
            "largest learning rate",
        ),
        (
            "worst facts",
            choose(
                (
                    'key=lambda lr: mean(lr, "facts_kept")',
                    'key=lambda lr: min(r["facts_kept"] for r in runs if r["lr"] == lr)',
                )
            ),
            "lowest facts kept",
        ),
        (
            "best facts",
            choose(
                (
                    'key=lambda lr: mean(lr, "facts_kept")',
                    'key=lambda lr: max(r["facts_kept"] for r in runs if r["lr"] == lr)',
                )
            ),
            "highest facts kept",
        ),
        ("sums", choose(("sum(values) / len(values)", "sum(values)")), "Take the mean"),
        ("least kept", choose(("return max(", "return min(")), "keeps least"),
        ("strict", choose((">= best - slack", "> best - slack")), "includes it"),
        (
            "strict, None",
            choose(
                (">= best - slack", "> best - slack"),
                ("    return max(", "    if enough:\n        return max("),
            ),
            "includes it",
        ),
        (
            "strict but the best",
            choose((">= best - slack", "> best - slack or mean(lr, 'validation_score') == best")),
            "includes it",
        ),
        (
            "list",
            choose(
                ("return max(enough", "return [max(enough"), ('"facts_kept"))', '"facts_kept"))]')
            ),
            "one number",
        ),
        ("constant", lambda runs, slack: 0.5, "whatever it is given"),
    ],
    "bitfit": [
        (
            "bias in name",
            by_name(lambda n, p: "bias" in n or n.startswith("classifier.")),
            "last part of the name",
        ),
        ("not frozen first", only_on, "frozen first"),
        ("only off", only_off, "came frozen"),
        ("no classifier", by_name(lambda n, p: n.endswith(".bias")), "its weight has to train too"),
        ("no bias", by_name(lambda n, p: n.startswith("classifier.")), "No bias of the body"),
        ("linear layers", linear_only, "norm has a bias"),
        (
            "one dimension",
            by_name(lambda n, p: p.dim() == 1 or n.startswith("classifier.")),
            "but it is a weight",
        ),
        (
            "classifier in name",
            by_name(lambda n, p: n.endswith(".bias") or "classifier" in n),
            "part of the body",
        ),
        ("everything", by_name(lambda n, p: True), "frozen first"),
        ("nothing", by_name(lambda n, p: False), "Nothing trains"),
        ("weights", by_name(lambda n, p: n.endswith("weight")), "should not train"),
        (
            "classifier's weight as Linear",
            by_name(lambda n, p: n.endswith(".bias") or n == "classifier.weight"),
            "its weight has to train too",
        ),
        (
            "list",
            by_name(lambda n, p: n.endswith(".bias"), lambda model: list(model.parameters())),
            "Return the model",
        ),
        ("zeroed", zeroed, "changed the values"),
        ("no return", by_name(lambda n, p: True, lambda model: None), "returned None"),
    ],
}
