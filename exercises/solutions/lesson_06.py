"""Solutions of lesson 06. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "worst_error": "def answer(values, absmax):\n    return (values[1:] - values[:-1]).max() / 2 * absmax",
    "bytes_of_nf4": "def answer(n, block, group):\n    return n / 2 + n / block + 4 * n / (block * group)",
    "prepare_model": """def answer(model):
    for name, p in model.named_parameters():
        p.requires_grad_("lora_" in name)
    return model""",
}

ERROR = "def answer(values, absmax):\n    gaps = values[1:] - values[:-1]\n    return "
BYTES = "def answer(n, block, group):\n    return "
MODEL = "def answer(model):\n    for name, p in model.named_parameters():\n        "

WRONG = {
    "worst_error": [
        (ERROR + "gaps.max() * absmax", "whole gap"),
        (ERROR + "gaps.max() / 2", "scaled weight"),
        (ERROR + "gaps.max() / 2 / absmax", "divide by absmax"),
        (ERROR + "gaps.min() / 2 * absmax", "narrowest gap"),
        (ERROR + "gaps.mean() / 2 * absmax", "mean gap"),
        (ERROR + "absmax / 16", "you gave"),
        (ERROR + "1.2", "you gave 1.2"),
    ],
    "bytes_of_nf4": [
        (BYTES + "4 * n + 8 * n // block + 32 * n // (block * group)", "That is bits"),
        (BYTES + "n // 2", "codes alone"),
        (BYTES + "n // 2 + n // block", "scale of their own"),
        (BYTES + "n // 2 + 4 * n // block", "without double quantisation"),
        (BYTES + "n // 2 + 4 * n // block + 4 * n // (block * group)", "one byte each after"),
        (BYTES + "n // 2 + n // block + n // (block * group)", "stay in 32 bits"),
        (BYTES + "n // 2 + n // block + 4 * n // group", "block * group weights"),
        (BYTES + "n + n // block + 4 * n // (block * group)", "share one byte"),
        (BYTES + "n // 2 + n // 64 + 4 * n // (64 * 256)", "groups of 256 only"),
        (BYTES + "50712", "groups of 256 only"),
        (BYTES + "n", "you gave 98,304"),
    ],
    "prepare_model": [
        (MODEL + "p.requires_grad_(True)\n    return model", "4-bit codes"),
        (MODEL + "p.requires_grad_(p.is_floating_point())\n    return model", "would train too"),
        (MODEL + "p.requires_grad_('lora_A' in name)\n    return model", "Only 2 of the 4"),
        (MODEL + "p.requires_grad_(False)\n    return model", "Nothing trains"),
        (
            MODEL
            + "if 'lora_' not in name:\n            p.requires_grad_(False)\n    return model",
            "Nothing trains",
        ),
        (MODEL + "p.requires_grad_('lora_' in name)\n    return 1", "Return the model"),
        (MODEL + "p.requires_grad_('norm' in name)\n    return model", "Not the right ones"),
    ],
}
