"""Solutions of lesson 08. A source defines `answer`, which the notebook's cell would hand to the check."""

SOLUTIONS = {
    "cost": "def answer(tokens, width, context):\n    return tokens * width, context - tokens",
    "line_up": "def answer(logits, labels):\n    return logits[:, -labels.shape[1]:][:, :-1], labels[:, 1:]",
    "vote": """def answer(log_p):
    import torch
    counts = torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)
    return (counts + 1e-6 * log_p.sum(0)).argmax(-1)""",
}

WRONG = {
    "cost": [
        ("def answer(t, w, c):\n    return t * w", "two numbers"),
        ("def answer(t, w, c):\n    return 2 * t * w, c - t", "prefix tuning"),
        ("def answer(t, w, c):\n    return c * w, c - t", "whole context"),
        ("def answer(t, w, c):\n    return t, c - t", "one vector"),
        ("def answer(t, w, c):\n    return t * w, c", "take places"),
        ("def answer(t, w, c):\n    return t * w, c - t * w", "one place"),
        ("def answer(t, w, c):\n    return t * w, 502", "Use the arguments"),
    ],
    "line_up": [
        ("def answer(logits, labels):\n    return logits[:, :-1], labels[:, 1:]", "still there"),
        (
            "def answer(logits, labels):\n    return logits[:, -labels.shape[1]:], labels",
            "not shifted",
        ),
        (
            "def answer(logits, labels):\n    return logits[:, -labels.shape[1]:][:, 1:], labels[:, :-1]",
            "wrong way",
        ),
        (
            "def answer(logits, labels):\n    return logits[:, :labels.shape[1]][:, :-1], labels[:, 1:]",
            "first positions",
        ),
        (
            "def answer(logits, labels):\n    return logits[:, -labels.shape[1]:][:, 1:], labels[:, 1:]",
            "after the label",
        ),
        (
            "def answer(logits, labels):\n    return logits[:, -labels.shape[1]:], labels[:, 1:]",
            "both should have",
        ),
        (
            "def answer(logits, labels):\n    return logits[:, 3:-1], labels[:, 1:]",
            "both should have",
        ),
    ],
    "vote": [
        (
            "def answer(log_p):\n    return log_p.sum(0).argmax(-1)",
            "averaged the log-probabilities",
        ),
        (
            "def answer(log_p):\n    return log_p.exp().mean(0).argmax(-1)",
            "averaged the probabilities",
        ),
        ("def answer(log_p):\n    return log_p[0].argmax(-1)", "first prompt"),
        ("def answer(log_p):\n    return log_p.argmax(-1).mode(0).values", "tie"),
        ("def answer(log_p):\n    return log_p.argmax(-1)", "one label a row"),
        (
            """def answer(log_p):
    for_one = log_p.argmax(-1).float().mean(0)
    return ((for_one > .5) | ((for_one == .5) & (log_p.sum(0).argmax(-1) == 1))).long()""",
            "Right for two labels",
        ),
        (
            """def answer(log_p):
    import torch
    counts = torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)
    return (counts + 1e-3 * log_p.exp().sum(0)).argmax(-1)""",
            "by something else",
        ),
        (
            """def answer(log_p):
    import torch
    counts = torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)
    return (counts + 1e-3 * log_p.max(0).values).argmax(-1)""",
            "by something else",
        ),
        (
            """def answer(log_p):
    import torch
    counts = torch.nn.functional.one_hot(log_p.argmax(-1), log_p.shape[-1]).sum(0)
    return (counts + 0.05 * log_p.sum(0)).argmax(-1)""",
            "very sure",
        ),
    ],
}
