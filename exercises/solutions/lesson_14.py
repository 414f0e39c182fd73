"""Solutions and plausible mistakes of lesson 14's exercises."""

import math

import torch


def sigma(x):
    return 1 / (1 + math.exp(-x))


def pairs_where(prompt, rated, keep):
    return [
        {"prompt": prompt, "chosen": a, "rejected": b}
        for a, s in rated
        for b, t in rated
        if keep(s, t)
    ]


def pairs(prompt, rated):
    return pairs_where(prompt, rated, lambda s, t: s > t)


def columns(prompt, rated):
    rows = pairs(prompt, rated)
    return {key: [row[key] for row in rows] for key in ("prompt", "chosen", "rejected")}


def kept(rule):
    return lambda prompt, rated: pairs_where(prompt, rated, rule)


def best_and_worst(prompt, rated):
    ordered = sorted(rated, key=lambda r: r[1])
    if len(ordered) < 2 or ordered[0][1] == ordered[-1][1]:
        return []
    return [{"prompt": prompt, "chosen": ordered[-1][0], "rejected": ordered[0][0]}]


def neighbours(prompt, rated):
    ordered = sorted(rated, key=lambda r: -r[1])
    return [
        {"prompt": prompt, "chosen": a, "rejected": b}
        for (a, s), (b, t) in zip(ordered, ordered[1:])
        if s > t
    ]


def whole_numbers(prompt, rated):
    return pairs(prompt, [(text, int(rating)) for text, rating in rated])


def in_place(prompt, rated):
    rated.sort(key=lambda r: r[1])
    return pairs(prompt, rated)


def with_itself(prompt, rated):
    return [
        {"prompt": prompt, "chosen": a, "rejected": b} for a, s in rated for b, t in rated if s >= t
    ]


def ratings(prompt, rated):
    return [
        {"prompt": prompt, "chosen": s, "rejected": t} for a, s in rated for b, t in rated if s > t
    ]


def gradient(c, r, rc, rr, beta):
    g = beta * sigma(-beta * ((c - rc) - (r - rr)))
    return -g, g


def by(slope):
    """(-g, g) with g from the scaled margin and beta."""

    def answer(c, r, rc, rr, beta):
        g = slope(beta * ((c - rc) - (r - rr)), beta)
        return -g, g

    return answer


def autograd(c, r, rc, rr, beta):
    c, r = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (c, r))
    loss = -torch.nn.functional.logsigmoid(beta * ((c - rc) - (r - rr)))
    loss.backward()
    return c.grad, r.grad


def autograd_grad(c, r, rc, rr, beta):
    c, r = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (c, r))
    return torch.autograd.grad(
        -torch.nn.functional.logsigmoid(beta * ((c - rc) - (r - rr))), (c, r)
    )


def diagnose(first_loss, accuracy, chosen_change, rejected_change):
    if abs(first_loss - 0.6931) > 0.01:
        return "wrong reference"
    if accuracy < 0.5:
        return "swapped"
    return "degenerate" if chosen_change < -20 else "healthy"


def no_loss(first_loss, accuracy, chosen_change, rejected_change):
    return diagnose(0.6931, accuracy, chosen_change, rejected_change)


def only_low(first_loss, accuracy, chosen_change, rejected_change):
    if first_loss < 0.6:
        return "wrong reference"
    return diagnose(0.6931, accuracy, chosen_change, rejected_change)


def exact(first_loss, accuracy, chosen_change, rejected_change):
    if first_loss != 0.6931:
        return "wrong reference"
    return diagnose(0.6931, accuracy, chosen_change, rejected_change)


def any_fall(first_loss, accuracy, chosen_change, rejected_change):
    return diagnose(first_loss, accuracy, -99 if chosen_change < 0 else 0, rejected_change)


def by_accuracy(first_loss, accuracy, chosen_change, rejected_change):
    if accuracy < 0.5:
        return "swapped"
    if abs(first_loss - 0.6931) > 0.01:
        return "wrong reference"
    return "degenerate" if accuracy > 0.95 else "healthy"


def no_swap(first_loss, accuracy, chosen_change, rejected_change):
    return diagnose(first_loss, 1.0, chosen_change, rejected_change)


