"""Solutions of lesson 13. A source defines `answer`, which the notebook's cell would hand to the check."""

_IDS = "def answer(prompt, target, eos):\n    ids = prompt + target + [eos]\n    return "

SOLUTIONS = {
    "ids_and_labels": _IDS + "ids, [-100] * len(prompt) + target + [eos]",
    "pick_dtype": "def answer(capability):\n    return 'bfloat16' if capability >= (8, 0) else 'float16'",
    "steps_per_epoch": "import math\ndef answer(rows, batch, accumulation):\n    return math.ceil(math.ceil(rows / batch) / accumulation)",
}

WRONG = {
    "ids_and_labels": [
        (_IDS + "ids, list(ids)", "prompt carries loss"),
        (_IDS + "ids, [-100] * len(prompt) + target + [-100]", "carries no loss"),
        (_IDS + "ids, [-100] * (len(prompt) - 1) + target + [eos, -100]", "shifted"),
        (_IDS + "ids, [0] * len(prompt) + target + [eos]", "0 is a token"),
        (_IDS + "prompt + target, [-100] * len(prompt) + target", "Nothing ends"),
        (_IDS + "ids, target + [eos]", "One label a token"),
        (_IDS + "[eos] + prompt + target, ids", "then end-of-text"),
        (_IDS + "ids", "two lists"),
        (_IDS + "ids, [-100] * 5 + target[1:] + [eos]", "-100 elsewhere"),
        (_IDS + "ids, [-100] * 4 + ids[4:]", "written into your code"),
    ],
    "pick_dtype": [
        ("def answer(c):\n    return 'bfloat16'", "A T4 is (7, 5)"),
        ("def answer(c):\n    return 'bfloat16' if c > (8, 0) else 'float16'", "exactly (8, 0)"),
        ("def answer(c):\n    return 'float16' if c >= (8, 0) else 'bfloat16'", "other way round"),
        (
            "def answer(c):\n    return 'bfloat16' if f'{c[0]}.{c[1]}' >= '8.0' else 'float16'",
            "not texts",
        ),
        ("def answer(c):\n    return 'float32'", "16 bits"),
        ("def answer(c):\n    return 'float16'", "exactly (8, 0)"),
    ],
    "steps_per_epoch": [
        ("import math\ndef answer(r, b, a):\n    return math.ceil(r / b)", "These are batches"),
        ("import math\ndef answer(r, b, a):\n    return math.ceil(r / a)", "accumulation only"),
        ("def answer(r, b, a):\n    return r // (b * a)", "rounded down"),
        ("def answer(r, b, a):\n    return r // (b * a) + 1", "not one more"),
        ("def answer(r, b, a):\n    return r * b * a", "One step sees"),
        ("def answer(r, b, a):\n    return round(r / (b * a) + 0.2)", "drops it"),
        (
            "import math\ndef answer(r, b, a):\n    return float(math.ceil(r / (b * a)))",
            "whole number",
        ),
    ],
}
