"""Which parameters: full tuning, a new head, LoRA and the norms on one task, every rate with every seed; the head on a second task.

And what helps against forgetting: the same runs with old rows mixed in. Old rows are facts about every other country
(`halves`); what is kept is counted on the facts about the other countries, which are never shown again.
"""

import random

from tools.sweep_plans import about
from utils import adapters, bases, evaluation, methods, tasks, training


def norms(model):
    """The norms' own scales train; nothing is added."""
    for norm in adapters.norms(model).values():
        norm.requires_grad_(True)
    return model


METHODS = {"norms": norms}


def halves():
    """(facts that may be replayed, facts that are only asked for): every other country."""
    facts = evaluation.facts()
    first = set(sorted({f["country"] for f in facts})[::2])
    return [f for f in facts if f["country"] in first], [
        f for f in facts if f["country"] not in first
    ]


def run_replay(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """Train one arm once, `replay` old rows among the task's, and score it; a flat dict."""
    model, tokenizer = bases.load(base)
    own = {k: v for k, v in options.items() if k != "replay"}
    model = methods.apply(method, model, seed=seed, **own)
    old, asked = halves()
    mixed = tasks.load(task, "train", count) + random.Random(0).sample(old, options["replay"])
    history = training.train(
        model,
        tokenizer,
        mixed,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    validation_score, validation_loss = evaluation.score_and_loss(
        model, tokenizer, tasks.load(task, "validation")
    )
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": validation_score,
        "validation_loss": round(validation_loss, 5),
        "test_score": evaluation.exact_match(model, tokenizer, tasks.load(task, "test")),
        "facts_replayed": evaluation.facts_kept(model, tokenizer, old),
        "facts_not_replayed": evaluation.facts_kept(model, tokenizer, asked),
        "final_loss": round(history.final_loss, 4),
        "trainable": training.count(model)[0],
        "seconds": round(history.seconds, 2),
    }


REPLAYED = 33  # beside 300 rows of the task: one row in ten
COMMON = dict(seeds=(0, 1, 2), rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2))
SWEEPS = {
    "which-parameters": dict(
        COMMON,
        steps=60,
        curve=True,
        live=[("sentiment", "full", {})],
        arms=[
            ("sentiment", "full", {}),
            ("sentiment", "lora", {"rank": 8}),
            ("sentiment", "head", {}),
            ("sentiment", "norms", {}),
        ],
    ),
    "replay": dict(  # beside the full tuning of which-parameters
        seeds=(0, 1, 2),
        steps=60,
        rates=(3e-4, 1e-3, 3e-3),
        run=run_replay,
        arms=[("sentiment", "full", {"replay": REPLAYED})],
    ),
    "head-entities": dict(COMMON, steps=80, arms=[("entities", "head", {})]),
}  # beside lora-rank's arms on entities
