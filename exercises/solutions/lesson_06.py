"""Solutions of lesson 06. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "quantise_one_block": """def answer(block, values):
    absmax = block.abs().max()
    return (block[:, None] / absmax - values).abs().argmin(1), absmax""",
    "bytes_of_nf4": "def answer(n):\n    return n // 2 + n // 64 + 4 * n // (64 * 256)",
    "prepare_model": """def answer(model):
    for name, p in model.named_parameters():
        p.requires_grad_("lora_" in name)
    return model""",
}

BLOCK = "import torch\ndef answer(block, values):\n    "
BYTES = "def answer(n):\n    return "
MODEL = "def answer(model):\n    for name, p in model.named_parameters():\n        "

WRONG = {
    "quantise_one_block": [
        (BLOCK + "a = block.max()\n    return (block[:, None] / a - values).abs().argmin(1), a", "largest in size"),
        (BLOCK + "a = block.std()\n    return (block[:, None] / a - values).abs().argmin(1), a", "should be 0.5"),
        (BLOCK + "a = block.abs().max()\n    return (block[:, None] - values).abs().argmin(1), a", "not divided"),
        (BLOCK + "a = block.abs().max()\n    return torch.bucketize(block / a, values).clamp(max=15), a", "next value above"),
        (BLOCK + "a = block.abs().max()\n    return (torch.bucketize(block / a, values, right=True) - 1).clamp(min=0), a", "next value below"),
        (BLOCK + "a = block.abs().max()\n    return ((block / a + 1) * 7.5).round().long(), a", "16 equal steps"),
        (BLOCK + "a = block.abs().max()\n    return values[(block[:, None] / a - values).abs().argmin(1)], a", "not the values"),
        (BLOCK + "a = block.abs().max()\n    block /= a\n    return (block[:, None] - values).abs().argmin(1), a", "in place"),
        (BLOCK + "return (block[:, None] / block.abs().max() - values).abs().argmin(1)", "two things"),
    ],
    "bytes_of_nf4": [
        (BYTES + "4 * n + 8 * n // 64 + 32 * n // (64 * 256)", "That is bits"),
        (BYTES + "n // 2", "codes alone"),
        (BYTES + "n // 2 + n // 64", "scale of their own"),
        (BYTES + "n // 2 + 4 * n // 64", "without double quantisation"),
        (BYTES + "n // 2 + 4 * n // 64 + 4 * n // (64 * 256)", "one byte each after"),
        (BYTES + "n // 2 + n // 64 + n // (64 * 256)", "stay in 32 bits"),
        (BYTES + "n // 2 + n // 64 + 4 * n // 256", "64 * 256 weights"),
        (BYTES + "n + n // 64 + 4 * n // (64 * 256)", "share one byte"),
        (BYTES + "50712", "twice the size"),
        (BYTES + "n", "you gave 98,304"),
    ],
    "prepare_model": [
        (MODEL + "p.requires_grad_(True)\n    return model", "4-bit codes"),
        (MODEL + "p.requires_grad_(p.is_floating_point())\n    return model", "would train too"),
        (MODEL + "p.requires_grad_('lora_A' in name)\n    return model", "Only 2 of the 4"),
        (MODEL + "p.requires_grad_(False)\n    return model", "Nothing trains"),
        (MODEL + "if 'lora_' not in name:\n            p.requires_grad_(False)\n    return model", "Nothing trains"),
        (MODEL + "p.requires_grad_('lora_' in name)\n    return 1", "Return the model"),
        (MODEL + "p.requires_grad_('norm' in name)\n    return model", "Not the right ones"),
    ],
}
