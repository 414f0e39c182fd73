"""Three ways to learn: from text, from pairs, from a score. The functions are those of the notebook, taken out by its syntax tree."""

import collections
import copy
import functools
import json

import torch

from utils import ROOT, bases, evaluation, results, tasks, training

LESSON = (
    "judge",
    "mixed",
    "reward_loss",
    "scores",
    "two_answers",
    "scorer",
    "train_reward",
    "prefers_right",
    "rollout",
    "logprobs",
    "token_rewards",
    "values_of",
    "gae",
    "mean",
    "whiten",
    "ppo_loss",
    "value_loss",
    "experience",
    "improve",
    "ppo",
)


@functools.cache
def lesson():
    """{name: function} of the notebook; loaded when a run starts, so that other sweeps need no notebook."""
    from tests.from_notebook import load

    return dict(zip(LESSON, load("02", *LESSON)))


def settings(sweep, **wanted):
    """Rate, steps and batch of the run that a finished sweep chose."""
    chosen = next(r for r in results.select(results.load(sweep)["rows"], chosen=True, **wanted))
    return {name: chosen[name] for name in ("lr", "steps", "batch_size")}


def row(task, method, options, lr, seed, steps, base):
    return {
        "base": base,
        "task": task,
        "method": method,
        "options": json.dumps(options),
        "lr": lr,
        "seed": seed,
        "steps": steps,
    }


def questions(split):
    return [r for r in tasks.load("preferences", split) if r["kind"] == "rude"]


def shares(model, tokenizer, rows):
    """{right, courteous, good, commonest_ending}: shares of sampled answers, as the notebook's panel takes them; and the answers."""
    torch.manual_seed(0)
    said = evaluation.answers(
        model, tokenizer, [r["prompt"] for r in rows], batch_size=len(rows), do_sample=True, top_k=0
    )
    judged = zip(*(lesson()["judge"](r, a) for r, a in zip(rows, said)))
    columns = {
        name: sum(column) / len(rows)
        for name, column in zip(("right", "courteous", "good"), judged)
    }
    endings = collections.Counter(a.strip().split(". ")[-1] for a in said)
    return {**columns, "commonest_ending": endings.most_common(1)[0][1] / len(rows)}, said


