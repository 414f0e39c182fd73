"""Checks of lesson 09's exercises."""

import torch
from torch import nn

from utils.checks import Hint, NotStarted, blame, call, compare, describe, exercise, tensor

ANY = ...  # this part of a pair does not matter


@exercise(1, "Give the pair (trained, stored) for an encoder with an MLP of three layers.")
def count(answer):
    def weights(d, h):
        return d * h + h * h + h * d

    def trained(number):
        return lambda p, d, h: (number(p, d, h), ANY)

    def stored(number):
        return lambda p, d, h: (ANY, number(p, d, h))

    def right(p, d, h):
        return p * d + weights(d, h) + h + h + d

    compare(
        answer,
        lambda p, d, h: (right(p, d, h), p * d),
        [(10, 64, 96), (4, 8, 16), (3, 10, 10), (1, 7, 2)],
        [
            (
                "The embeddings that the MLP reads are trained as well: p of them, d numbers each.",
                trained(lambda p, d, h: right(p, d, h) - p * d),
            ),
            (
                "Each of the three linear layers has a bias, too.",
                trained(lambda p, d, h: p * d + weights(d, h)),
            ),
            (
                "Neither the biases of the three layers nor the embeddings are counted. Both "
                "train.",
                trained(lambda p, d, h: weights(d, h)),
            ),
            (
                "A layer's bias is as long as its output: h, h, then d.",
                trained(lambda p, d, h: p * d + weights(d, h) + 3 * h),
                trained(lambda p, d, h: p * d + weights(d, h) + 3 * d),
                trained(lambda p, d, h: p * d + weights(d, h) + d + h + h + d),
                trained(lambda p, d, h: p * d + weights(d, h) + d + h),
            ),
            (
                "That is an MLP of two layers. This one has three: d to h, h to h, h to d.",
                trained(lambda p, d, h: p * d + d * h + h + h * d + d),
            ),
            (
                "That is an MLP of four layers. This one has three: d to h, h to h, h to d.",
                trained(lambda p, d, h: right(p, d, h) + h * h + h),
            ),
            (
                "That is what is stored. Trained is the network that writes it, and its inputs.",
                trained(lambda p, d, h: p * d),
            ),
            (
                "You gave every layer d inputs and d outputs. They go d to h, h to h, h to d.",
                trained(lambda p, d, h: p * d + 3 * (d * d + d)),
            ),
            (
                "You gave every layer the same size. They go d to h, h to h, h to d.",
                trained(lambda p, d, h: p * d + 3 * (d * h + h)),
                trained(lambda p, d, h: p * d + 3 * (h * h + h)),
            ),
            (
                "There is one MLP for all virtual tokens, not one for each.",
                trained(lambda p, d, h: p * (d + weights(d, h) + h + h + d)),
                trained(lambda p, d, h: p * d + p * (weights(d, h) + h + h + d)),
            ),
            (
                "The encoder is not stored: only what it writes is, p vectors of width d.",
                stored(right),
                stored(lambda p, d, h: right(p, d, h) - p * d),
            ),
            (
                "What is stored has the width of an embedding, d, not of the MLP's inside.",
                stored(lambda p, d, h: p * h),
            ),
            ("Stored are p vectors, not one.", stored(lambda p, d, h: d)),
            (
                "A prompt is stored once, at the input: no keys and values.",
                stored(lambda p, d, h: 2 * p * d),
            ),
        ],
        form="two numbers, (trained, stored)",
        names=("trained", "stored"),
        advice="The layers go d to h, h to h, h to d, each with a bias; stored is what they write.",
    )
    return "The larger the encoder, the larger the gap; the file does not notice."


