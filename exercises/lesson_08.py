"""Checks of lesson 08's exercises."""

import torch

from utils.checks import compare, exercise

ANY = ...  # this part of a pair does not matter


@exercise(1, "Give the pair (trained numbers, tokens of text that still fit).")
def cost(answer):
    compare(
        answer,
        lambda tokens, width, context: (tokens * width, context - tokens),
        [(10, 192, 512), (20, 64, 100), (1, 30, 31), (0, 5, 7)],
        [
            (
                "Keys and values in every layer are prefix tuning. Here the prompt stands at "
                "the input only: one vector a token.",
                lambda t, w, c: (2 * t * w, ANY),
            ),
            (
                "That is four times as many: bytes in 32 bits, perhaps. Count the numbers.",
                lambda t, w, c: (4 * t * w, ANY),
            ),
            (
                "You counted the whole context. Only the virtual tokens are trained.",
                lambda t, w, c: (c * w, ANY),
            ),
            (
                "You counted what remains of the context. Only the virtual tokens are trained.",
                lambda t, w, c: ((c - t) * w, ANY),
            ),
            (
                "Each virtual token is one vector of `width` numbers, not one number.",
                lambda t, w, c: (t, ANY),
            ),
            (
                "That is one virtual token's vector. There are `tokens` of them.",
                lambda t, w, c: (w, ANY),
            ),
            (
                "The width is not squared: a virtual token is a vector, not a matrix.",
                lambda t, w, c: (t * w * w, ANY),
            ),
            (
                "The virtual tokens take places in the context like any other token.",
                lambda t, w, c: (ANY, c),
            ),
            (
                "A virtual token takes one place, however wide it is.",
                lambda t, w, c: (ANY, c - t * w),
            ),
            (
                "The virtual tokens take places away from the text; they add none.",
                lambda t, w, c: (ANY, c + t),
            ),
            (
                "That is the number of places that the prompt takes. How many are left?",
                lambda t, w, c: (ANY, t),
            ),
            (
                "You left one place more out. The prompt takes `tokens` places, no more.",
                lambda t, w, c: (ANY, c - t - 1),
            ),
        ],
        form="two numbers, (trained, room)",
        names=("trained", "room"),
        advice="One vector for each virtual token; one place for each, too.",
    )
    return (
        "Every call pays for the virtual tokens again: they are read, and attended to, like text."
    )


def _case(batch, p, n, vocabulary=7):
    """(logits [batch, p + n, vocabulary], labels [batch, n]), every number another one."""
    logits = torch.arange(batch * (p + n) * vocabulary, dtype=torch.float)
    return logits.view(batch, p + n, vocabulary), torch.arange(batch * n).view(batch, n) + 3


def _cut(logits=lambda L, p, n: L[:, p : p + n - 1], labels=lambda y: y[:, 1:]):
    """The two tensors; `logits` also gets the numbers of virtual tokens and of text."""
    return lambda L, y: (logits(L, L.shape[1] - y.shape[1], y.shape[1]), labels(y))


@exercise(2, "Cut the virtual tokens' logits off, then shift by one.")
def line_up(answer):
    def part(logits):
        return lambda L, y: (logits(L, L.shape[1] - y.shape[1], y.shape[1]), ANY)

    compare(
        answer,
        _cut(),
        {
            f"logits of {p} virtual tokens and {n} of text, batch {batch}": _case(batch, p, n)
            for batch, p, n in ((2, 3, 5), (3, 6, 4), (1, 1, 6), (2, 4, 4), (2, 5, 2), (1, 0, 3))
        },
        [
            (
                "The labels are not shifted: the first token of the text is predicted by "
                "nothing that you score.",
                lambda L, y: (ANY, y),
            ),
            (
                "The labels are shifted the wrong way: drop the first one, keep the last.",
                lambda L, y: (ANY, y[:, :-1]),
            ),
            (
                "You dropped two labels. The shift is by one.",
                lambda L, y: (ANY, y[:, 2:]),
                lambda L, y: (ANY, y[:, 1:-1]),
            ),
            (
                "You cut the labels by the number of virtual tokens. They are those of the text "
                "already.",
                lambda L, y: (ANY, y[:, L.shape[1] - y.shape[1] :]),
            ),
            (
                "Nothing is cut off: the virtual tokens' logits are still there, and the last "
                "position is, too.",
                part(lambda L, p, n: L),
            ),
            (
                "The virtual tokens' logits are still there: keep the last n positions only.",
                part(lambda L, p, n: L[:, :-1]),
                part(lambda L, p, n: L[:, 1:]),
            ),
            (
                "The last position's logits predict a token after the end of the text. Drop them.",
                part(lambda L, p, n: L[:, p:]),
            ),
            (
                "You kept the first positions. The virtual tokens stand in front, so their "
                "logits come first.",
                part(lambda L, p, n: L[:, : n - 1]),
                part(lambda L, p, n: L[:, :n]),
            ),
            (
                "These logits predict the token after the label. Drop the last position, not "
                "the first.",
                part(lambda L, p, n: L[:, p + 1 :]),
            ),
            (
                "You start one position early, at the last virtual token. With labels from the "
                "second token on, start at the first of the text.",
                part(lambda L, p, n: L[:, p - 1 :][:, : n - 1]),
                part(lambda L, p, n: L[:, p - 1 : p + n - 2]),
                part(lambda L, p, n: L[:, p - 1 : -2]),
            ),
        ],
        form="two tensors, (logits, labels)",
        names=("logits", "labels"),
        advice="Position i of the text predicts label i + 1.",
    )
    return "Without the cut the loss would still be a number, and a wrong one."


