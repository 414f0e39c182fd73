"""Checks of lesson 08's exercises."""

import torch

from utils.checks import Hint, call, exercise


@exercise(1, "Give the pair (trained numbers, tokens of text that still fit).")
def cost(answer):
    got = call(answer, 10, 192, 512)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Hint(f"Return two numbers, as in `return a, b`; you gave {got!r}.")
    trained, room = got
    if trained == 10 * 192 * 4 or trained == 2 * 10 * 192:
        raise Hint(
            "That is a prompt in every layer, or keys and values: prefix tuning. Here the prompt stands at the input only."
        )
    if trained == 512 * 192:
        raise Hint("You counted the whole context. Only the virtual tokens are trained.")
    if trained != 10 * 192:
        raise Hint(
            f"For 10 virtual tokens of width 192 you gave {trained}. Each virtual token is one vector."
        )
    if room == 512:
        raise Hint("The virtual tokens take places in the context like any other token.")
    if room == 512 - 10 * 192:
        raise Hint("A virtual token takes one place, however wide it is.")
    if room != 502 or call(answer, 20, 64, 100) != (1280, 80):
        raise Hint(
            "The trained numbers are right, the room is not, or only for these sizes. Use the arguments."
        )
    return (
        "Every call pays for the virtual tokens again: they are read, and attended to, like text."
    )


@exercise(2, "Cut the virtual tokens' logits off, then shift by one.")
def line_up(answer):
    for batch, p, n in ((2, 3, 5), (3, 6, 4)):
        _line_up(answer, batch, p, n)
    return "Without the cut the loss would still be a number, and a wrong one."


def _line_up(answer, batch, p, n):
    logits = torch.arange(batch * (p + n) * 7, dtype=torch.float).reshape(batch, p + n, 7)
    labels = torch.arange(batch * n).reshape(batch, n)
    got = call(answer, logits, labels)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Hint("Return the two tensors, as in `return logits, labels`.")
    (L, y), text = got, logits[:, p:]
    if y.shape[1] == n:
        raise Hint(
            "The labels are not shifted: the first token of the text is predicted by nothing that you score."
        )
    if y.shape == (batch, n - 1) and torch.equal(y, labels[:, :-1]):
        raise Hint("The labels are shifted the wrong way: drop the first one, keep the last.")
    if L.shape[1] == p + n - 1:
        raise Hint("The virtual tokens' logits are still there: keep the last n positions only.")
    if L.shape[1] != n - 1:
        raise Hint(
            f"The logits have {L.shape[1]} positions, the labels {y.shape[1]}; both should have n - 1."
        )
    if torch.equal(L, logits[:, : n - 1]):
        raise Hint(
            "You kept the first positions. The virtual tokens stand in front, so their logits come first."
        )
    if torch.equal(L, text[:, 1:]):
        raise Hint(
            "These logits predict the token after the label. Drop the last position, not the first."
        )
    if not torch.equal(L, text[:, :-1]) or not torch.equal(y, labels[:, 1:]):
        raise Hint("The shapes are right and the values are not.")


@exercise(3, "Count the votes; break ties by the sum of log-probabilities.")
def vote(answer):
    first = torch.tensor(
        [
            [0.9, 0.6, 0.55, 0.6, 0.7],
            [0.8, 0.6, 0.55, 0.2, 0.7],
            [0.7, 0.6, 0.45, 0.2, 0.7],
            [0.6, 0.01, 0.1, 0.2, 0.001],
        ]
    )
    p = torch.stack([first, 1 - first], dim=-1)
    log_p = p.log()
    got = call(answer, log_p)
    if not torch.is_tensor(got) or got.shape != (5,):
        raise Hint(
            f"Give one label a row, shape [5]; you gave {list(got.shape) if torch.is_tensor(got) else got!r}."
        )
    got = got.long()
    counts = torch.nn.functional.one_hot(log_p.argmax(-1), 2).sum(0)
    if torch.equal(got, log_p.sum(0).argmax(-1)):
        raise Hint(
            "You averaged the log-probabilities: one very sure prompt outvotes three. Count one vote a prompt."
        )
    if torch.equal(got, p.sum(0).argmax(-1)):
        raise Hint("You averaged the probabilities. Count one vote a prompt.")
    if torch.equal(got, log_p[0].argmax(-1)):
        raise Hint("That is what the first prompt says.")
    if got[2] != 1 and torch.equal(got[[0, 1, 3, 4]], counts.argmax(-1)[[0, 1, 3, 4]]):
        raise Hint(
            "Right but for the tie (two against two): there the higher summed log-probability decides."
        )
    if not torch.equal(got, torch.tensor([0, 0, 1, 1, 0])):
        raise Hint(
            "Take the arg max of each prompt first, then count how often each label was chosen."
        )
    three = torch.tensor(
        [
            [[0.2, 0.3, 0.5]],
            [[0.2, 0.3, 0.5]],
            [[0.3, 0.4, 0.3]],
            [[0.6, 0.3, 0.1]],
            [[0.4, 0.35, 0.25]],
        ]
    ).log()
    if call(answer, three).long().tolist() != [0]:
        raise Hint(
            "Right for two labels. With three, a tie is between the labels with most votes; the others are out."
        )
    ties = torch.tensor([[0.99, 0.9999], [0.99, 0.6], [0.45, 1e-3], [1e-5, 1e-3]])
    if call(answer, torch.stack([ties, 1 - ties], dim=-1).log()).long().tolist() != [1, 1]:
        raise Hint(
            "A tie goes to the higher sum of log-probabilities, over all prompts. You settled some tie by something else."
        )
    sure = torch.tensor([[[0.6, 0.4]]] * 3 + [[[1e-30, 1.0]]] * 2).log()
    if call(answer, sure).long().tolist() != [0]:
        raise Hint(
            "Three votes lost against two very sure ones. The sum may settle a tie and nothing else."
        )
    return "One batch, one pass, as many voters as fit."
