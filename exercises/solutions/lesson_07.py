"""Solutions and plausible mistakes of lesson 07's exercises."""

import numpy as np
import torch


def stored(layers, tokens, heads, kv_heads, head_dim):
    return 2 * layers * tokens * kv_heads * head_dim


def unpack(flat, layer, layers, kv_heads, head_dim):
    key, value = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, layer].permute(1, 2, 0, 3)
    return key, value


def parts(flat, layer, layers, kv_heads, head_dim):
    """[p, 2, kv_heads, head_dim] of the layer."""
    return flat.reshape(len(flat), layers, 2, kv_heads, head_dim)[:, layer]


def keys_first(flat, layer, layers, kv_heads, head_dim):
    whole = flat.view(len(flat), 2, layers, kv_heads, head_dim)
    return tuple(whole[:, i, layer].transpose(0, 1) for i in (0, 1))


def three_tokens(flat, layer, layers, kv_heads, head_dim):
    whole = flat.view(3, layers, 2, kv_heads, head_dim)[:, layer]
    return tuple(whole[:, i].transpose(0, 1) for i in (0, 1))


def scrambled(flat, layer, layers, kv_heads, head_dim):
    whole = parts(flat, layer, layers, kv_heads, head_dim)
    return tuple(whole[:, i].reshape(kv_heads, len(flat), head_dim) for i in (0, 1))


def share(scores_text, scores_prefix):
    both = torch.cat([scores_prefix, scores_text]).softmax(0)
    return both[: len(scores_prefix)].sum()


def mixed(weight):
    def answer(out_text, out_prefix, scores_text, scores_prefix):
        s = weight(scores_text, scores_prefix)
        return (1 - s) * out_text + s * out_prefix

    return answer


def naive(out_text, out_prefix, scores_text, scores_prefix):
    a, b = scores_prefix.exp().sum(), scores_text.exp().sum()
    return (a * out_prefix + b * out_text) / (a + b)


def in_numpy(out_text, out_prefix, scores_text, scores_prefix):
    text, prefix = np.asarray(scores_text), np.asarray(scores_prefix)
    top = max(text.max(), prefix.max())
    a, b = np.exp(prefix - top).sum(), np.exp(text - top).sum()
    return (a * np.asarray(out_prefix) + b * np.asarray(out_text)) / (a + b)


SOLUTIONS = {
    "count_stored": stored,
    "unpack": unpack,
    "blend": [mixed(share), in_numpy],
}

MISTAKES = {
    "count_stored": [
        ("query heads", lambda n, p, h, kv, d: 2 * n * p * h * d, "query heads"),
        ("key alone", lambda n, p, h, kv, d: n * p * kv * d, "a key and a value"),
        ("one layer", lambda n, p, h, kv, d: 2 * p * kv * d, "one layer"),
        ("no width", lambda n, p, h, kv, d: 2 * n * p * kv, "not one number"),
        ("one head", lambda n, p, h, kv, d: 2 * n * p * d, "one head"),
        ("bytes in 32 bits", lambda n, p, h, kv, d: 4 * stored(n, p, h, kv, d), "in 32 bits"),
        ("bytes in 16 bits", lambda n, p, h, kv, d: 2 * stored(n, p, h, kv, d), "in 16 bits"),
        ("7 tokens", lambda n, p, h, kv, d: 14 * n * kv * d, "Right in 3 of 5 cases"),
        ("2 heads", lambda n, p, h, kv, d: 4 * n * p * d, "the width of one key"),
        ("prompt", lambda n, p, h, kv, d: p * h * d, "that is a prompt"),
        ("queries too", lambda n, p, h, kv, d: stored(n, p, h, kv, d) + n * p * h * d, "keys and values only"),
    ],
    "unpack": [
        ("token before head", lambda *a: tuple(parts(*a)[:, i] for i in (0, 1)), "Token before head"),
        ("swapped", lambda *a: unpack(*a)[::-1], "swapped: the key comes first"),
        ("scrambled", scrambled, "scrambled"),
        ("key alone", lambda *a: unpack(*a)[0], "two tensors"),
        ("keys first", keys_first, "all keys first"),
        ("layer 0", lambda flat, layer, *a: unpack(flat, 0, *a), "always take layer 0"),
        ("layer before", lambda flat, layer, *a: unpack(flat, layer - 1, *a), "counted from 0"),
        ("3 tokens", three_tokens, "RuntimeError"),
        ("key twice", lambda *a: (unpack(*a)[0], unpack(*a)[0]), "Key twice"),
        ("last axes", lambda *a: tuple(t.transpose(1, 2) for t in unpack(*a)), "head_dim comes last"),
        ("batch axis", lambda *a: tuple(t[None] for t in unpack(*a)), "the key is wrong: you gave the shape [1,"),
    ],
    "blend": [
        ("swapped", mixed(lambda t, p: 1 - share(t, p)), "wrong way round"),
        ("sum", lambda a, b, t, p: a + b, "two whole outputs"),
        ("half", lambda a, b, t, p: (a + b) / 2, "Half and half"),
        ("positions", mixed(lambda t, p: len(p) / (len(p) + len(t))), "number of positions"),
        ("scores", mixed(lambda t, p: p.sum() / (p.sum() + t.sum())), "scores themselves"),
        ("overflow", naive, "overflows"),
        ("stacked", lambda a, b, t, p: torch.stack([a, b]), "you gave the shape"),
        ("root", mixed(lambda t, p: share(t, p).sqrt()), "divided by everybody's"),
        ("first two", mixed(lambda t, p: torch.cat([p, t]).softmax(0)[:2].sum()), "Right in 2 of 6 cases"),
        ("means", mixed(lambda t, p: (p.mean() - t.mean()).sigmoid()), "one score for each part"),
        ("text", lambda a, b, t, p: a, "over the text alone"),
        ("unweighted text", lambda a, b, t, p: a + share(t, p) * b, "must sum to one"),
        ("200 alone", mixed(lambda t, p: share(t, p) * (1 + (t.max() > 100))), "For scores around 200"),
    ],
}  # fmt: skip
