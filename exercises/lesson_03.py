"""Checks of lesson 03's exercises."""

import torch
from torch import nn

from utils.checks import Hint, call, exercise


@exercise(1, "Give the bytes of weights, gradients and optimiser state together.")
def state_bytes(answer):
    for base, adapter in ((1000, 10), (7000, 300)):
        got, right = call(answer, base, adapter), 2 * base + 16 * adapter
        known = {
            16 * base
            + 16
            * adapter: "The base is frozen: it has no gradient and Adam remembers nothing of it.",
            16
            * base: "That is full tuning in mixed precision. Here the base is frozen, and there is an adapter.",
            4 * base
            + 16
            * adapter: "The base takes 2 bytes a parameter: 16 bits, and no gradient, because it is frozen.",
            2 * base
            + 12
            * adapter: "For the adapter count four things of 32 bits each: weight, gradient, m and v. One is missing or too narrow.",
            2 * base
            + 8
            * adapter: "For the adapter count four things of 32 bits each: weight, gradient, m and v. Two are missing or all are too narrow.",
            2 * base
            + 4
            * adapter: "That is what is stored at the end. A run also holds the adapter's gradients and Adam's m and v.",
            2 * base
            + 20
            * adapter: "The 32-bit copy is for weights of 16 bits. The adapter's weights are in 32 bits already.",
            2 * base
            + 14
            * adapter: "The adapter trains in 32 bits: its weights and its gradients have 4 bytes each.",
            base / 2 + 16 * adapter: "That is a base in 4 bits. This one is kept in 16.",
            2 * base
            + 18
            * adapter: "18 bytes are for a weight kept in 32 and in 16 bits. The adapter is kept in 32 bits alone.",
            16 * adapter: "The frozen base still has to be in memory.",
            2 * base: "That is the base alone. What does the adapter need?",
        }
        if got != right:
            raise Hint(
                known.get(
                    got,
                    f"For a base of {base} and an adapter of {adapter} parameters you gave {got}. Write down what "
                    "is kept for each frozen and for each trained parameter.",
                )
            )
    return "Next to the base the adapter hardly counts; that is why 4-bit bases pay."


# lr: (validation scores, test score, facts kept) of seeds 0, 1, 2
RUNS = {
    1e-4: ((0.90, 0.91, 0.89), 0.90, (0.99, 0.99, 0.99)),
    2e-4: ((0.94, 0.94, 0.94), 0.99, (0.95, 0.95, 0.95)),
    3e-4: ((0.94, 0.98, 0.975), 0.97, (0.90, 0.88, 0.86)),
    1e-3: ((0.99, 0.97, 0.98), 0.98, (0.97, 0.40, 0.43)),
    3e-3: ((1.0, 0.98, 0.99), 0.98, (0.30, 0.31, 0.29)),
}


@exercise(2, "Give the rate that has learned the task about as well as the best and keeps most.")
def choose_rate(answer):
    runs = [
        {
            "lr": lr,
            "seed": seed,
            "validation_score": scores[seed],
            "test_score": test,
            "facts_kept": kept[seed],
        }
        for seed in (2, 0, 1)
        for lr, (scores, test, kept) in sorted(RUNS.items(), reverse=True)
    ]
    got = call(answer, [dict(r) for r in runs], 0.03)
    if not isinstance(got, (int, float)):
        raise Hint(f"Give the rate itself, a number; you gave a {type(got).__name__}.")
    hints = {
        1e-4: "That rate keeps most facts and has not learned the task as well: first the score, then the facts.",
        2e-4: "Its test score is high, its validation score is not. A choice that looks at test rows spoils them as a test.",
        1e-3: "Did single runs decide? One of its runs is lucky. Take the mean over the seeds for every rate first, for scores and for facts.",
        3e-3: "That is the rate with the best score. Within the slack another keeps more.",
    }
    if got != 3e-4:
        raise Hint(hints.get(got, f"{got} is none of the rates of the runs."))
    for slack, right in ((0.1, 1e-4), (0.0, 3e-3), (0.02, 1e-3)):
        again = call(answer, [dict(r) for r in runs], slack)
        if slack == 0.02 and again == 3e-4:
            raise Hint(
                "For a slack of 0.02 you gave 0.0003. Its median score is high enough, its mean is not: the task speaks of the mean."
            )
        if again != right:
            raise Hint(
                f"Right for a slack of 0.03; for {slack:g} it should be {right:g}, you gave {again}. Use the argument."
            )
    return "Apply it to the sweep of this lesson and compare with the rates that the rule without forgetting chose."


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.relative_attention_bias = nn.Embedding(4, 2)  # as T5 calls its table of positions


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings, self.attention, self.norm = (
            nn.Embedding(11, 8),
            Attention(),
            nn.LayerNorm(8),
        )
        self.dense, self.classifier = nn.Linear(8, 8), nn.Linear(8, 2)


@exercise(3, "Let the biases and the classifier train, nothing else, and return the model.")
def bitfit(answer):
    for before in (True, False):
        model = Encoder().requires_grad_(before)
        values = {n: p.detach().clone() for n, p in model.named_parameters()}
        got = call(answer, model)
        if got is not model:
            raise Hint("Return the model that you were given, changed in place.")
        if any(not torch.equal(p, values[n]) for n, p in model.named_parameters()):
            raise Hint("You changed the values of parameters. Only requires_grad should change.")
        train = {n for n, p in model.named_parameters() if p.requires_grad}
        if "attention.relative_attention_bias.weight" in train and "dense.weight" not in train:
            raise Hint(
                "attention.relative_attention_bias.weight trains: an embedding table with the word bias in its name. Look at the last part of the name only."
            )
        if "dense.weight" in train or "embeddings.weight" in train or "norm.weight" in train:
            raise Hint(
                "Weights of the body still train. What was trainable before has to be frozen first."
            )
        if not {"attention.query.bias", "dense.bias"} & train:
            raise Hint(
                "No bias of the linear layers trains."
                + (
                    ""
                    if before
                    else " This time the model came frozen: set requires_grad to True where it should be."
                )
            )
        if "norm.bias" not in train:
            raise Hint("The norm has a bias as well; every bias of the model trains.")
        if "classifier.weight" not in train:
            raise Hint("The classifier is new: its weight has to train too, not just its bias.")
        if train != {
            "attention.query.bias",
            "norm.bias",
            "dense.bias",
            "classifier.weight",
            "classifier.bias",
        }:
            raise Hint(f"These train: {', '.join(sorted(train))}. Compare with what should.")
    return "Nothing was added to the body."
