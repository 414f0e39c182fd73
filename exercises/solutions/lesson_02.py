"""Solutions of lesson 02. A source defines `answer`, which the notebook's cell would hand to the check."""

PUSH = "def answer(ratio, advantage, eps):\n    high, low, good = ratio > 1 + eps, ratio < 1 - eps, advantage > 0\n    return "
GROUP = "def answer(rewards, size):\n    g = rewards.view(-1, size)\n    return "
BEST = "import torch\ndef answer(ref, reward, beta):\n    return "

SOLUTIONS = {
    "still_pushes": PUSH + "~(high & good | low & ~good)",
    "group_advantages": GROUP
    + "((g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + 1e-4)).flatten()",
    "best_policy": BEST + "torch.softmax(ref.log() + reward / beta, 0)",
}

WRONG = {
    "still_pushes": [
        (PUSH + "~(high | low)", "able to come back"),
        (PUSH + "high & good | low & ~good", "the opposite"),
        (PUSH + "~(high & good)", "good tokens only"),
        (PUSH + "~(low & ~good)", "bad tokens only"),
        (PUSH + "~(high & ~good | low & good)", "wrong way round"),
        (PUSH + "~high", "from above whatever"),
        (PUSH + "~low", "from below whatever"),
        (PUSH + "good | ~good", "nothing at all"),
        (PUSH + "~(high & good | (ratio < 0.8) & ~good)", "With eps = 0.05"),
        (PUSH + "True", "one True or False a token"),
    ],
    "group_advantages": [
        ("def answer(rewards, size):\n    return rewards", "scores themselves"),
        (GROUP + "g - g.mean(1, keepdim=True)", "divide by the group's"),
        (GROUP + "(rewards - rewards.mean()) / rewards.std()", "compare within the prompt"),
        (GROUP + "(g - g.mean(1, keepdim=True)) / rewards.std()", "both from the group"),
        (GROUP + "g / g.std(1, keepdim=True)", "has to come off first"),
        (GROUP + "(g - g.mean(1, keepdim=True)) / g.var(1, keepdim=True)", "its root"),
        (
            "def answer(rewards, size):\n    g = rewards.view(size, -1)\n    return (g - g.mean(0)) / g.std(0)",
            "side by side",
        ),
        (GROUP + "g.mean(1, keepdim=True) - g", "better than its group is positive"),
        (GROUP + "(g - g.mean(1, keepdim=True)) / g.std(1, keepdim=True)", "divide by 0"),
        (GROUP + "g.mean(1)", "one advantage for each"),
        (
            GROUP + "(g - g.max(1, keepdim=True).values) / g.std(1, keepdim=True)",
            "mean should be 0",
        ),
    ],
    "best_policy": [
        (BEST + "ref * torch.exp(reward / beta)", "sum to 1"),
        (BEST + "torch.softmax(reward / beta, 0)", "reference is missing"),
        (BEST + "torch.softmax(ref.log() + beta * reward, 0)", "shrink the reward"),
        (BEST + "torch.softmax(ref + reward / beta, 0)", "logarithm of the reference"),
        (BEST + "torch.softmax(ref.log() - reward / beta, 0)", "mind the sign"),
        (BEST + "torch.tensor([0., 0., 0., 1.])", "nothing has to be paid"),
        (BEST + "ref", "That is the reference"),
        (BEST + "torch.softmax(ref.log() + reward, 0)", "Where is beta"),
        (BEST + "ref.flip(0)", "set the derivative to 0"),
        (BEST + "1.0", "one probability for each"),
    ],
}