@exercise(
    2, "Return a function of no arguments that gives the encoder's prompt without the encoder."
)
def bake(answer):
    for seed, p, d in ((0, 3, 4), (1, 5, 2)):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(d, 6), nn.ReLU(), nn.Linear(6, d))
        inputs, calls = nn.Parameter(torch.randn(p, d)), []

        def encoder(network=network, inputs=inputs, calls=calls):
            calls.append(1)
            return network(inputs)

        wanted = network(inputs).detach().clone()
        baked = call(answer, encoder)
        if baked is encoder:
            raise Hint(
                "That is the encoder itself: you still call it. Run it once and keep the result."
            )
        if not callable(baked):
            try:
                given = tensor(baked)
            except Hint:
                raise Hint(
                    f"Return a function of no arguments; you gave {describe(baked)}."
                ) from None
            if given.shape == wanted.shape and torch.allclose(given, wanted.double(), atol=1e-5):
                raise Hint(
                    "That is the prompt itself. Return a function that gives it, so that it "
                    "fits where the encoder stood."
                )
            raise Hint(f"Return a function of no arguments; you gave {describe(baked)}.")
        try:
            first = call(baked)
        except NotStarted:
            raise Hint(
                "The function that you return gives None. It should give the prompt."
            ) from None
        except TypeError as error:
            if "could not be read" not in blame(error):
                raise
            raise Hint(f"What you return must be callable with no arguments: {error}.") from None
        values = tensor(first, "the prompt, a tensor, from the function that you return")
        if values.shape != wanted.shape:
            raise Hint(
                f"The prompt should have the shape {list(wanted.shape)}, [p, d]; your function "
                f"gives {list(values.shape)}."
            )
        if not torch.allclose(values, wanted.double(), atol=1e-5):
            raise Hint("The prompt is not what the encoder writes.")
        before = len(calls)
        with torch.no_grad():
            for parameter in (*network.parameters(), inputs):
                parameter.zero_()
        again = tensor(call(baked))
        if len(calls) > before:
            raise Hint(
                "Your function still calls the encoder: you still call it whenever the prompt is "
                "read. Run it once and keep the result."
            )
        if not torch.allclose(again, wanted.double(), atol=1e-5):
            raise Hint(
                "The encoder was wiped and the prompt changed. Run the encoder once and keep a "
                "copy of the result."
            )
        if torch.is_tensor(first) and first.grad_fn is not None:
            raise Hint(
                "The prompt still hangs on the encoder's graph, so the encoder stays in memory. "
                "Detach it."
            )
    return "What is left is p times d constants."


@exercise(3, "Give (v1, v2): how many virtual tokens each version affords.")
def afford(answer):
    def v1(number):
        return lambda n, layers, d, kv, w: (number(n, layers, d, kv, w), ANY)

    def v2(number):
        return lambda n, layers, d, kv, w: (ANY, number(n, layers, d, kv, w))

    compare(
        answer,
        lambda n, layers, d, kv, w: (n // d, n // (2 * layers * kv * w)),
        [
            (10_000, 6, 320, 2, 40),
            (7_000, 2, 96, 4, 8),
            (50, 3, 64, 2, 16),
            (960, 2, 96, 1, 24),
            (5_000, 5, 128, 2, 32),
        ],
        [
            (
                "There is no part of a virtual token: give whole numbers, rounded down.",
                lambda n, layers, d, kv, w: (n / d, n / (2 * layers * kv * w)),
                v1(lambda n, layers, d, kv, w: n / d),
                v2(lambda n, layers, d, kv, w: n / (2 * layers * kv * w)),
            ),
            (
                "That many tokens need more than the file may hold. Round down.",
                v1(lambda n, layers, d, kv, w: -(-n // d)),
                v1(lambda n, layers, d, kv, w: n // d + 1),
                v2(lambda n, layers, d, kv, w: -(-n // (2 * layers * kv * w))),
                v2(lambda n, layers, d, kv, w: n // (2 * layers * kv * w) + 1),
                v1(lambda n, layers, d, kv, w: round(n / d)),
                v2(lambda n, layers, d, kv, w: round(n / (2 * layers * kv * w))),
            ),
            (
                "The prompt of v1 stands at the input: each vector is as wide as an embedding, d.",
                v1(lambda n, layers, d, kv, w: n // (kv * w)),
                v1(lambda n, layers, d, kv, w: n // w),
            ),
            (
                "The prompt of v1 stands at the input once, not in every layer.",
                v1(lambda n, layers, d, kv, w: n // (layers * d)),
            ),
            (
                "A prompt of v1 has one vector a token, no key and value.",
                v1(lambda n, layers, d, kv, w: n // (2 * d)),
                v1(lambda n, layers, d, kv, w: n // (2 * layers * d)),
            ),
            (
                "In v2, with grouped-query attention, keys and values are narrower than d: "
                "kv_heads times head_dim.",
                v2(lambda n, layers, d, kv, w: n // (2 * layers * d)),
            ),
            (
                "In v2 each layer gets keys and values: that is twice.",
                v2(lambda n, layers, d, kv, w: n // (layers * kv * w)),
            ),
            (
                "In v2 every layer has a prompt; you counted one layer.",
                v2(lambda n, layers, d, kv, w: n // (2 * kv * w)),
            ),
            (
                "In v2 a key has kv_heads times head_dim numbers; you counted one head.",
                v2(lambda n, layers, d, kv, w: n // (2 * layers * w)),
            ),
            (
                "In v2 a key has kv_heads times head_dim numbers; you counted one number a head.",
                v2(lambda n, layers, d, kv, w: n // (2 * layers * kv)),
            ),
            (
                "In v2 the prompt stands in every layer; that is v1's number.",
                v2(lambda n, layers, d, kv, w: n // d),
            ),
        ],
        form="two numbers, (v1, v2)",
        names=("v1", "v2"),
        advice="What does one virtual token cost in each version?",
    )
    return "Which of the two costs more a token depends on the base: 2 L d_kv against d."
