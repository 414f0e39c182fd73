"""Checks of lesson 02's exercises."""

import torch

from utils.checks import Hint, call, exercise

RATIO = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1, 0.9, 1.1, 0.9, 1.0, 1.0])
ADVANTAGE = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0, 1.0, -1.0, -1.0, 0.5, -0.5])


def gradient_is_there(ratio, advantage, eps):
    """What autograd says: does the clipped objective have a gradient at these ratios?"""
    ratio = ratio.clone().requires_grad_(True)
    torch.minimum(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage).sum().backward()
    return ratio.grad != 0


@exercise(1, "Say which tokens still push: True where the clipped objective has a gradient.")
def still_pushes(answer):
    for eps in (0.2, 0.05):
        got = call(answer, RATIO.clone(), ADVANTAGE.clone(), eps)
        if not isinstance(got, torch.Tensor) or got.shape != RATIO.shape:
            raise Hint(f"Give one True or False a token, a tensor of shape {list(RATIO.shape)}.")
        got, high, low, good = got.bool(), RATIO > 1 + eps, RATIO < 1 - eps, ADVANTAGE > 0
        for value, hint in (
            (
                ~(high | low),
                "You stop every token outside the band. A token that moved the wrong way must be able to come back: the "
                "minimum takes the unclipped side there.",
            ),
            (
                high & good | low & ~good,
                "That is the opposite: where the clip has taken the gradient away.",
            ),
            (
                ~(high & good),
                "You looked at good tokens only. A bad token whose ratio has fallen far enough stops as well.",
            ),
            (
                ~(low & ~good),
                "You looked at bad tokens only. A good token whose ratio has risen far enough stops as well.",
            ),
            (
                ~(high & ~good | low & good),
                "The signs are the wrong way round: a good token (positive advantage) stops when its ratio is too "
                "high.",
            ),
            (
                ~high,
                "You clip from above whatever the advantage is. For a bad token a high ratio is a mistake to be undone.",
            ),
            (
                ~low,
                "You clip from below whatever the advantage is. For a good token a low ratio is a mistake to be undone.",
            ),
            (torch.ones_like(good), "Then the clip would do nothing at all."),
        ):
            if torch.equal(got, value):
                raise Hint(hint)
        if not torch.equal(got, gradient_is_there(RATIO, ADVANTAGE, eps)):
            wrong = int((got != gradient_is_there(RATIO, ADVANTAGE, eps)).nonzero()[0])
            raise Hint(
                f"With eps = {eps}, ratio {RATIO[wrong]:.1f} and advantage {ADVANTAGE[wrong]:+.1f} it is not so. Which of the two terms is the "
                "smaller, and does it move with the ratio?"
            )
    return "Autograd says the same: clipping only ever stops what already went far enough."


@exercise(2, "Give GRPO's advantages: each score against the scores of the same prompt.")
def group_advantages(answer):
    rewards = torch.tensor([1.0, 0.0, 0.0, 3.0, 5.0, 9.0, 2.0, 2.0, 8.0, 4.0, 4.0, 8.0])
    for size in (4, 3):
        got, groups = call(answer, rewards.clone(), size), rewards.view(-1, size)
        if not isinstance(got, torch.Tensor) or got.numel() != len(rewards):
            raise Hint(f"There are {len(rewards)} answers; give one advantage for each.")
        got = got.flatten()
        centred = groups - groups.mean(1, keepdim=True)
        strided = rewards.view(size, -1)
        for value, hint in (
            (
                rewards,
                "These are the scores themselves. An advantage says how much better than the others of its prompt.",
            ),
            (
                centred,
                "The mean of the group is taken off, right. Now divide by the group's standard deviation.",
            ),
            (
                (rewards - rewards.mean()) / rewards.std(),
                "You compared every answer with the whole batch. An easy prompt would then look like "
                "good writing: compare within the prompt.",
            ),
            (
                centred / rewards.std(),
                "The mean is the group's, the standard deviation the batch's. Take both from the group.",
            ),
            (groups / groups.std(1, keepdim=True), "The mean of the group has to come off first."),
            (
                centred / groups.var(1, keepdim=True),
                "You divided by the variance; the standard deviation is its root.",
            ),
            (
                ((strided - strided.mean(0)) / strided.std(0)),
                "You grouped every n-th answer. The answers to one prompt stand side by side.",
            ),
            (
                groups.mean(1, keepdim=True) - groups,
                "The sign is the wrong way round: better than its group is positive.",
            ),
        ):
            if torch.allclose(got, value.flatten(), atol=1e-3):
                raise Hint(hint)
        right = centred / groups.std(1, keepdim=True)
        population = centred / groups.std(1, keepdim=True, correction=0)
        if not torch.allclose(got, right.flatten(), atol=1e-2) and not torch.allclose(
            got, population.flatten(), atol=1e-2
        ):
            raise Hint(
                f"The first group of {size} is {groups[0].tolist()}, and you gave {[round(v, 2) for v in got[:size].tolist()]}. Its mean should be 0 "
                "and its standard deviation 1."
            )
    same = call(answer, torch.ones(6), 3)
    if not torch.isfinite(same).all():
        raise Hint(
            "When all answers to a prompt score the same, you divide by 0. Add a small number (TRL adds 1e-4): their advantage is then 0."
        )
    return "No critic: the other answers to the same prompt are the yardstick."


@exercise(3, "Give the policy that the objective with the KL price is best served by.")
def best_policy(answer):
    ref, reward = torch.tensor([0.6, 0.3, 0.09, 0.01]), torch.tensor([0.0, 1.0, 2.0, 6.0])
    for beta in (1.0, 4.0):
        got = call(answer, ref.clone(), reward.clone(), beta)
        right = torch.softmax(ref.log() + reward / beta, 0)
        if not isinstance(got, torch.Tensor) or got.shape != ref.shape:
            raise Hint("Give one probability for each of the answers.")
        raw = ref * torch.exp(reward / beta)
        for value, hint in (
            (raw, "The proportions are right, but they do not sum to 1. Divide by their sum."),
            (
                torch.softmax(reward / beta, 0),
                "The reference is missing. An answer that it never gives is dear, however well it scores.",
            ),
            (
                torch.softmax(ref.log() + beta * reward, 0),
                "Beta is on the wrong side: a high price keeps the policy near the reference, so it "
                "must shrink the reward.",
            ),
            (
                torch.softmax(ref + reward / beta, 0),
                "Add the reward to the logarithm of the reference, not to the probability itself.",
            ),
            (
                torch.softmax(ref.log() - reward / beta, 0),
                "That policy seeks the lowest reward; mind the sign.",
            ),
            (
                torch.nn.functional.one_hot(reward.argmax(), len(ref)).to(ref),
                "That is the best policy when nothing has to be paid (beta = 0).",
            ),
            (ref, "That is the reference. At this price some reward is worth paying for."),
            (torch.softmax(ref.log() + reward, 0), "Where is beta?"),
        ):
            if torch.allclose(got, value, atol=1e-4) and not torch.allclose(
                value, right, atol=1e-4
            ):
                raise Hint(hint)
        if not torch.allclose(got, right, atol=1e-4):
            raise Hint(
                f"For beta = {beta:g} you gave {[round(v, 3) for v in got.tolist()]}. Write the objective as a sum over the answers, with a multiplier for "
                "the sum of probabilities, and set the derivative to 0."
            )
    return "Lesson 14 turns this formula round: DPO reads the reward off the policy."
