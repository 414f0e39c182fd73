"""Checks of lesson 07's exercises."""

import torch

from utils.checks import compare, exercise


@exercise(1, "Give the number of values that are kept for the whole prefix.")
def count_stored(answer):
    compare(
        answer,
        lambda layers, tokens, heads, kv, dim: 2 * layers * tokens * kv * dim,
        [(3, 7, 8, 2, 20), (3, 14, 8, 2, 20), (5, 7, 6, 6, 20), (3, 7, 12, 4, 33), (2, 1, 4, 1, 8)],
        [
            ("You counted the query heads. Keys and values have only kv_heads heads when attention is grouped.", lambda n, p, h, kv, d: 2 * n * p * h * d),
            ("You counted queries, too. A prefix has keys and values only.", lambda n, p, h, kv, d: 2 * n * p * kv * d + n * p * h * d),
            ("Every virtual token has a key and a value: that is twice.", lambda n, p, h, kv, d: n * p * kv * d),
            ("A virtual token has two vectors in a layer, a key and a value, not three.", lambda n, p, h, kv, d: 3 * n * p * kv * d),
            ("That is one layer. The prefix stands in every one.", lambda n, p, h, kv, d: 2 * p * kv * d),
            ("A head's key is a vector of head_dim numbers, not one number.", lambda n, p, h, kv, d: 2 * n * p * kv),
            ("That is one head. Each of the kv_heads heads has a key and a value of its own.", lambda n, p, h, kv, d: 2 * n * p * d),
            ("That is one virtual token.", lambda n, p, h, kv, d: 2 * n * kv * d),
            ("That is bytes: four for each number in 32 bits. Count the numbers.", lambda n, p, h, kv, d: 8 * n * p * kv * d),
            ("That is bytes: two for each number in 16 bits. Count the numbers.", lambda n, p, h, kv, d: 4 * n * p * kv * d),
            ("A vector at the input has heads * head_dim numbers, and it stands there once: that is a prompt. A prefix has keys and values in each layer.", lambda n, p, h, kv, d: p * h * d),
            ("You divided the heads by one another. Take kv_heads as it is.", lambda n, p, h, kv, d: 2 * n * p * (h // kv) * d),
        ],
        form="one number of values",
        advice="Multiply 2 (key and value), layers, tokens and the width of one key.",
    )  # fmt: skip
    return "Fewer key-value heads make the file smaller, too."


def _unpack(order="layers first", swap=False, transpose=True, layer_of=lambda layer, layers: layer):
    """The key and the value of one layer, or a mistake in taking them out."""

    def take(flat, layer, layers, kv, dim):
        p, n = len(flat), layer_of(layer, layers)
        if order == "layers first":
            parts = flat.view(p, layers, 2, kv, dim)[:, n].unbind(1)
        elif order == "keys first":
            parts = flat.view(p, 2, layers, kv, dim)[:, :, n].unbind(1)
        elif order == "heads before pairs":
            parts = flat.view(p, layers, kv, 2, dim)[:, n].unbind(2)
        elif order == "widths before heads":
            parts = flat.view(p, layers, 2, dim, kv)[:, n].transpose(-1, -2).unbind(1)
        elif order == "tokens inside":
            parts = flat.reshape(layers, 2, kv, p, dim)[n].transpose(1, 2)
        if order == "scrambled":
            parts = [t.reshape(kv, p, dim) for t in flat.view(p, layers, 2, kv, dim)[:, n].unbind(1)]
        elif transpose:
            parts = [t.transpose(0, 1) for t in parts]
        return tuple(parts[::-1]) if swap else tuple(parts)

    return take


@exercise(2, "Give the key and the value of one layer, each [kv_heads, p, head_dim].")
def unpack(answer):
    def flat(p, layers, heads, dim):
        return torch.arange(p * layers * 2 * heads * dim, dtype=torch.float32).view(p, -1)

    compare(
        answer,
        _unpack(),
        {
            f"{p} virtual tokens, layer {layer} of {layers}, {heads} heads of {dim}": (flat(p, layers, heads, dim), layer, layers, heads, dim)
            for p, layers, heads, dim, layer in ((3, 4, 3, 5, 0), (3, 4, 3, 5, 2), (4, 3, 3, 2, 1), (2, 2, 2, 2, 1), (1, 3, 2, 3, 2))
        },
        [
            ("Token before head: your tensors are [p, kv_heads, head_dim]. The cache wants [kv_heads, p, head_dim].", _unpack(transpose=False)),
            ("The shape fits, the numbers are scrambled: reshaping does not swap axes. Use transpose or permute.", _unpack("scrambled")),
            ("You read all keys first and then all values. In one row, layer by layer, stands key, value.", _unpack("keys first")),
            ("In a row the key of all heads comes before the value of all heads: [layers, 2, kv_heads, head_dim].", _unpack("heads before pairs")),
            ("In a row the numbers of a head stand side by side: kv_heads before head_dim.", _unpack("widths before heads")),
            ("Each row of `flat` is one virtual token. Split a row, not the whole tensor.", _unpack("tokens inside")),
            ("You always take layer 0. `layer` says which one.", _unpack(layer_of=lambda layer, layers: 0)),
            ("You always take the last layer. `layer` says which one.", _unpack(layer_of=lambda layer, layers: layers - 1)),
            ("You take the layer before: layers are counted from 0.", _unpack(layer_of=lambda layer, layers: layer - 1)),
            ("Key twice: the second tensor should be the value.", lambda *args: (_unpack()(*args)[0],) * 2),
            ("The last two axes are swapped: head_dim comes last.", lambda *args: tuple(t.transpose(1, 2) for t in _unpack()(*args))),
        ],
        form="two tensors, the key and the value",
        names=("the key", "the value"),
        advice="A row is [layers, 2, kv_heads, head_dim], laid flat.",
    )  # fmt: skip
    return "The same as the library's view, permute and split."


def _attention(seed, n, p, d, shift=0.0, spread=1.0):
    """(output over the text, output over the prefix, scores of the text, scores of the prefix)."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randn(p + n, generator=rng) * spread + shift
    values = torch.randn(p + n, d, generator=rng)
    parts = slice(p, None), slice(0, p)
    return (*(scores[s].softmax(0) @ values[s] for s in parts), *(scores[s] for s in parts))


def _mixed(share):
    """Attention over both, given the prefix's share as a function of (scores of the text, scores of the prefix)."""

    def mix(out_text, out_prefix, text, prefix):
        s = share(text, prefix)
        return (1 - s) * out_text + s * out_prefix

    return mix


@exercise(
    3,
    "Give the output of attention over prefix and text together, made from the outputs over each alone.",
)
def blend(answer):
    def right(t, p):
        return (p.logsumexp(0) - t.logsumexp(0)).sigmoid()

    def naive(out_text, out_prefix, t, p):
        a, b = p.exp().sum(), t.exp().sum()
        return (a * out_prefix + b * out_text) / (a + b)

    compare(
        answer,
        _mixed(right),
        {
            "5 positions of text and 2 of the prefix": _attention(0, 5, 2, 4),
            "3 positions of text and 6 of the prefix": _attention(1, 3, 6, 2),
            "4 positions of text and 4 of the prefix": _attention(2, 4, 4, 3, spread=3.0),
            "one position of text and one of the prefix": _attention(3, 1, 1, 3),
            "scores around 200": _attention(4, 5, 2, 4, shift=200.0),
            "scores around -200": _attention(5, 5, 3, 4, shift=-200.0),
        },
        [
            ("The two shares are the wrong way round: the prefix's share belongs to the prefix's output.", _mixed(lambda t, p: 1 - right(t, p))),
            ("You added two whole outputs. One unit of attention is shared out, so the weights of the two must sum to one.", lambda a, b, t, p: a + b),
            ("Half and half only holds when both parts have equal sums. How much of the softmax goes to the prefix?", _mixed(lambda t, p: 0.5)),
            ("You shared out by the number of positions. Attention is shared out by exp(score).", _mixed(lambda t, p: len(p) / (len(t) + len(p)))),
            ("You shared out by the scores themselves. Softmax takes exp(score) first.", _mixed(lambda t, p: p.sum() / (p.sum() + t.sum()))),
            ("You shared out by the mean of exp(score). Sum it up: more positions get more attention.", _mixed(lambda t, p: (p.logsumexp(0) - t.logsumexp(0) + torch.tensor(len(t) / len(p)).log()).sigmoid())),
            ("You put one score for each part into the softmax, its sum or mean. Every position has its own exp(score).", _mixed(lambda t, p: (p.sum() - t.sum()).sigmoid()), _mixed(lambda t, p: (p.mean() - t.mean()).sigmoid())),
            ("You compared the largest scores only. Every position has its own exp(score).", _mixed(lambda t, p: (p.max() - t.max()).sigmoid())),
            ("Right for small scores; with scores around 200, exp overflows, and around -200 it becomes 0. torch.softmax or torch.logsumexp take care of that.", naive, _mixed(lambda t, p: p.exp().sum() / (p.exp().sum() + t.exp().sum()))),
            ("That is the output over the text alone.", lambda a, b, t, p: a),
            ("That is the output over the prefix alone.", lambda a, b, t, p: b),
            ("The prefix's share is right, and the text's output has its whole weight still. The weights must sum to one.", lambda a, b, t, p: a + right(t, p) * b),
        ],
        form="one vector, as each of the two outputs is",
        advice="The prefix's share is its sum of exp(score), divided by everybody's.",
    )  # fmt: skip
    return "So a prefix only blends in its own output, with one share a position: the pattern within the text stays."
