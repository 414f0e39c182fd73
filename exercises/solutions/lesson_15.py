"""Solutions and plausible mistakes of lesson 15's exercises."""

import numpy as np
import torch

PUSH = """def answer(ratio, advantage, eps):
    high, low, good = ratio > 1 + eps, ratio < 1 - eps, advantage > 0
    return """
GROUP = """def answer(rewards, size):
    g = rewards.view(-1, size)
    others = (g.sum(1, keepdim=True) - g) / (size - 1)
    return """
BEST = "import torch\ndef answer(ref, reward, beta):\n    return "


def push_in_a_loop(ratio, advantage, eps):
    found = []
    for r, a in zip(ratio.tolist(), advantage.tolist()):
        found.append(not (a > 0 and r > 1 + eps or a < 0 and r < 1 - eps))
    return found


def push_by_the_minimum(ratio, advantage, eps):
    clipped = ratio.clamp(1 - eps, 1 + eps)
    return (ratio * advantage < clipped * advantage) | (clipped == ratio)


def one_by_one(rewards, size):
    made = []
    for n, r in enumerate(rewards.tolist()):
        first = n // size * size
        others = [v for k, v in enumerate(rewards.tolist()) if first <= k < first + size and k != n]
        made.append(r - sum(others) / len(others))
    return made


def best_in_numpy(ref, reward, beta):
    weights = np.asarray(ref) * np.exp(np.asarray(reward) / beta)
    return weights / weights.sum()


SOLUTIONS = {
    "still_pushes": [
        PUSH + "~(high & good | low & ~good)",
        push_in_a_loop,
        push_by_the_minimum,
    ],
    "leave_one_out": [GROUP + "(g - others).flatten()", one_by_one],
    "best_policy": [BEST + "torch.softmax(ref.log() + reward / beta, 0)", best_in_numpy],
}

MISTAKES = {
    "still_pushes": [
        ("all outside", PUSH + "~(high | low)", "able to come back"),
        ("opposite", PUSH + "high & good | low & ~good", "the opposite"),
        ("good only", PUSH + "~(high & good)", "positive advantages only"),
        ("bad only", PUSH + "~(low & ~good)", "negative advantages only"),
        ("swapped", PUSH + "~(high & ~good | low & good)", "signs are swapped"),
        ("above", PUSH + "~high", "from above whatever"),
        ("below", PUSH + "~low", "from below whatever"),
        ("all", PUSH + "good | ~good", "nothing at all"),
        ("outside", PUSH + "high | low", "Inside it there is always"),
        ("fixed", PUSH + "~((ratio > 1.2) & good | (ratio < 0.8) & ~good)", "Use `eps`"),
        ("half fixed", PUSH + "~(high & good | (ratio < 0.8) & ~good)", "eps = 0.05"),
        ("advantage", PUSH + "good", "advantages alone"),
        ("strictly smaller", PUSH + "high & ~good | low & good", "Inside the band both"),
        ("one", PUSH + "True", "whatever it is given"),
    ],
    "leave_one_out": [
        ("rewards", "def answer(rewards, size):\n    return rewards", "rewards themselves"),
        ("mean", GROUP + "(g - g.mean(1, keepdim=True)).flatten()", "itself included"),
        (
            "grpo",
            GROUP + "((g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + 1e-4)).flatten()",
            "GRPO's advantage",
        ),
        (
            "divided",
            GROUP + "((g - others) / (g.std(1, keepdim=True) + 1e-4)).flatten()",
            "Do not divide",
        ),
        (
            "batch",
            GROUP + "rewards - (rewards.sum() - rewards) / (len(rewards) - 1)",
            "within its group",
        ),
        ("batch mean", GROUP + "rewards - rewards.mean()", "mean of the whole batch"),
        (
            "strided",
            "def answer(rewards, size):\n    g = rewards.view(size, -1)\n"
            "    return (g - (g.sum(0) - g) / (size - 1)).flatten()",
            "side by side",
        ),
        ("sign", GROUP + "(others - g).flatten()", "better than the others is positive"),
        ("size", GROUP + "(g - (g.sum(1, keepdim=True) - g) / size).flatten()", "one answer less"),
        ("others", GROUP + "others.flatten()", "Subtract it from the reward"),
        ("sum", GROUP + "(g - (g.sum(1, keepdim=True) - g)).flatten()", "Take their mean"),
        ("not flat", GROUP + "g - others", "[3, 4]"),
        (
            "best",
            GROUP + "(g - g.max(1, keepdim=True).values).flatten()",
            "minus the mean of the other",
        ),
    ],
    "best_policy": [
        ("sum", BEST + "ref * torch.exp(reward / beta)", "sum to 1"),
        ("no reference", BEST + "torch.softmax(reward / beta, 0)", "reference is missing"),
        ("times", BEST + "torch.softmax(ref.log() + beta * reward, 0)", "shrink the reward"),
        ("no log", BEST + "torch.softmax(ref + reward / beta, 0)", "logarithm of the reference"),
        ("sign", BEST + "torch.softmax(ref.log() - reward / beta, 0)", "Check the sign"),
        (
            "greedy",
            BEST + "torch.eye(len(ref))[reward.argmax()]",
            "without a price",
        ),
        ("reference", BEST + "ref", "That is the reference"),
        ("no beta", BEST + "torch.softmax(ref.log() + reward, 0)", "Where is beta"),
        ("beta on ref", BEST + "torch.softmax(beta * ref.log() + reward, 0)", "Beta multiplies"),
        ("weights", BEST + "ref * reward / (ref * reward).sum()", "go into an exponential"),
        ("flipped", BEST + "ref.flip(0)", "set the derivative to 0"),
        ("one", BEST + "1.0", "whatever it is given"),
    ],
}
