"""Solutions of lesson 01. A source defines `answer`, which the notebook's cell would hand to the check."""

ROW = "def answer(prompt, said, bos, eos):\n    ids = {ids}\n    return ids, {labels}"
IDS, LABELS = "[bos] + prompt + said + [eos]", "[-100] * (1 + len(prompt)) + said + [eos]"


def row(ids=IDS, labels=LABELS):
    return ROW.format(ids=ids, labels=labels)


def mean(expression):
    return f"def answer(a, b):\n    return {expression}"


CHOOSE = """import statistics

def answer(runs):
    def mean(lr, column):
        return statistics.fmean(r[column] for r in runs if r["lr"] == lr)
    rates = {r["lr"] for r in runs}
    return KEY"""

SOLUTIONS = {
    "row_for_training": [row(), row().replace("return ids, ", "return [ids, ") + "]"],
    "two_batches": mean(
        '(a["loss"] * a["trained"] + b["loss"] * b["trained"]) / (a["trained"] + b["trained"])'
    ),
    "choose_rate": CHOOSE.replace(
        "KEY",
        'max(rates, key=lambda lr: (round(mean(lr, "validation_score"), 9), -mean(lr, "validation_loss")))',
    ),
}

WRONG = {
    "row_for_training": [
        (row(labels="list(ids)"), "Nothing is masked"),
        (row(labels="[-100] * (1 + len(prompt)) + said + [-100]"), "never learn to stop"),
        (
            row(ids="[bos] + prompt + said", labels="[-100] * (1 + len(prompt)) + said"),
            "go on for ever",
        ),
        (
            row(ids="prompt + said + [eos]", labels="[-100] * len(prompt) + said + [eos]"),
            "(bos) is missing",
        ),
        (row(ids="prompt + said", labels="[-100] * len(prompt) + said"), "(bos) and the end (eos)"),
        (row(ids="[bos] + prompt", labels="said + [eos]"), "ids must hold the answer"),
        (row(ids="[bos] + said + prompt + [eos]"), "should be bos, prompt, answer, eos"),
        (
            row(labels="[-100] * len(prompt) + said + [eos, -100]"),
            "You shifted the labels yourself",
        ),
        (row(labels="[-100] * len(prompt) + said + [eos, eos]"), "You shifted the labels yourself"),
        (row(labels="[bos] + [-100] * len(prompt) + said + [eos]"), "first token is not masked"),
        (
            row(labels="[-100] * len(prompt) + prompt[-1:] + said + [eos]"),
            "last token of the prompt",
        ),
        (row(labels="[-100] * (2 + len(prompt)) + said[1:] + [eos]"), "first token of the answer"),
        (row(labels="[0] * (1 + len(prompt)) + said + [eos]"), "masked with 0"),
        (row(labels="[bos] + prompt + [-100] * (len(said) + 1)"), "other way round"),
        (row(labels="said + [eos]"), "Each id needs its label"),
        (row(labels="[-100] * (len(prompt) + len(said) + 2)"), "Which of them should be -100"),
        (
            "def answer(prompt, said, bos, eos):\n    prompt.insert(0, bos)\n    return prompt + said + [eos], [-100] * len(prompt) + said + [eos]",
            "changed a list",
        ),
        (
            "def answer(prompt, said, bos, eos):\n    return [bos] + prompt + said + [eos]",
            "two lists",
        ),
    ],
    "two_batches": [
        (mean('(a["loss"] + b["loss"]) / 2'), "mean of two means"),
        (
            mean('(a["loss"] * a["rows"] + b["loss"] * b["rows"]) / (a["rows"] + b["rows"])'),
            "weighted by rows",
        ),
        (mean('0.5 * a["loss"] + 0.6 * b["loss"]'), "how many are there"),
        (
            mean(
                '(a["loss"] * a["tokens"] + b["loss"] * b["tokens"]) / (a["tokens"] + b["tokens"])'
            ),
            "weighted by all tokens",
        ),
        (mean('a["loss"] + b["loss"]'), "That is a sum. What"),
        (
            mean('a["loss"] * a["trained"] + b["loss"] * b["trained"]'),
            "sum over all trained tokens",
        ),
        (
            mean(
                '(a["loss"] * b["trained"] + b["loss"] * a["trained"]) / (a["trained"] + b["trained"])'
            ),
            "swapped",
        ),
        (mean('a["loss"] / a["trained"] + b["loss"] / b["trained"]'), "divided means"),
        (mean('(a["loss"] + b["loss"]) / (a["trained"] + b["trained"])'), "means already"),
    ],
    "choose_rate": [
        (
            CHOOSE.replace("KEY", 'max(rates, key=lambda lr: mean(lr, "test_score"))'),
            "best test score",
        ),
        (
            CHOOSE.replace("KEY", 'max(runs, key=lambda r: r["validation_score"])["lr"]'),
            "best single run",
        ),
        (
            CHOOSE.replace("KEY", 'min(rates, key=lambda lr: mean(lr, "validation_loss"))'),
            "lowest validation loss",
        ),
        (
            CHOOSE.replace(
                "KEY",
                'max(sorted(rates), key=lambda lr: (round(mean(lr, "validation_score"), 9), lr))',
            ),
            "Among equals",
        ),
        (
            CHOOSE.replace(
                "KEY",
                'max([r["lr"] for r in runs][::-1], key=lambda lr: round(mean(lr, "validation_score"), 9))',
            ),
            "Among equals",
        ),
        (
            CHOOSE.replace(
                "KEY",
                'max([r["lr"] for r in runs], key=lambda lr: round(mean(lr, "validation_score"), 9))',
            ),
            "in another order",
        ),
        (
            CHOOSE.replace("KEY", 'max(runs, key=lambda r: r["validation_score"])'),
            "You returned a run",
        ),
        (CHOOSE.replace("KEY", "0.5"), "not one of the rates"),
        (CHOOSE.replace("KEY", "0.003 if len(runs) == 15 else max(rates)"), "in a second search"),
    ],
}
