"""Solutions and plausible mistakes of lesson 01's exercises."""

import statistics


def row(ids=None, labels=None):
    """A learner's function with the ids or the labels made another way."""

    def answer(prompt, said, bos, eos):
        given = prompt, said, bos, eos
        right = [bos] + prompt + said + [eos], [-100] * (1 + len(prompt)) + said + [eos]
        return ids(*given) if ids else right[0], labels(*given) if labels else right[1]

    return answer


def appended(prompt, said, bos, eos):
    said.append(eos)
    return [bos] + prompt + said, [-100] * (1 + len(prompt)) + said


def extended(prompt, said, bos, eos):
    prompt.insert(0, bos)
    return prompt + said + [eos], [-100] * len(prompt) + said + [eos]


def two_batches(a, b):
    total = a["loss"] * a["trained"] + b["loss"] * b["trained"]
    return total / (a["trained"] + b["trained"])


def by(weight):
    return lambda a, b: (
        (a["loss"] * a[weight] + b["loss"] * b[weight]) / (a[weight] + b[weight])
    )


def choose_rate(runs):
    def mean(lr, column):
        return statistics.fmean(r[column] for r in runs if r["lr"] == lr)

    return max(
        {r["lr"] for r in runs},
        key=lambda lr: (round(mean(lr, "validation_score"), 9), -mean(lr, "validation_loss")),
    )


def by_groups(runs):
    """The same by another way."""
    groups = {}
    for r in runs:
        groups.setdefault(r["lr"], []).append(r)
    table = []
    for lr, group in groups.items():
        score = sum(r["validation_score"] for r in group) / len(group)
        table.append((-round(score, 9), sum(r["validation_loss"] for r in group) / len(group), lr))
    return sorted(table)[0][-1]


def summed(runs):
    rates = sorted({r["lr"] for r in runs})
    return max(rates, key=lambda lr: sum(r["validation_score"] for r in runs if r["lr"] == lr))


def rule(score, loss=statistics.fmean, digits=9, column="validation_score"):
    def answer(runs):
        def of(lr, name, how):
            return how([r[name] for r in runs if r["lr"] == lr])

        def key(lr):
            value = of(lr, column, score)
            return (value if digits is None else round(value, digits)), -of(
                lr, "validation_loss", loss
            )

        return max({r["lr"] for r in runs}, key=key)

    return answer


def lowest_loss(runs):
    def mean(lr):
        return statistics.fmean(r["validation_loss"] for r in runs if r["lr"] == lr)

    return min((r["lr"] for r in runs if r["validation_loss"] == r["validation_loss"]), key=mean)


MEAN = statistics.fmean
SOLUTIONS = {
    "row_for_training": [row(), lambda p, a, b, e: [[b, *p, *a, e], [-100] * (len(p) + 1) + [*a, e]]],
    "two_batches": two_batches,
    "choose_rate": [choose_rate, by_groups, rule(MEAN)],
}

