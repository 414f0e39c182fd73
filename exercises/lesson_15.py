"""Checks of lesson 15's exercises."""

import torch

from utils.checks import compare, exercise

RATIO = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 0.9, 1.1, 0.9, 1.0, 1.0])
ADVANTAGE = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0, 1.0, -1.0, -1.0, 0.5, -0.5])


def gradient_is_there(ratio, advantage, eps):
    """What autograd says: does the clipped objective have a gradient at these ratios?"""
    ratio = ratio.clone().requires_grad_(True)
    torch.minimum(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage).sum().backward()
    return ratio.grad != 0


def _of(rule):
    """A rule on (high, low, good): above the band, below it, positive advantage."""
    return lambda ratio, advantage, eps: rule(ratio > 1 + eps, ratio < 1 - eps, advantage > 0)


@exercise(1, "Say for each token whether the clipped loss has a gradient there.")
def still_pushes(answer):
    compare(
        answer,
        gradient_is_there,
        {"eps = 0.2": (RATIO, ADVANTAGE, 0.2), "eps = 0.05": (RATIO, ADVANTAGE, 0.05)},
        [
            (
                "You stop every token outside the band. A token that moved the wrong way must be able to come back: there "
                "the minimum takes the unclipped side.",
                _of(lambda high, low, good: ~(high | low)),
            ),
            (
                "That is the opposite: True where the clip has removed the gradient.",
                _of(lambda high, low, good: high & good | low & ~good),
            ),
            (
                "You looked at positive advantages only. A token with a negative advantage stops as well, once its ratio has "
                "fallen far enough.",
                _of(lambda high, low, good: ~(high & good)),
            ),
            (
                "You looked at negative advantages only. A token with a positive advantage stops as well, once its ratio has "
                "risen far enough.",
                _of(lambda high, low, good: ~(low & ~good)),
            ),
            (
                "The signs are swapped: a token with a positive advantage stops when its ratio is too high.",
                _of(lambda high, low, good: ~(high & ~good | low & good)),
            ),
            (
                "You clip from above whatever the advantage is. With a negative advantage a high ratio is a mistake to be "
                "undone.",
                _of(lambda high, low, good: ~high),
            ),
            (
                "You clip from below whatever the advantage is. With a positive advantage a low ratio is a mistake to be "
                "undone.",
                _of(lambda high, low, good: ~low),
            ),
            (
                "Then the clip would do nothing at all.",
                _of(lambda high, low, good: good | ~good),
            ),
            (
                "You say where the ratio is outside the band. Inside it there is always a gradient.",
                _of(lambda high, low, good: high | low),
            ),
            (
                "You looked at the advantages alone. Where the ratio stands decides as well.",
                _of(lambda high, low, good: good),
                _of(lambda high, low, good: ~good),
            ),
            (
                "Inside the band both terms of the minimum are equal, and there is a gradient.",
                _of(lambda high, low, good: high & ~good | low & good),
            ),
            (
                "A band of 0.2 is written into your code. Use `eps`.",
                lambda ratio, advantage, eps: gradient_is_there(ratio, advantage, 0.2),
            ),
        ],
        form="one True or False for each token",
        advice="Which of the two terms of the minimum is smaller, and does it move with the ratio?",
    )
    return "Autograd says the same: clipping only stops what already went far enough."


def _groups(rule):
    """A rule on rewards in the shape [questions, size], flat again."""
    return lambda rewards, size: rule(rewards.view(-1, size)).flatten()


def _others(groups):
    size = groups.shape[1]
    return (groups.sum(1, keepdim=True) - groups) / (size - 1)


def _strided(rewards, size):
    groups = rewards.view(size, -1).T
    return (groups - _others(groups)).T.flatten()