SOLUTIONS = {
    "pairs_from_ratings": [pairs, columns],
    "gradient": [gradient, by(lambda m, beta: beta * (1 - sigma(m)))],
    "diagnose": diagnose,
}

MISTAKES = {
    "pairs_from_ratings": [
        (
            "equal",
            lambda prompt, rated: [
                p for p in with_itself(prompt, rated) if p["chosen"] != p["rejected"]
            ],
            "equal ratings",
        ),
        ("wrong way", kept(lambda s, t: s < t), "rejected answer has the higher"),
        ("itself", with_itself, "same answer twice"),
        ("best and worst", best_and_worst, "Compare every two"),
        ("neighbours", neighbours, "Compare every two"),
        ("twice", lambda prompt, rated: pairs(prompt, rated) * 2, "there twice"),
        ("both ways", kept(lambda s, t: s != t), "rejected answer has the higher"),
        ("in place", in_place, "changes `rated`"),
        (
            "tuples",
            lambda prompt, rated: [(a, b) for a, s in rated for b, t in rated if s > t],
            "list of dicts",
        ),
        ("ratings", ratings, "not their ratings"),
        (
            "a space in front",
            lambda prompt, rated: pairs(prompt, [(f" {text}", rating) for text, rating in rated]),
            "added white space",
        ),
        (
            "written in",
            lambda prompt, rated: pairs(prompt, [("a", 3), ("b", 5), ("c", 3), ("d", 1)]),
            "texts that you were given",
        ),
        ("whole numbers", whole_numbers, "Right for the first question"),
        ("high ratings", kept(lambda s, t: s > t and s >= 3), "Right for the first question"),
        (
            "another prompt",
            lambda prompt, rated: pairs("q", rated),
            "the prompt that you were given",
        ),
        (
            "no prompt",
            lambda prompt, rated: [
                {"chosen": p["chosen"], "rejected": p["rejected"]} for p in pairs(prompt, rated)
            ],
            "list of dicts",
        ),
    ],
    "gradient": [
        ("signs", lambda *a: gradient(*a)[::-1], "swapped: chosen comes first"),
        ("same sign", lambda *a: (gradient(*a)[0],) * 2, "same sign"),
        ("no beta", by(lambda m, beta: sigma(-m)), "factor beta"),
        ("sigma of m", by(lambda m, beta: beta * sigma(m)), "sigma of the margin"),
        (
            "no reference",
            lambda c, r, rc, rr, beta: gradient(c, r, 0, 0, beta),
            "reference is missing",
        ),
        ("beta outside", by(lambda m, beta: beta * sigma(-m / beta)), "inside sigma"),
        ("beta alone", by(lambda m, beta: beta), "every pair alike"),
        ("chosen alone", lambda *a: (gradient(*a)[0], 0.0), "in the margin too"),
        ("sigma's", by(lambda m, beta: beta * sigma(m) * sigma(-m)), "derivative of sigma"),
        ("one number", lambda *a: gradient(*a)[0], "two numbers"),
        ("zeros", lambda *a: (0.0, 0.0), "whatever it is given"),
        ("half", lambda *a: [v / 2 for v in gradient(*a)], "chain rule"),
        ("beta twice", by(lambda m, beta: beta**2 * sigma(-m)), "came in twice"),
        (
            "sum of ratios",
            lambda c, r, rc, rr, beta: gradient(c, -r, rc, -rr, beta),
            "you added them",
        ),
        ("autograd", autograd, "without autograd"),
        ("autograd.grad", autograd_grad, "without autograd"),
        ("rounded", lambda *a: [round(v, 3) for v in gradient(*a)], "chosen is wrong"),
    ],
    "diagnose": [
        ("always healthy", lambda *a: "healthy", "You call all of 10 different runs 'healthy'"),
        (
            "accuracy alone",
            lambda loss, accuracy, c, r: "healthy" if accuracy > 0.5 else "swapped",
            "hardly ever said",
        ),
        ("by accuracy", by_accuracy, "hardly ever said"),
        ("no loss", no_loss, "should be one model"),
        ("only low", only_low, "should be one model"),
        ("any fall", any_fall, "nothing is wrong"),
        ("exact", exact, "but for rounding"),
        ("no swap", no_swap, "rejected answers rose"),
        ("broken", lambda *a: "broken", "Give one of"),
        ("number", lambda *a: 1, "Give one of"),
    ],
}