MISTAKES = {
    "row_for_training": [
        ("no mask", row(labels=lambda p, a, b, e: [b, *p, *a, e]), "Nothing is masked"),
        ("end masked", row(labels=lambda p, a, b, e: [-100] * (1 + len(p)) + a + [-100]), "never learn to stop"),
        ("eos masked by value", row(labels=lambda p, a, b, e: [-100] * (1 + len(p)) + [-100 if i == e else i for i in a + [e]]), "never learn to stop"),
        ("no eos", lambda p, a, b, e: ([b] + p + a, [-100] * (1 + len(p)) + a), "go on for ever"),
        ("no bos", lambda p, a, b, e: (p + a + [e], [-100] * len(p) + a + [e]), "(bos) is missing"),
        ("neither", lambda p, a, b, e: (p + a, [-100] * len(p) + a), "(bos) and the end (eos)"),
        ("no answer", lambda p, a, b, e: ([b] + p, a + [e]), "must hold the answer"),
        ("answer first", row(ids=lambda p, a, b, e: [b] + a + p + [e]), "before the answer"),
        ("eos between", lambda p, a, b, e: ([b] + p + [e] + a + [e], [-100] * (2 + len(p)) + a + [e]), "The row ends once"),
        ("shifted", row(labels=lambda p, a, b, e: [-100] * len(p) + a + [e, -100]), "You shifted"),
        ("shifted, eos again", row(labels=lambda p, a, b, e: [-100] * len(p) + a + [e, e]), "You shifted"),
        ("shifted right", row(labels=lambda p, a, b, e: [-100] * (2 + len(p)) + a), "You shifted"),
        ("bos trains", row(labels=lambda p, a, b, e: [b] + [-100] * len(p) + a + [e]), "first token is not masked"),
        ("last of prompt", row(labels=lambda p, a, b, e: [-100] * len(p) + ([b] + p)[-1:] + a + [e]), "last token of the prompt"),
        ("first of answer", row(labels=lambda p, a, b, e: [-100] * (2 + len(p)) + a[1:] + [e]), "first token of the answer"),
        ("mask 0", row(labels=lambda p, a, b, e: [0] * (1 + len(p)) + a + [e]), "masked with 0"),
        ("mask -1", row(labels=lambda p, a, b, e: [-1] * (1 + len(p)) + a + [e]), "labels is wrong"),
        ("other way", row(labels=lambda p, a, b, e: [b] + p + [-100] * (len(a) + 1)), "other way round"),
        ("short labels", row(labels=lambda p, a, b, e: a + [e]), "Each id needs its label"),
        ("all masked", row(labels=lambda p, a, b, e: [-100] * (len(p) + len(a) + 2)), "Everything is masked"),
        ("append", appended, "changes `said`"),
        ("insert", extended, "changes `prompt`"),
        ("ids alone", lambda p, a, b, e: [b] + p + a + [e], "two lists"),
        ("swapped", lambda p, a, b, e: row()(p, a, b, e)[::-1], "ids comes first"),
        ("no bos, no mask", lambda p, a, b, e: (p + a + [e], p + a + [e]), "(bos) is missing"),
    ],
    "two_batches": [
        ("mean of means", lambda a, b: (a["loss"] + b["loss"]) / 2, "mean of two means"),
        ("rows", by("rows"), "weighted by rows"),
        ("tokens", by("tokens"), "weighted by all tokens"),
        ("sum", lambda a, b: a["loss"] + b["loss"], "sum of two means"),
        ("total", lambda a, b: a["loss"] * a["trained"] + b["loss"] * b["trained"], "Divide by their number"),
        ("half the total", lambda a, b: (a["loss"] * a["trained"] + b["loss"] * b["trained"]) / 2, "divided by two batches"),
        ("over all tokens", lambda a, b: (a["loss"] * a["trained"] + b["loss"] * b["trained"]) / (a["tokens"] + b["tokens"]), "divided by all tokens"),
        ("swapped", lambda a, b: (a["loss"] * b["trained"] + b["loss"] * a["trained"]) / (a["trained"] + b["trained"]), "swapped"),
        ("divided", lambda a, b: a["loss"] / a["trained"] + b["loss"] / b["trained"], "divided means"),
        ("twice a mean", lambda a, b: (a["loss"] + b["loss"]) / (a["trained"] + b["trained"]), "means already"),
        ("written in", lambda a, b: 0.25 * a["loss"] + 0.75 * b["loss"], "Right in 1 of 4"),
        ("masked", lambda a, b: by("tokens")(a, b) - by("trained")(a, b), "how many are there"),
        ("text", lambda a, b: f"{two_batches(a, b):.2f}", "you gave a text"),
    ],
    "choose_rate": [
        ("test score", rule(MEAN, column="test_score"), "chose by the test score"),
        ("best run", lambda runs: max(runs, key=lambda r: r["validation_score"])["lr"], "single run"),
        ("max", rule(max), "single run"),
        ("seed 0", lambda runs: choose_rate([r for r in runs if r["seed"] == 0]), "one seed only"),
        ("lowest loss", lowest_loss, "lowest validation loss"),
        ("sum", rule(sum), "added the scores up"),
        ("median", rule(statistics.median), "median of the scores"),
        ("worst seed", rule(min), "worst seed"),
        ("tie by min loss", rule(MEAN, min), "lowest of a single seed"),
        ("tie by max loss", rule(MEAN, max), "not the worst seed's"),
        ("tie by median loss", rule(MEAN, statistics.median), "not the median"),
        ("tie by order", lambda runs: max([r["lr"] for r in runs], key=lambda lr: round(MEAN([r["validation_score"] for r in runs if r["lr"] == lr]), 9)), "Among equals"),
        ("tie by larger rate", lambda runs: max(sorted({r["lr"] for r in runs}, reverse=True), key=lambda lr: round(MEAN([r["validation_score"] for r in runs if r["lr"] == lr]), 9)), "Among equals"),
        ("two digits", rule(MEAN, digits=2), "rounded the means too far"),
        ("no rounding", rule(MEAN, digits=None), "twelfth digit"),
        ("a run", lambda runs: max(runs, key=lambda r: r["validation_score"]), "the learning rate, one number"),
        ("constant", lambda runs: 0.5, "whatever it is given"),
        ("list of a mean", summed, "it should be"),
        ("sorted in place", lambda runs: runs.sort(key=lambda r: r["seed"]) or choose_rate(runs), "changes `runs`"),
    ],
}  # fmt: skip
