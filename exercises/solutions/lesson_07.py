"""Solutions of lesson 07. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count_stored": "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * kv_heads * head_dim",
    "widen_mask": "import torch\ndef answer(mask, p):\n    return torch.cat([mask.new_ones(len(mask), p), mask], dim=1)",
    "unpack": """def answer(flat, layer, layers, kv_heads, head_dim):
    key, value = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, layer].permute(1, 2, 0, 3)
    return key, value""",
}

UNPACK = "def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, layer]\n    "

WRONG = {
    "count_stored": [
        ("def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * heads * head_dim", "query heads"),
        ("def answer(layers, tokens, heads, kv_heads, head_dim):\n    return layers * tokens * kv_heads * head_dim", "a key and a value"),
        ("def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * tokens * kv_heads * head_dim", "one layer"),
        ("def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * kv_heads", "not one number"),
        ("def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 20 * layers * kv_heads * head_dim", "grow with their number"),
    ],
    "widen_mask": [
        ("def answer(mask, p):\n    return mask", "as wide as before"),
        ("import torch\ndef answer(mask, p):\n    return torch.cat([mask, mask.new_ones(len(mask), p)], dim=1)", "behind the text"),
        ("import torch\ndef answer(mask, p):\n    return torch.cat([mask.new_zeros(len(mask), p), mask], dim=1)", "hide the prefix"),
        ("import torch\ndef answer(mask, p):\n    return mask.new_ones(len(mask), p + mask.shape[1])", "padding too"),
        ("import torch\ndef answer(mask, p):\n    return torch.cat([torch.ones(len(mask), p), mask], dim=1)", "mask.new_ones"),
        ("import torch\ndef answer(mask, p):\n    return torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)", "should have [2, 8]"),
        ("import torch\ndef answer(mask, p):\n    return torch.cat([mask.new_ones(1, p), mask], dim=1)", "RuntimeError"),
    ],
    "unpack": [
        (UNPACK + "return whole[:, 0], whole[:, 1]", "Token before head"),
        (UNPACK + "return whole[:, 1].transpose(0, 1), whole[:, 0].transpose(0, 1)", "wrong way round"),
        (UNPACK + "return tuple(whole[:, i].reshape(kv_heads, len(flat), head_dim) for i in (0, 1))", "scrambled"),
        (UNPACK + "return whole[:, 0].transpose(0, 1)[0]", "two tensors"),
        ("def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), 2, layers, kv_heads, head_dim)\n"
         "    return tuple(whole[:, i, layer].transpose(0, 1) for i in (0, 1))", "all keys first"),
        ("def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, 0]\n"
         "    return tuple(whole[:, i].transpose(0, 1) for i in (0, 1))", "numbers of layer 2"),
    ],
}
