"""Solutions and plausible mistakes of lesson 08's exercises."""

import collections

from torch.nn.functional import one_hot


def line_up(logits, labels):
    return logits[:, -labels.shape[1] :][:, :-1], labels[:, 1:]


def by_hand(logits, labels):
    virtual = logits.shape[1] - labels.shape[1]
    return logits[:, virtual:-1], labels[:, 1:]


def votes(log_p):
    return one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)


def vote(log_p):
    return (votes(log_p) + 1e-6 * log_p.sum(0)).argmax(-1)


def in_a_loop(log_p):
    labels = []
    for row in range(log_p.shape[1]):
        chosen = [int(p.argmax()) for p in log_p[:, row]]
        summed = log_p[:, row].sum(0)
        counts = collections.Counter(chosen)
        labels.append(max(counts, key=lambda label: (counts[label], float(summed[label]))))
    return labels


def majority_of_two(log_p):
    share = log_p.argmax(-1).float().mean(0)
    return ((share > 0.5) | ((share == 0.5) & (log_p.sum(0).argmax(-1) == 1))).long()


def most_common(log_p):
    return [collections.Counter(row.tolist()).most_common(1)[0][0] for row in log_p.argmax(-1).T]


SOLUTIONS = {
    "cost": lambda tokens, width, context: (tokens * width, context - tokens),
    "line_up": [line_up, by_hand],
    "vote": [vote, in_a_loop],
}

MISTAKES = {
    "cost": [
        ("one number", lambda t, w, c: t * w, "two numbers"),
        ("swapped", lambda t, w, c: (c - t, t * w), "swapped: trained comes first"),
        ("keys and values", lambda t, w, c: (2 * t * w, c - t), "prefix tuning"),
        ("whole context", lambda t, w, c: (c * w, c - t), "whole context"),
        ("bytes", lambda t, w, c: (4 * t * w, c - t), "bytes in 32 bits"),
        ("tokens", lambda t, w, c: (t, c - t), "not one number"),
        ("one vector", lambda t, w, c: (w, c - t), "one virtual token's vector"),
        ("all room", lambda t, w, c: (t * w, c), "take places"),
        ("wide room", lambda t, w, c: (t * w, c - t * w), "one place"),
        ("more room", lambda t, w, c: (t * w, c + t), "add none"),
        ("one less", lambda t, w, c: (t * w, c - t - 1), "one place more"),
        ("502", lambda t, w, c: (t * w, 502), "room is wrong: you gave 502; it should be 80"),
    ],
    "line_up": [
        ("no cut", lambda L, y: (L[:, :-1], y[:, 1:]), "still there: keep"),
        ("nothing", lambda L, y: (L, y[:, 1:]), "Nothing is cut off"),
        ("labels whole", lambda L, y: (L[:, -y.shape[1] :], y), "not shifted"),
        ("labels' wrong end", lambda L, y: (L[:, -y.shape[1] :][:, 1:], y[:, :-1]), "wrong way"),
        ("first positions", lambda L, y: (L[:, : y.shape[1]][:, :-1], y[:, 1:]), "first positions"),
        ("last position", lambda L, y: (L[:, -y.shape[1] :][:, 1:], y[:, 1:]), "after the label"),
        ("no shift", lambda L, y: (L[:, -y.shape[1] :], y[:, 1:]), "after the end of the text"),
        (
            "early",
            lambda L, y: (L[:, L.shape[1] - y.shape[1] - 1 :][:, : y.shape[1] - 1], y[:, 1:]),
            "one position early",
        ),
        ("3 virtual", lambda L, y: (L[:, 3:-1], y[:, 1:]), "Right in 1 of 6 cases"),
        ("swapped", lambda L, y: line_up(L, y)[::-1], "swapped: logits comes first"),
        (
            "labels cut",
            lambda L, y: (line_up(L, y)[0], y[:, L.shape[1] - y.shape[1] :]),
            "those of the text already",
        ),
        (
            "flat",
            lambda L, y: (line_up(L, y)[0].flatten(0, 1), y[:, 1:].flatten()),
            "logits is wrong: you gave the shape",
        ),
    ],
    "vote": [
        ("mean log", lambda log_p: log_p.mean(0).argmax(-1), "averaged the log-probabilities"),
        ("mean p", lambda log_p: log_p.exp().mean(0).argmax(-1), "averaged the probabilities"),
        ("surest", lambda log_p: log_p.max(0).values.argmax(-1), "surest single prompt"),
        ("first", lambda log_p: log_p[0].argmax(-1), "first prompt says"),
        ("mode", lambda log_p: log_p.argmax(-1).mode(0).values, "lowest number"),
        ("most common", most_common, "by the first prompt"),
        ("votes of all", lambda log_p: log_p.argmax(-1), "each one number"),
        ("two labels", majority_of_two, "Right in 6 of 8 cases. For three labels"),
        (
            "tie by p",
            lambda log_p: (votes(log_p) + 1e-3 * log_p.exp().sum(0)).argmax(-1),
            "sum of probabilities",
        ),
        (
            "tie by surest",
            lambda log_p: (votes(log_p) + 1e-3 * log_p.max(0).values).argmax(-1),
            "by the surest prompt",
        ),
        (
            "sum too heavy",
            lambda log_p: (votes(log_p) + 0.05 * log_p.sum(0)).argmax(-1),
            "Three votes lost",
        ),
        ("fewest", lambda log_p: votes(log_p).argmin(-1), "fewest votes"),
        ("shares", lambda log_p: votes(log_p) / len(log_p), "each one number"),
    ],
}
