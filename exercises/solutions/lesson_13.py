"""Solutions of lesson 13. A source defines `answer`, which the notebook's cell would hand to the check."""

_TEXT = "from utils import instructions as i\ndef answer(row, eos):\n    "

SOLUTIONS = {
    "training_text": _TEXT + "template = i.WITH_INPUT if row['input'] else i.WITHOUT_INPUT\n    return template.format(**row) + ' ' + row['output'] + eos",
    "pick_dtype": "def answer(capability):\n    return 'bfloat16' if capability >= (8, 0) else 'float16'",
    "steps_per_epoch": "import math\ndef answer(rows, batch, accumulation):\n    return math.ceil(math.ceil(rows / batch) / accumulation)",
}

WRONG = {
    "training_text": [
        (_TEXT + "return i.prompt(row) + ' ' + row['output']", "never learns to stop"),
        (_TEXT + "return i.WITH_INPUT.format(**row) + ' ' + row['output'] + eos", "second, shorter template"),
        (_TEXT + "return i.WITHOUT_INPUT.format(**row) + ' ' + row['output'] + eos", "The input is not in the text"),
        (_TEXT + "return i.prompt(row) + '\\n' + row['output'] + eos", "newline after"),
        (_TEXT + "return i.prompt(row) + row['output'] + eos", "space between"),
        (_TEXT + "return row['instruction'] + ' ' + row['output'] + eos", "preamble"),
        (_TEXT + "return i.prompt(row) + eos + ' ' + row['output']", "very last thing"),
        (_TEXT + "return i.prompt(row) + ' ' + row['output'] + eos + eos", "more than one"),
        (_TEXT + "return [i.prompt(row), row['output'] + eos]", "one string"),
    ],
    "pick_dtype": [
        ("def answer(c):\n    return 'bfloat16'", "A T4 is (7, 5)"),
        ("def answer(c):\n    return 'bfloat16' if c > (8, 0) else 'float16'", "exactly (8, 0)"),
        ("def answer(c):\n    return 'float16' if c >= (8, 0) else 'bfloat16'", "other way round"),
        ("def answer(c):\n    return 'bfloat16' if f'{c[0]}.{c[1]}' >= '8.0' else 'float16'", "not texts"),
        ("def answer(c):\n    return 'float32'", "16 bits"),
        ("def answer(c):\n    return 'float16'", "exactly (8, 0)"),
    ],
    "steps_per_epoch": [
        ("import math\ndef answer(r, b, a):\n    return math.ceil(r / b)", "These are batches"),
        ("import math\ndef answer(r, b, a):\n    return math.ceil(r / a)", "accumulation only"),
        ("def answer(r, b, a):\n    return r // (b * a)", "rounded down"),
        ("def answer(r, b, a):\n    return r // (b * a) + 1", "not one more"),
        ("def answer(r, b, a):\n    return r * b * a", "One step sees"),
        ("import math\ndef answer(r, b, a):\n    return float(math.ceil(r / (b * a)))", "whole number"),
    ],
}
