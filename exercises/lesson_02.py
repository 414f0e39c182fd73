"""Checks of lesson 02's exercises."""

import math

import torch
from torch.nn.functional import logsigmoid

from utils.checks import compare, exercise


def _pooled(texts):
    """The mean loss over all tokens of all texts."""
    return sum(map(sum, texts)) / sum(map(len, texts))


def _mean_of_means(texts):
    return sum(sum(t) / len(t) for t in texts) / len(texts)


@exercise(1, "Give the perplexity over all tokens of all texts.")
def perplexity(answer):
    compare(
        answer,
        lambda texts: math.exp(_pooled(texts)),
        {
            "two texts of different length": ([[1.0, 1.0, 1.0, 1.0], [3.0]],),
            "three texts": ([[0.5], [2.0, 1.0], [0.1, 0.3, 0.2, 1.4]],),
            "one text": ([[2.0, 4.0]],),
        },
        [
            (
                "You took the mean of the texts' means, so a token of a short text counts for more. Add up all tokens.",
                lambda texts: math.exp(_mean_of_means(texts)),
            ),
            (
                "You took the mean of the texts' perplexities. Average the losses over all tokens first, then take e to the "
                "power of it.",
                lambda texts: sum(math.exp(sum(t) / len(t)) for t in texts) / len(texts),
            ),
            (
                "That is the mean loss of a token. The perplexity is e to the power of it.",
                _pooled,
            ),
            (
                "You took e to the power of each token's loss and then the mean. First the mean, then e to the power of it.",
                lambda texts: sum(math.exp(x) for t in texts for x in t) / sum(map(len, texts)),
            ),
            (
                "These losses are natural logarithms (nats), so the base is e, not 2.",
                lambda texts: 2 ** _pooled(texts),
            ),
            (
                "You divided the sum by the number of texts. Divide by the number of tokens.",
                lambda texts: math.exp(sum(map(sum, texts)) / len(texts)),
            ),
            (
                "You did not divide. A longer text would then always look worse.",
                lambda texts: math.exp(sum(map(sum, texts))),
            ),
            (
                "The sign is the wrong way round: a loss is already minus the log of a probability.",
                lambda texts: math.exp(-_pooled(texts)),
            ),
            (
                "You looked at the first text only.",
                lambda texts: math.exp(sum(texts[0]) / len(texts[0])),
            ),
        ],
        form="one number, the perplexity",
        advice="Add the losses of all tokens of all texts, divide by their number, take e to the power of it.",
    )
    return "The tokens are pooled, as the loss of a training batch does it."


def _margin(rule, reduce=torch.mean):
    return lambda chosen, rejected, margin: reduce(rule(chosen, rejected, margin)).item()


CHOSEN, REJECTED = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([1.0, 1.5, -3.0])


