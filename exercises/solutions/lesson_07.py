"""Solutions of lesson 07. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "count_stored": "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * kv_heads * head_dim",
    "unpack": """def answer(flat, layer, layers, kv_heads, head_dim):
    key, value = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, layer].permute(1, 2, 0, 3)
    return key, value""",
    "blend": """import torch
def answer(out_text, out_prefix, scores_text, scores_prefix):
    share = torch.cat([scores_prefix, scores_text]).softmax(0)[:len(scores_prefix)].sum()
    return (1 - share) * out_text + share * out_prefix""",
}

BLEND = (
    "import torch\ndef answer(out_text, out_prefix, scores_text, scores_prefix):\n"
    "    share = torch.cat([scores_prefix, scores_text]).softmax(0)[:len(scores_prefix)].sum()\n    "
)
UNPACK = "def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, layer]\n    "

WRONG = {
    "count_stored": [
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * heads * head_dim",
            "query heads",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return layers * tokens * kv_heads * head_dim",
            "a key and a value",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * tokens * kv_heads * head_dim",
            "one layer",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 2 * layers * tokens * kv_heads",
            "not one number",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 14 * layers * kv_heads * head_dim",
            "from the arguments",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 240 * tokens",
            "from the arguments",
        ),
        (
            "def answer(layers, tokens, heads, kv_heads, head_dim):\n    return 4 * layers * tokens * head_dim",
            "from the arguments",
        ),
    ],
    "unpack": [
        (UNPACK + "return whole[:, 0], whole[:, 1]", "Token before head"),
        (
            UNPACK + "return whole[:, 1].transpose(0, 1), whole[:, 0].transpose(0, 1)",
            "wrong way round",
        ),
        (
            UNPACK
            + "return tuple(whole[:, i].reshape(kv_heads, len(flat), head_dim) for i in (0, 1))",
            "scrambled",
        ),
        (UNPACK + "return whole[:, 0].transpose(0, 1)[0]", "two tensors"),
        (
            "def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), 2, layers, kv_heads, head_dim)\n"
            "    return tuple(whole[:, i, layer].transpose(0, 1) for i in (0, 1))",
            "all keys first",
        ),
        (
            "def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(len(flat), layers, 2, kv_heads, head_dim)[:, 0]\n"
            "    return tuple(whole[:, i].transpose(0, 1) for i in (0, 1))",
            "numbers of layer 2",
        ),
        (
            "def answer(flat, layer, layers, kv_heads, head_dim):\n    whole = flat.view(3, layers, 2, kv_heads, head_dim)[:, layer]\n"
            "    return tuple(whole[:, i].transpose(0, 1) for i in (0, 1))",
            "RuntimeError",
        ),
    ],
    "blend": [
        (BLEND + "return share * out_text + (1 - share) * out_prefix", "wrong way round"),
        (BLEND + "return out_text + out_prefix", "two whole outputs"),
        (BLEND + "return (out_text + out_prefix) / 2", "Half and half"),
        (
            BLEND
            + "share = len(scores_prefix) / (len(scores_prefix) + len(scores_text))\n    return (1 - share) * out_text + share * out_prefix",
            "number of positions",
        ),
        (
            BLEND
            + "share = scores_prefix.sum() / (scores_prefix.sum() + scores_text.sum())\n    return (1 - share) * out_text + share * out_prefix",
            "scores themselves",
        ),
        (
            BLEND
            + "a, b = scores_prefix.exp().sum(), scores_text.exp().sum()\n    return (a * out_prefix + b * out_text) / (a + b)",
            "overflows",
        ),
        (BLEND + "return torch.stack([out_text, out_prefix])", "one vector"),
        (
            BLEND + "share = share.sqrt()\n    return (1 - share) * out_text + share * out_prefix",
            "one softmax over all scores",
        ),
        (
            BLEND
            + "share = share * (1 + (scores_text.max() > 100))\n    return (1 - share) * out_text + share * out_prefix",
            "200 larger",
        ),
        (
            "import torch\ndef answer(out_text, out_prefix, scores_text, scores_prefix):\n"
            "    share = torch.cat([scores_prefix, scores_text]).softmax(0)[:2].sum()\n    return (1 - share) * out_text + share * out_prefix",
            "one softmax over all scores",
        ),
    ],
}
