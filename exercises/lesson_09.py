"""Checks of lesson 09's exercises."""

import torch
from torch import nn

from utils.checks import Hint, call, exercise


@exercise(1, "Give the pair (trained, stored) for an encoder with an MLP of three layers.")
def count(answer):
    tokens, width, hidden = 10, 64, 96
    got = call(answer, tokens, width, hidden)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Hint(f"Return two numbers, as in `return trained, stored`; you gave {got!r}.")
    weights, biases = width * hidden + hidden * hidden + hidden * width, hidden + hidden + width
    trained, stored = tokens * width + weights + biases, tokens * width
    if got[0] == weights + biases:
        raise Hint(
            "The embeddings that the MLP reads are trained as well: p of them, d numbers each."
        )
    if got[0] == tokens * width + weights:
        raise Hint("Each of the three linear layers has a bias, too.")
    if got[0] == stored:
        raise Hint("That is what is stored. Trained is the network that writes it, and its inputs.")
    if got[0] != trained:
        raise Hint(
            f"For p = 10, d = 64 and 96 hidden units you trained {got[0]}. The layers go d -> hidden -> hidden -> d."
        )
    if got[1] == trained:
        raise Hint("The encoder is not stored: only what it writes is, p vectors of width d.")
    if got[1] != stored or call(answer, 4, 8, 16) != (
        4 * 8 + 8 * 16 + 16 * 16 + 16 * 8 + 16 + 16 + 8,
        32,
    ):
        raise Hint("Trained is right, stored is not, or only for these sizes. Use the arguments.")
    return "The larger the encoder, the larger the gap; the file does not notice."


@exercise(
    2, "Return a function of no arguments that gives the encoder's prompt without the encoder."
)
def bake(answer):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    inputs = nn.Parameter(torch.randn(3, 4))

    def write():
        return encoder(inputs)

    wanted = write().detach().clone()
    baked = call(answer, write)
    if torch.is_tensor(baked):
        raise Hint(
            "That is the prompt itself. Return a function that gives it, so that it fits where the encoder stood."
        )
    if not callable(baked):
        raise Hint(f"Return a function; you gave {type(baked).__name__}.")
    first = baked()
    if (
        not torch.is_tensor(first)
        or first.shape != wanted.shape
        or not torch.allclose(first, wanted)
    ):
        raise Hint("The prompt is not what the encoder writes.")
    with torch.no_grad():
        for p in encoder.parameters():
            p.zero_()
    if not torch.allclose(baked(), wanted):
        raise Hint(
            "The encoder was wiped and the prompt changed: you still call it. Run it once and keep the result."
        )
    if first.requires_grad:
        raise Hint(
            "The prompt still hangs on the encoder's graph, so the encoder stays in memory. Detach it."
        )
    return "What is left is p times d constants."


@exercise(3, "Give (v1, v2): how many virtual tokens each version affords.")
def afford(answer):
    numbers, layers, width, kv_heads, head_dim = 10_000, 6, 320, 2, 40
    got = call(answer, numbers, layers, width, kv_heads, head_dim)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Hint(f"Return two numbers, v1 and v2; you gave {got!r}.")
    v1, v2 = got
    if any(not isinstance(v, int) for v in got):
        raise Hint(
            f"You gave {v1} and {v2}. There is no part of a virtual token: give whole numbers."
        )
    if v1 == 32:
        raise Hint("That many v1 tokens need more than the file may hold. Round down.")
    if v1 != 31:
        raise Hint(
            f"v1 stores a prompt at the input, each vector as wide as an embedding; you gave {v1}."
        )
    known = {
        2: "With grouped-query attention keys and values are narrower than d: kv_heads times head_dim.",
        20: "Each layer gets keys and values: that is twice.",
        62: "That is one layer. v2 puts a prompt into every one.",
        11: "That many v2 tokens need more than the file may hold. Round down.",
    }
    if v2 != 10:
        raise Hint(
            known.get(
                v2,
                f"A file of 10,000 numbers, 6 layers, 2 key-value heads of 40: you gave {v2}. What does one virtual token of v2 cost?",
            )
        )
    for other, right in (
        ((7_000, 2, 96, 4, 8), (72, 54)),
        ((50, 3, 64, 2, 16), (0, 0)),
        ((960, 2, 96, 1, 24), (10, 10)),
    ):
        if call(answer, *other) != right:
            raise Hint(
                f"Right for one model, wrong for numbers, layers, width, kv_heads, head_dim = {other}."
            )
    return "Which of the two costs more a token depends on the base: 2 L d_kv against d."