@exercise(2, "Give the mean loss of the pairs when some preferences are stronger than others.")
def loss_with_margin(answer):
    compare(
        answer,
        _margin(lambda c, r, m: -logsigmoid(c - r - m)),
        {
            "three pairs": (CHOSEN, REJECTED, torch.tensor([0.0, 1.0, 0.5])),
            "margins of 0": (CHOSEN, REJECTED, torch.zeros(3)),
            "one pair": (torch.tensor([0.2]), torch.tensor([0.7]), torch.tensor([2.0])),
        },
        [
            (
                "You added the margin to the difference. A stronger preference would then cost less; it has to ask for a larger "
                "difference.",
                _margin(lambda c, r, m: -logsigmoid(c - r + m)),
            ),
            (
                "The margin is missing.",
                _margin(lambda c, r, m: -logsigmoid(c - r)),
            ),
            (
                "That rewards the rejected answer: the difference is chosen minus rejected.",
                _margin(lambda c, r, m: -logsigmoid(r - c - m)),
                _margin(lambda c, r, m: -logsigmoid(r - c + m)),
            ),
            (
                "That is the log-likelihood. A loss is minus that.",
                _margin(lambda c, r, m: logsigmoid(c - r - m)),
            ),
            (
                "That is a probability. Take minus its logarithm.",
                _margin(lambda c, r, m: torch.sigmoid(c - r - m)),
            ),
            (
                "That is one minus the probability. Take minus the logarithm of the probability.",
                _margin(lambda c, r, m: 1 - torch.sigmoid(c - r - m)),
            ),
            (
                "You added up the pairs. Give their mean.",
                _margin(lambda c, r, m: -logsigmoid(c - r - m), torch.sum),
            ),
            (
                "You took the mean of the probabilities and then the logarithm. Take the logarithm of each pair first.",
                lambda c, r, m: -torch.sigmoid(c - r - m).mean().log().item(),
            ),
            (
                "You took the mean of the differences first. Each pair has its own loss; take the mean of the losses.",
                lambda c, r, m: -logsigmoid((c - r - m).mean()).item(),
            ),
            (
                "You multiplied by the margin. Subtract it from the difference.",
                _margin(lambda c, r, m: -logsigmoid((c - r) * m)),
                _margin(lambda c, r, m: -m * logsigmoid(c - r)),
            ),
            (
                "You subtracted the margin from the loss. It belongs inside the sigmoid.",
                _margin(lambda c, r, m: -logsigmoid(c - r) - m),
            ),
            (
                "That is the hinge loss. Bradley and Terry's is minus the logarithm of a sigmoid.",
                _margin(lambda c, r, m: torch.relu(m - (c - r))),
                _margin(lambda c, r, m: torch.relu(1 + m - (c - r))),
            ),
        ],
        form="one number, the mean loss",
        advice="For each pair: minus the logarithm of the sigmoid of chosen minus rejected minus margin. Then the mean.",
    )
    return "TRL's RewardTrainer does this if the rows have a column `margin`."


def _last(ids, pad):
    """The position of each row's last token that is not padding."""
    return torch.tensor([max(n for n, i in enumerate(row) if i != pad) for row in ids.tolist()])


def _first_pad(ids, pad):
    rows = ids.tolist()
    return torch.tensor([row.index(pad) - 1 if pad in row else len(row) - 1 for row in rows])


@exercise(3, "Give for each row the position of its last token that is not padding.")
def last_token(answer):
    right = torch.tensor([[5, 6, 7, 0, 0], [5, 8, 0, 0, 0], [9, 9, 9, 9, 9]])
    left = torch.tensor([[0, 0, 5, 6, 7], [0, 0, 0, 5, 8], [9, 9, 9, 9, 9]])
    inside = torch.tensor([[5, 3, 7, 3], [3, 8, 4, 3]])
    compare(
        answer,
        _last,
        {
            "rows padded on the right": (right, 0),
            "rows padded on the left": (left, 0),
            "rows with the padding token inside the text, too": (inside, 3),
        },
        [
            (
                "You read the last column. With padding on the right that is a padding token.",
                lambda ids, pad: torch.full((len(ids),), ids.shape[1] - 1),
                lambda ids, pad: torch.full((len(ids),), -1),
            ),
            (
                "You counted the tokens of the text. That is their number less one only if nothing stands before or between them.",
                lambda ids, pad: (ids != pad).sum(1) - 1,
            ),
            (
                "That is the number of tokens, not a position. Positions begin at 0, and padding may stand on the left.",
                lambda ids, pad: (ids != pad).sum(1),
            ),
            (
                "You looked for the first padding token. Padding may stand on the left, and some models use a token that also "
                "stands inside a text.",
                _first_pad,
                lambda ids, pad: (ids == pad).int().argmax(1) - 1,
            ),
            (
                "That is the first token of the text. The last one is asked for.",
                lambda ids, pad: (ids != pad).int().argmax(1),
            ),
            (
                "You counted from the end of the row. Give positions from its beginning.",
                lambda ids, pad: (ids != pad).flip(1).int().argmax(1),
            ),
            (
                "You give the token itself. Its position is asked for.",
                lambda ids, pad: ids[torch.arange(len(ids)), _last(ids, pad)],
            ),
            (
                "You give the position one further, that of the padding after the text.",
                lambda ids, pad: _last(ids, pad) + 1,
            ),
            (
                "A padding token of 0 is written into your code. Use `pad`.",
                lambda ids, pad: _last(ids, 0),
            ),
        ],
        form="one position for each row",
        advice="Which is the largest position whose token is not `pad`?",
    )
    return "transformers finds it in the same way in models for sequence classification."
