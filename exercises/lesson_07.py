"""Checks of lesson 07's exercises."""
import torch

from utils.checks import Hint, call, exercise


@exercise(1, "Give the number of values that are kept for the whole prefix.")
def count_stored(answer):
    layers, tokens, heads, kv_heads, head_dim = 4, 10, 6, 2, 32
    right = 2 * layers * tokens * kv_heads * head_dim
    got = call(answer, layers, tokens, heads, kv_heads, head_dim)
    if got == right:
        if call(answer, layers, 2 * tokens, heads, kv_heads, head_dim) != 2 * right:
            raise Hint("Right for 10 virtual tokens, wrong for 20: the count should grow with their number.")
        return "Fewer key-value heads make the file smaller, too."
    if got == 2 * layers * tokens * heads * head_dim:
        raise Hint("You counted the query heads. Keys and values have only kv_heads heads when attention is grouped.")
    if got == right // 2:
        raise Hint("Half of it: every virtual token has a key and a value.")
    if got == right // layers:
        raise Hint("That is one layer. The prefix stands in every one.")
    if got == 2 * layers * tokens * kv_heads:
        raise Hint("A head's key is a vector of head_dim numbers, not one number.")
    raise Hint(f"For 4 layers, 10 tokens, 2 key-value heads of 32 you gave {got}; multiply 2 (key and value), layers, tokens and the width.")


@exercise(2, "Give the mask that covers the prefix and the text, one row per text.")
def widen_mask(answer):
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    kept, p = mask.clone(), 3
    got = call(answer, mask, p)
    if not torch.equal(mask, kept):
        raise Hint("The given mask was changed in place. Return a new one.")
    ones, zeros = torch.ones(2, p, dtype=mask.dtype), torch.zeros(2, p, dtype=mask.dtype)
    if tuple(got.shape) == tuple(mask.shape):
        raise Hint("The mask is as wide as before. The keys are p longer than the text, and so must the mask be.")
    if tuple(got.shape) != (2, p + 5):
        raise Hint(f"The mask has shape {list(got.shape)}; for 2 texts of 5 positions and p = 3 it should have [2, 8].")
    if torch.equal(got.to(mask.dtype), torch.cat([mask, ones], 1)):
        raise Hint("You put the virtual tokens behind the text. The prefix stands in front, and so do its ones.")
    if torch.equal(got.to(mask.dtype), torch.cat([zeros, mask], 1)):
        raise Hint("Zeros hide the prefix: nobody would attend to it. Which value means 'may be seen'?")
    if torch.equal(got.to(mask.dtype), torch.ones(2, p + 5, dtype=mask.dtype)):
        raise Hint("Everything is visible now, padding too. Keep the text's own mask behind the ones.")
    if not torch.equal(got.to(mask.dtype), torch.cat([ones, mask], 1)):
        raise Hint("The shape is right and the values are not: p ones, then the row's own mask.")
    if got.dtype != mask.dtype:
        raise Hint(f"The mask came as {mask.dtype} and left as {got.dtype}. Make the ones with mask.new_ones.")
    return "Right for padded rows too: the padding stays hidden."


@exercise(3, "Give the key and the value of one layer, each [kv_heads, p, head_dim].")
def unpack(answer):
    p, layers, heads, dim = 3, 4, 2, 5
    flat = torch.arange(p * layers * 2 * heads * dim, dtype=torch.float32).view(p, -1)
    whole = flat.view(p, layers, 2, heads, dim)
    for layer in (0, 2):
        got = call(answer, flat, layer, layers, heads, dim)
        if not isinstance(got, (tuple, list)) and not (torch.is_tensor(got) and got.shape[0] == 2) or len(got) != 2:
            raise Hint("Give two tensors: the key and the value.")
        right = [whole[:, layer, i].transpose(0, 1) for i in (0, 1)]
        if any(tuple(g.shape) == (p, heads, dim) for g in got):
            raise Hint("Token before head: your tensors are [p, kv_heads, head_dim]. The cache wants [kv_heads, p, head_dim].")
        if any(g.shape != r.shape for g, r in zip(got, right)):
            raise Hint(f"Shapes are {[list(g.shape) for g in got]}; each should be [kv_heads, p, head_dim] = {[heads, p, dim]}.")
        if torch.equal(got[0], right[1]) and torch.equal(got[1], right[0]):
            raise Hint("Key and value are the wrong way round: the key comes first.")
        scrambled = [whole[:, layer, i].reshape(heads, p, dim) for i in (0, 1)]
        if all(torch.equal(g, s) for g, s in zip(got, scrambled)):
            raise Hint("The shape fits, the numbers are scrambled: reshaping does not swap axes. Use transpose or permute.")
        other = flat.view(p, 2, layers, heads, dim)
        if all(torch.equal(g, other[:, i, layer].transpose(0, 1)) for i, g in enumerate(got)):
            raise Hint("You read all keys first and then all values. In one row, layer by layer, stands key, value.")
        if not all(torch.equal(g, r) for g, r in zip(got, right)):
            raise Hint(f"The shapes are right and the numbers of layer {layer} are not. A row is [layers, 2, kv_heads, head_dim].")
    return "The same as the library's view, permute and split."
