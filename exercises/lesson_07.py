"""Checks of lesson 07's exercises."""

import torch

from utils.checks import Hint, call, exercise


@exercise(1, "Give the number of values that are kept for the whole prefix.")
def count_stored(answer):
    layers, tokens, heads, kv_heads, head_dim = 3, 7, 8, 2, 20
    right = 2 * layers * tokens * kv_heads * head_dim
    got = call(answer, layers, tokens, heads, kv_heads, head_dim)
    if got == right:
        for other in ((3, 14, 8, 2, 20), (5, 7, 8, 2, 20), (3, 7, 12, 4, 20), (3, 7, 8, 2, 33)):
            layers, tokens, _, kv_heads, head_dim = other
            if call(answer, *other) != 2 * layers * tokens * kv_heads * head_dim:
                raise Hint(
                    f"Right for one model, wrong for layers, tokens, heads, kv_heads, head_dim = {other}: count from the arguments."
                )
        return "Fewer key-value heads make the file smaller, too."
    if got == 2 * layers * tokens * heads * head_dim:
        raise Hint(
            "You counted the query heads. Keys and values have only kv_heads heads when attention is grouped."
        )
    if got == right // 2:
        raise Hint("Half of it: every virtual token has a key and a value.")
    if got == right // layers:
        raise Hint("That is one layer. The prefix stands in every one.")
    if got == 2 * layers * tokens * kv_heads:
        raise Hint("A head's key is a vector of head_dim numbers, not one number.")
    raise Hint(
        f"For 3 layers, 7 tokens, 2 key-value heads of 20 you gave {got}; multiply 2 (key and value), layers, tokens and the width."
    )


@exercise(2, "Give the key and the value of one layer, each [kv_heads, p, head_dim].")
def unpack(answer):
    for p, layers, heads, dim, layer in ((3, 4, 2, 5, 0), (3, 4, 2, 5, 2), (4, 3, 3, 2, 1)):
        flat = torch.arange(p * layers * 2 * heads * dim, dtype=torch.float32).view(p, -1)
        whole = flat.view(p, layers, 2, heads, dim)
        got = call(answer, flat, layer, layers, heads, dim)
        if (
            not isinstance(got, (tuple, list))
            and not (torch.is_tensor(got) and got.shape[0] == 2)
            or len(got) != 2
        ):
            raise Hint("Give two tensors: the key and the value.")
        right = [whole[:, layer, i].transpose(0, 1) for i in (0, 1)]
        if any(tuple(g.shape) == (p, heads, dim) for g in got):
            raise Hint(
                "Token before head: your tensors are [p, kv_heads, head_dim]. The cache wants [kv_heads, p, head_dim]."
            )
        if any(g.shape != r.shape for g, r in zip(got, right)):
            raise Hint(
                f"Shapes are {[list(g.shape) for g in got]}; each should be [kv_heads, p, head_dim] = {[heads, p, dim]}."
            )
        if torch.equal(got[0], right[1]) and torch.equal(got[1], right[0]):
            raise Hint("Key and value are the wrong way round: the key comes first.")
        scrambled = [whole[:, layer, i].reshape(heads, p, dim) for i in (0, 1)]
        if all(torch.equal(g, s) for g, s in zip(got, scrambled)):
            raise Hint(
                "The shape fits, the numbers are scrambled: reshaping does not swap axes. Use transpose or permute."
            )
        other = flat.view(p, 2, layers, heads, dim)
        if all(torch.equal(g, other[:, i, layer].transpose(0, 1)) for i, g in enumerate(got)):
            raise Hint(
                "You read all keys first and then all values. In one row, layer by layer, stands key, value."
            )
        if not all(torch.equal(g, r) for g, r in zip(got, right)):
            raise Hint(
                f"The shapes are right and the numbers of layer {layer} are not. A row is [layers, 2, kv_heads, head_dim]."
            )
    return "The same as the library's view, permute and split."


@exercise(
    3,
    "Give the output of attention over prefix and text together, made from the outputs over each alone.",
)
def blend(answer):
    for n, p, d in ((5, 2, 4), (3, 6, 2)):
        _blend(answer, n, p, d)
    return "So a prefix only blends in its own output, with one share a position: the pattern within the text stays."


def _blend(answer, n, p, d):
    torch.manual_seed(0)
    scores, values = torch.randn(p + n), torch.randn(p + n, d)

    def attend(part):
        return scores[part].softmax(0) @ values[part]

    prefix, text = slice(0, p), slice(p, None)
    arguments = attend(text), attend(prefix), scores[text], scores[prefix]
    right, got = attend(slice(None)), call(answer, *arguments)
    share = scores.softmax(0)[:p].sum()

    def mixed(weight):
        return (1 - weight) * arguments[0] + weight * arguments[1]

    if not torch.is_tensor(got) or got.shape != right.shape:
        raise Hint(
            f"Give one vector of {d} numbers, as each of the two outputs is; you gave {list(getattr(got, 'shape', [])) or type(got).__name__}."
        )
    if torch.allclose(got, mixed(1 - share), atol=1e-5):
        raise Hint(
            "The two shares are the wrong way round: the prefix's share belongs to the prefix's output."
        )
    if torch.allclose(got, arguments[0] + arguments[1], atol=1e-5):
        raise Hint(
            "You added two whole outputs. One unit of attention is shared out, so the weights of the two must sum to one."
        )
    if torch.allclose(got, mixed(torch.tensor(0.5)), atol=1e-5):
        raise Hint(
            "Half and half only holds when both parts have equal scores. How much of the softmax goes to the prefix?"
        )
    if torch.allclose(got, mixed(torch.tensor(p / (p + n))), atol=1e-5):
        raise Hint(
            "You shared out by the number of positions. Attention is shared out by exp(score)."
        )
    raw = scores[prefix].sum() / scores.sum()
    if torch.allclose(got, mixed(raw), atol=1e-5):
        raise Hint("You shared out by the scores themselves. Softmax takes exp(score) first.")
    if not torch.allclose(got, right, atol=1e-5):
        raise Hint(
            "Not the output of one softmax over all scores. The prefix's share is its sum of exp(score), divided by everybody's."
        )
    big = call(answer, arguments[0], arguments[1], scores[text] + 200, scores[prefix] + 200)
    if not torch.isfinite(big).all():
        raise Hint(
            "Right for small scores; with scores around 200, exp overflows. torch.softmax or torch.logsumexp take care of that."
        )
    if not torch.allclose(big, right, atol=1e-4):
        raise Hint(
            "Right for these scores, wrong when all are 200 larger, which changes nothing in a softmax."
        )