def run_text(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    model, tokenizer = bases.load(base)
    training.train(
        model,
        tokenizer,
        tasks.load(task),
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    texts = {
        "ship": [r["text"] for r in tasks.load(task, "test")],
        "world": evaluation.world_texts(50),
    }
    return {
        **row(task, method, options, lr, seed, steps, base),
        "count": count,
        "batch_size": batch_size,
        "validation_score": 0.0,
        "validation_loss": round(
            evaluation.answer_loss(model, tokenizer, tasks.load(task, "validation")), 5
        ),
        **{
            f"{name}_perplexity": round(evaluation.perplexity(model, tokenizer, t), 3)
            for name, t in texts.items()
        },
    }


def supervised(lr, seed, steps, batch_size, answers, base):
    model, tokenizer = bases.load(base)
    rows = tasks.load("preferences")
    training.train(
        model,
        tokenizer,
        lesson()["mixed"](rows) if answers == "mixed" else rows,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    return model, tokenizer


def run_pairs(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    model, tokenizer = supervised(lr, seed, steps, batch_size, options["answers"], base)
    rows = tasks.load(task, "validation")
    rows = lesson()["mixed"](rows) if options["answers"] == "mixed" else rows
    # Several answers are as good as each other, so the likelihood of the held-out answers decides, not a score.
    return {
        **row(task, method, options, lr, seed, steps, base),
        "count": count,
        "batch_size": batch_size,
        "validation_score": 0.0,
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, rows), 5),
        **shares(model, tokenizer, questions("test"))[0],
    }


def reward(lr, seed, steps, base, batch_size=8):
    tokenizer = bases.load_tokenizer(base)
    model = lesson()["scorer"](tokenizer, seed)
    lesson()["train_reward"](model, tokenizer, tasks.load("preferences"), steps, lr, seed)
    return model, tokenizer


def run_reward(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    model, tokenizer = reward(lr, seed, steps, base)
    hits = {
        split: lesson()["prefers_right"](model, tokenizer, tasks.load(task, split))
        for split in ("validation", "test")
    }
    return {
        **row(task, method, options, lr, seed, steps, base),
        "count": count,
        "batch_size": batch_size,
        **{f"{split}_score": sum(h) / len(h) for split, h in hits.items()},
        "validation_loss": 0.0,
    }  # a tie goes to the lower rate


@functools.cache
def start(seed, base):
    """(supervised model, reward model, tokenizer) of a seed: everything in the chain has it. Kept on disk for a sweep that goes on."""
    pairs, judge = settings("ways-pairs", options='{"answers": "mixed"}'), settings("ways-reward")
    name = "-".join(f"{value:g}" for value in (seed, *pairs.values(), *judge.values()))
    kept = ROOT / "build" / "sweeps" / f"ways-start-{base}-{name}.pt"
    if not kept.exists():
        model, reward_model = (
            supervised(seed=seed, answers="mixed", base=base, **pairs)[0],
            reward(seed=seed, base=base, **judge)[0],
        )
        torch.save([model.state_dict(), reward_model.state_dict()], kept.with_suffix(".tmp"))
        kept.with_suffix(".tmp").replace(kept)
    model, tokenizer = bases.load(base)
    reward_model = lesson()["scorer"](tokenizer)
    for one, state in zip((model, reward_model), torch.load(kept, weights_only=True)):
        one.load_state_dict(state)
    return model, reward_model, tokenizer


def run_ppo(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=32):
    reference, reward_model, tokenizer = start(seed, base)
    policy, critic = copy.deepcopy(reference), copy.deepcopy(reward_model)
    history = lesson()["ppo"](
        policy,
        reference,
        critic,
        reward_model,
        tokenizer,
        tasks.load(task),
        options["beta"],
        lr,
        steps,
        seed,
        batch_size,
    )
    torch.manual_seed(seed)
    e = lesson()["experience"](
        policy,
        reference,
        critic,
        reward_model,
        tokenizer,
        [r["prompt"] for r in questions("validation")],
        options["beta"],
    )
    score, kl = e["score"].mean().item(), (e["old"] - e["ref"]).sum(1).mean().item()
    test, said = shares(policy, tokenizer, questions("test"))
    return {
        **row(task, method, options, lr, seed, steps, base),
        "count": count,
        "batch_size": batch_size,
        "validation_score": round(score - options["beta"] * kl, 3),
        "validation_loss": 0.0,
        "score": round(score, 3),
        "kl": round(kl, 3),
        **test,
        "world_perplexity": round(
            evaluation.perplexity(policy, tokenizer, evaluation.world_texts(50)), 3
        ),
        "answers": said[:6],
        **{
            f"{name}_by_round": [round(h[name], 3) for h in history]
            for name in ("score", "kl", "good")
        },
    }


RATES = (1e-4, 3e-4, 1e-3)
ALL = dict(seeds=(0, 1, 2), batch_size=8)
SWEEPS = {
    "ways-text": dict(
        run=run_text,
        steps=25,
        rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        arms=[("style", "full", {})],
        **ALL,
    ),
    "ways-pairs": dict(
        run=run_pairs,
        steps=60,
        rates=(3e-4, 1e-3, 3e-3),
        arms=[("preferences", "full", {"answers": a}) for a in ("mixed", "chosen")],
        **{**ALL, "batch_size": 16},
    ),
    "ways-reward": dict(
        run=run_reward,
        steps=40,
        rates=(3e-4, 1e-3, 3e-3, 1e-2),
        arms=[("preferences", "full", {})],
        **ALL,
    ),
    **{
        name: dict(
            run=run_ppo,
            steps=14,
            rates=rates,
            arms=[("preferences", "ppo", {"beta": beta})],
            **{**ALL, "batch_size": 32},
        )
        for name, beta, rates in (
            ("ppo-free", 0.0, RATES),
            ("ppo-priced", 0.1, RATES),
            ("ppo-sign", -0.1, (3e-4,)),
        )
    },
}