def _votes(log_p):
    return torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)


def _vote(tie):
    """The label with most votes; of tied ones the highest by `tie(log_p)`, [rows, labels]."""

    def choose(log_p):
        votes, second = _votes(log_p), tie(log_p)
        tied = votes == votes.max(-1, keepdim=True).values
        return second.masked_fill(~tied, -torch.inf).argmax(-1).tolist()

    return choose


def _two(first):
    """log_p [prompts, rows, 2] from the probabilities of the first label."""
    p = torch.tensor(first)
    return torch.stack([p, 1 - p], -1).log()


@exercise(3, "Count the votes; break ties by the sum of log-probabilities.")
def vote(answer):
    three = torch.tensor(
        [
            [[0.2, 0.3, 0.5]],
            [[0.2, 0.3, 0.5]],
            [[0.3, 0.4, 0.3]],
            [[0.6, 0.3, 0.1]],
            [[0.4, 0.35, 0.25]],
        ]
    ).log()
    sure = torch.tensor([[[0.6, 0.4]]] * 3 + [[[1e-30, 1.0]]] * 2).log()
    compare(
        answer,
        _vote(lambda log_p: log_p.sum(0)),
        {
            "four prompts, five rows, two labels": (
                _two(
                    [
                        [0.9, 0.6, 0.55, 0.6, 0.7],
                        [0.8, 0.6, 0.55, 0.2, 0.7],
                        [0.7, 0.6, 0.45, 0.2, 0.7],
                        [0.6, 0.01, 0.1, 0.2, 0.001],
                    ]
                ),
            ),
            "four prompts and ties": (
                _two([[0.99, 0.9999, 0.4], [0.99, 0.6, 0.3], [0.45, 1e-3, 0.9], [1e-5, 1e-3, 0.8]]),
            ),
            "three labels and a tie between two of them": (three,),
            "three labels, of which the last wins": (three[[0, 1, 1, 3]],),
            "three votes against two very sure ones": (sure,),
            "three prompts, the last of which is alone": (_two([[0.7], [0.7], [0.4]]),),
            "one prompt": (_two([[0.3, 0.6, 0.9]]),),
            "three prompts, the first two of which disagree": (
                _two([[0.9, 0.2], [0.4, 0.7], [0.3, 0.8]]),
            ),
        },
        [
            (
                "You averaged the log-probabilities: one very sure prompt outvotes three. Count "
                "one vote a prompt.",
                lambda p: p.sum(0).argmax(-1),
            ),
            (
                "You averaged the probabilities. Count one vote a prompt.",
                lambda p: p.exp().sum(0).argmax(-1),
            ),
            (
                "The surest single prompt decides in your code. Count one vote a prompt.",
                lambda p: p.max(0).values.argmax(-1),
            ),
            ("That is what the first prompt says.", lambda p: p[0].argmax(-1)),
            ("That is what the last prompt says.", lambda p: p[-1].argmax(-1)),
            (
                "In a tie you take the label with the lowest number. There the higher summed "
                "log-probability decides.",
                lambda p: _votes(p).argmax(-1),
                lambda p: p.argmax(-1).mode(0).values,
            ),
            (
                "In a tie you take the label with the highest number. There the higher summed "
                "log-probability decides.",
                lambda p: p.shape[-1] - 1 - _votes(p).flip(-1).argmax(-1),
            ),
            (
                "A tie goes to the higher sum of log-probabilities, over all prompts. You "
                "settled it by the sum of probabilities.",
                _vote(lambda p: p.exp().sum(0)),
            ),
            (
                "A tie goes to the higher sum of log-probabilities, over all prompts. You "
                "settled it by the surest prompt.",
                _vote(lambda p: p.max(0).values),
            ),
            (
                "A tie goes to the higher sum of log-probabilities, over all prompts. You "
                "settled it by the first prompt.",
                _vote(lambda p: p[0]),
            ),
            (
                "In a tie only the tied labels stand for election. You took the best sum of all "
                "labels.",
                lambda p: torch.where(
                    (_votes(p) == _votes(p).max(-1, keepdim=True).values).sum(-1) > 1,
                    p.sum(0).argmax(-1),
                    _votes(p).argmax(-1),
                ),
            ),
            (
                "Three votes lost against two very sure ones. The sum may settle a tie and "
                "nothing else.",
                lambda p: (_votes(p) + 0.05 * p.sum(0)).argmax(-1),
                lambda p: (_votes(p) + p.sum(0)).argmax(-1),
            ),
            ("You took the label with fewest votes.", lambda p: _votes(p).argmin(-1)),
        ],
        form="one label for each row",
        advice="Take the arg max of each prompt first, then count how often each label was chosen.",
    )
    return "One batch, one pass, as many voters as fit."
