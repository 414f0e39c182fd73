"""Solutions and plausible mistakes of lesson 13's exercises."""

import math

import torch


def ids_and_labels(prompt, answer, eos):
    ids = prompt + answer + [eos]
    return ids, [-100] * len(prompt) + answer + [eos]


def pick_dtype(capability):
    return "bfloat16" if capability >= (8, 0) else "float16"


def pick_torch_dtype(capability):
    return torch.bfloat16 if capability[0] >= 8 else torch.float16


def steps_per_epoch(rows, batch, accumulation):
    return math.ceil(math.ceil(rows / batch) / accumulation)


SOLUTIONS = {
    "ids_and_labels": ids_and_labels,
    "pick_dtype": [pick_dtype, pick_torch_dtype],
    "steps_per_epoch": steps_per_epoch,
}


def _changes_the_answer(prompt, answer, eos):
    answer.append(eos)
    return prompt + answer, [-100] * len(prompt) + answer


def _pair(labels):
    return lambda prompt, answer, eos: (prompt + answer + [eos], labels(prompt, answer, eos))


MISTAKES = {
    "ids_and_labels": [
        ("all tokens", _pair(lambda p, a, e: p + a + [e]), "prompt carries loss"),
        ("end masked", _pair(lambda p, a, e: [-100] * len(p) + a + [-100]), "carries no loss"),
        ("shifted", _pair(lambda p, a, e: [-100] * (len(p) - 1) + a + [e, -100]), "to the left"),
        ("shifted right", _pair(lambda p, a, e: [-100] * (len(p) + 1) + a), "to the right"),
        ("zeros", _pair(lambda p, a, e: [0] * len(p) + a + [e]), "label 0 is a token"),
        ("minus one", _pair(lambda p, a, e: [-1] * len(p) + a + [e]), "-1 is no token"),
        ("no end", lambda p, a, e: (p + a, [-100] * len(p) + a), "Nothing ends"),
        ("end in labels only", lambda p, a, e: (p + a, [-100] * len(p) + a + [e]), "Both need it"),
        ("labels of the answer", _pair(lambda p, a, e: a + [e]), "lack the prompt's places"),
        ("no prompt", lambda p, a, e: (a + [e], a + [e]), "The ids lack the prompt"),
        ("answer masked", _pair(lambda p, a, e: p + [-100] * len(a) + [e]), "masked the answer"),
        ("end first", lambda p, a, e: ([e] + p + a, [-100] * (len(p) + 1) + a), "ids is wrong"),
        ("swapped", lambda p, a, e: ids_and_labels(p, a, e)[::-1], "swapped"),
        ("ids alone", lambda p, a, e: p + a + [e], "two lists"),
        ("mask of four", _pair(lambda p, a, e: [-100] * 4 + (p + a + [e])[4:]), "Four prompt"),
        ("append", _changes_the_answer, "changes `answer`"),
        ("off by one", _pair(lambda p, a, e: [-100] * (len(p) + 1) + a[1:] + [e]), "first token"),
    ],
    "pick_dtype": [
        ("always bfloat16", lambda c: "bfloat16", "A T4 is (7, 5)"),
        ("always float16", lambda c: "float16", "never gets it"),
        ("edge", lambda c: "bfloat16" if c > (8, 0) else "float16", "exactly (8, 0)"),
        ("reversed", lambda c: "float16" if c >= (8, 0) else "bfloat16", "other way round"),
        ("text", lambda c: "bfloat16" if f"{c[0]}.{c[1]}" >= "8.0" else "float16", "not texts"),
        ("float32", lambda c: "float32", "the answers are 'float16'"),
        ("eight", lambda c: "bfloat16" if c[0] == 8 else "float16", "exactly 8."),
        ("above eight", lambda c: "bfloat16" if c[0] > 8 else "float16", "more than 8"),
        ("from the T4 on", lambda c: "bfloat16" if c >= (7, 5) else "float16", "a T4 through"),
        ("sum", lambda c: "bfloat16" if sum(c) >= 8 else "float16", "added the two"),
        (
            "torch always",
            lambda capability: torch.bfloat16,
            "A T4 is (7, 5)",
        ),
        ("number", lambda c: 16, "you gave 16"),
    ],
    "steps_per_epoch": [
        ("batches", lambda r, b, a: math.ceil(r / b), "These are batches"),
        ("accumulation only", lambda r, b, a: math.ceil(r / a), "accumulation only"),
        ("down", lambda r, b, a: r // (b * a), "rounded down"),
        ("one more", lambda r, b, a: r // (b * a) + 1, "need not one more"),
        ("product", lambda r, b, a: r * b * a, "You multiplied"),
        ("nearest", lambda r, b, a: round(r / (b * a)), "drops a small last step"),
        ("unrounded", lambda r, b, a: r / b / a, "Round up"),
        ("sum", lambda r, b, a: math.ceil(r / (b + a)), "not their sum"),
        ("small batch dropped", lambda r, b, a: math.ceil(r // b / a), "last, small batch"),
        ("last step dropped", lambda r, b, a: math.ceil(r / b) // a, "fewer batches"),
        ("more steps", lambda r, b, a: math.ceil(r / b) * a, "fewer steps, not more"),
        ("rows of a step", lambda r, b, a: b * a, "rows of one step"),
    ],
}
