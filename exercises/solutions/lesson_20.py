"""Solutions and plausible mistakes of lesson 20's exercises, and the causes of its cases."""

from exercises.clinic_cases import CASES

CAUSES_OF_THE_CASES = {case.number: case.cause for case in CASES}


def trained(row):
    return [x for x in row if x != -100]


def rows_at_fault(labels, eos):
    rows = [trained(row) for row in labels]
    return sum(not row for row in rows), sum(row[-1] != eos for row in rows if row)


def by_loop(labels, eos):
    masked = endless = 0
    for row in labels:
        kept = trained(row)
        if not kept:
            masked += 1
        elif kept[-1] != eos:
            endless += 1
    return masked, endless


def times_merged(base, delta, found):
    return ((found - base) * delta).sum() / (delta * delta).sum()


def masked_only(labels):
    return sum(not trained(row) for row in labels)


def endless_only(labels, eos):
    return sum(trained(row)[-1] != eos for row in labels if trained(row))


SOLUTIONS = {
    "rows_at_fault": [rows_at_fault, by_loop],
    "times_merged": times_merged,
}

MISTAKES = {
    "rows_at_fault": [
        (
            "counted twice",
            lambda labels, eos: (
                masked_only(labels),
                sum(not trained(r) or trained(r)[-1] != eos for r in labels),
            ),
            "counted once, as masked",
        ),
        (
            "padding",
            lambda labels, eos: (
                masked_only(labels),
                sum(r[-1] != eos for r in labels if trained(r)),
            ),
            "of a padded row is -100",
        ),
        (
            "anywhere",
            lambda labels, eos: (
                masked_only(labels),
                sum(eos not in r for r in labels if trained(r)),
            ),
            "just somewhere in the row",
        ),
        (
            "any mask",
            lambda labels, eos: (sum(-100 in r for r in labels), endless_only(labels, eos)),
            "nothing but -100",
        ),
        (
            "the good ones",
            lambda labels, eos: (
                sum(bool(trained(r)) for r in labels),
                sum(trained(r)[-1] == eos for r in labels if trained(r)),
            ),
            "rows that are in order",
        ),
        (
            "labels",
            lambda labels, eos: (sum(r.count(-100) for r in labels), endless_only(labels, eos)),
            "Count rows",
        ),
        (
            "eos is 2",
            lambda labels, eos: (masked_only(labels), endless_only(labels, 2)),
            "Use the argument `eos`",
        ),
        (
            "shares",
            lambda labels, eos: tuple(n / len(labels) for n in rows_at_fault(labels, eos)),
            "no shares",
        ),
        ("swapped", lambda labels, eos: rows_at_fault(labels, eos)[::-1], "swapped"),
    ],
    "times_merged": [
        (
            "no base",
            lambda base, delta, found: (found * delta).sum() / (delta**2).sum(),
            "Take the base away first",
        ),
        (
            "element by element",
            lambda base, delta, found: ((found - base) / delta).mean(),
            "An element of the change may be 0",
        ),
        (
            "sums",
            lambda base, delta, found: (found - base).sum() / delta.sum(),
            "can cancel",
        ),
        (
            "lengths",
            lambda base, delta, found: (found - base).norm() / delta.norm(),
            "A length has no sign",
        ),
        (
            "squares",
            lambda base, delta, found: ((found - base) ** 2).sum() / (delta**2).sum(),
            "square of it",
        ),
        (
            "upside down",
            lambda base, delta, found: (delta**2).sum() / ((found - base) * delta).sum(),
            "upside down",
        ),
        (
            "not divided",
            lambda base, delta, found: ((found - base) * delta).sum(),
            "size of the change too",
        ),
        (
            "of the base",
            lambda base, delta, found: (found - base).norm() / base.norm(),
            "the base's own size",
        ),
        (
            "rounded",
            lambda base, delta, found: round(times_merged(base, delta, found).item()),
            "Do not round",
        ),
    ],
}