@exercise(2, "Give each reward minus the mean of the other rewards of its group.")
def leave_one_out(answer):
    rewards = torch.tensor([1.0, 0.0, 0.0, 3.0, 5.0, 9.0, 2.0, 2.0, 8.0, 4.0, 4.0, 7.0])
    compare(
        answer,
        _groups(lambda g: g - _others(g)),
        {
            "three groups of 4": (rewards, 4),
            "four groups of 3": (rewards, 3),
            "six groups of 2": (rewards, 2),
            "a group whose rewards are all equal": (torch.full((3,), 2.0), 3),
        },
        [
            (
                "These are the rewards themselves. An advantage says how much better than the others of its group.",
                lambda rewards, size: rewards,
            ),
            (
                "You took the mean of the whole group, the answer itself included. Leave it out.",
                _groups(lambda g: g - g.mean(1, keepdim=True)),
            ),
            (
                "That is GRPO's advantage. Here the mean is that of the other answers, and nothing is divided.",
                _groups(lambda g: (g - g.mean(1, keepdim=True)) / (g.std(1, keepdim=True) + 1e-4)),
            ),
            (
                "The mean of the others is right. Do not divide by the standard deviation.",
                _groups(lambda g: (g - _others(g)) / (g.std(1, keepdim=True) + 1e-4)),
                _groups(lambda g: (g - _others(g)) / (g.std(1, keepdim=True) + 1e-8)),
                _groups(lambda g: (g - _others(g)) / g.std(1, keepdim=True)),
            ),
            (
                "You compared each answer with all other answers of the batch. Compare within its group.",
                lambda rewards, size: rewards - (rewards.sum() - rewards) / (len(rewards) - 1),
            ),
            (
                "You compared each answer with the mean of the whole batch. Compare with the others of its group.",
                lambda rewards, size: rewards - rewards.mean(),
            ),
            (
                "You grouped every n-th answer. The answers to one question stand side by side.",
                _strided,
            ),
            (
                "The sign is the wrong way round: better than the others is positive.",
                _groups(lambda g: _others(g) - g),
            ),
            (
                "You divided the sum of the others by the size of the group. There is one answer less.",
                _groups(lambda g: g - (g.sum(1, keepdim=True) - g) / g.shape[1]),
            ),
            (
                "That is the mean of the others. Subtract it from the reward.",
                _groups(_others),
            ),
            (
                "You subtracted the sum of the others. Take their mean.",
                _groups(lambda g: g - (g.sum(1, keepdim=True) - g)),
            ),
        ],
        form="one advantage for each reward",
        advice="For each answer: its reward, minus the mean of the other rewards to the same question.",
    )
    return "No critic and no division: an unbiased baseline (arXiv 2402.14740)."


def _best(logits):
    return lambda ref, reward, beta: torch.softmax(logits(ref, reward, beta), 0)


@exercise(3, "Give the probabilities that the objective with the KL price is best served by.")
def best_policy(answer):
    ref, reward = torch.tensor([0.6, 0.3, 0.09, 0.01]), torch.tensor([0.0, 1.0, 2.0, 6.0])
    uneven = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([-1.0, 0.5, 1.0])
    compare(
        answer,
        _best(lambda ref, reward, beta: ref.log() + reward / beta),
        {
            "beta = 4": (ref, reward, 4.0),
            "beta = 0.5": (ref, reward, 0.5),
            "three answers and beta = 2": (*uneven, 2.0),
        },
        [
            (
                "The form is right, but probabilities have to sum to 1.",
                lambda ref, reward, beta: ref * torch.exp(reward / beta),
            ),
            (
                "The reference is missing. Where it gives little, the policy has to pay.",
                _best(lambda ref, reward, beta: reward / beta),
            ),
            (
                "A larger price should shrink the reward, not enlarge it.",
                _best(lambda ref, reward, beta: ref.log() + beta * reward),
            ),
            (
                "Add the reward to the logarithm of the reference, not to the probability itself.",
                _best(lambda ref, reward, beta: ref + reward / beta),
            ),
            (
                "That policy seeks the lowest reward. Check the sign.",
                _best(lambda ref, reward, beta: ref.log() - reward / beta),
            ),
            (
                "That is the best policy without a price (beta = 0).",
                lambda ref, reward, beta: torch.nn.functional.one_hot(reward.argmax(), len(ref)).to(
                    ref
                ),
            ),
            (
                "That is the reference. At this price some reward is worth paying for.",
                lambda ref, reward, beta: ref,
            ),
            (
                "Where is beta?",
                _best(lambda ref, reward, beta: ref.log() + reward),
            ),
            (
                "Beta multiplies the logarithm of the reference in your code. Divide the reward by it instead, or divide all by it.",
                _best(lambda ref, reward, beta: beta * ref.log() + reward),
            ),
            (
                "You weighted the reference with the rewards themselves. The price is on a logarithm, so the rewards go into an "
                "exponential.",
                lambda ref, reward, beta: ref * reward / (ref * reward).sum(),
                lambda ref, reward, beta: ref * (reward / beta) / (ref * reward / beta).sum(),
            ),
        ],
        form="one probability for each answer",
        advice="Write the objective as a sum over the answers, with a multiplier for the sum of the probabilities, and set the "
        "derivative to 0.",
    )
    return "Lesson 14 turns this formula round: DPO reads the reward off the policy."
