"""What a model learns from: text, answers, comparisons. The functions are those of the notebook, taken out by its syntax tree."""

import functools

from tools.sweep_plans import about
from utils import bases, evaluation, preferences, rewards, tasks, training

LESSON = ("reward_loss", "scores", "two_answers", "scorer", "train_reward", "prefers_right")


@functools.cache
def lesson():
    """{name: function} of the notebook; loaded when a run starts, so that other sweeps need no notebook."""
    from tests.from_notebook import load

    return dict(zip(LESSON, load("02", *LESSON)))


def run_text(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    """Continued pre-training on the ship's log. No score: the loss on validation texts decides."""
    model, tokenizer = bases.load(base)
    rows, settings = tasks.load(task), {"steps": steps, "lr": lr, "batch_size": batch_size}
    training.train(model, tokenizer, rows, seed=seed, progress=False, **settings)
    texts = {
        "ship": [r["text"] for r in tasks.load(task, "test")],
        "world": evaluation.world_texts(50),
    }
    loss = evaluation.answer_loss(model, tokenizer, tasks.load(task, "validation"))
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": 0.0,
        "validation_loss": round(loss, 5),
        **{
            f"{name}_perplexity": round(evaluation.perplexity(model, tokenizer, t), 3)
            for name, t in texts.items()
        },
    }


def run_pairs(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """SFT on mixed or on chosen answers. Several answers are as good as each other, so the loss on validation answers decides."""
    model, tokenizer = bases.load(base)
    kind = rewards.mixed if options["answers"] == "mixed" else list
    settings = {"steps": steps, "lr": lr, "batch_size": batch_size}
    rows = kind(tasks.load(task))
    training.train(model, tokenizer, rows, seed=seed, progress=False, **settings)
    held_out = kind(tasks.load(task, "validation"))
    shares = preferences.manners(model, tokenizer, rewards.questions("test"))
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": 0.0,
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, held_out), 5),
        **{name: round(value, 4) for name, value in shares.items()},
    }


def run_reward(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=8):
    """A reward model. The score is the share of pairs that it orders right; ties go to the lower loss on validation pairs."""
    tokenizer = bases.load_tokenizer(base)
    model = lesson()["scorer"](tokenizer, seed)
    lesson()["train_reward"](model, tokenizer, tasks.load(task), steps, lr, seed)
    rows = {split: tasks.load(task, split) for split in ("validation", "test")}
    hits = {s: lesson()["prefers_right"](model, tokenizer, r) for s, r in rows.items()}
    by_kind = {
        kind: sum(h for h, r in zip(hits["test"], rows["test"]) if r["kind"] == kind)
        / sum(r["kind"] == kind for r in rows["test"])
        for kind in ("rambling", "rude", "wrong")
    }
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        **{f"{split}_score": sum(h) / len(h) for split, h in hits.items()},
        "validation_loss": round(pair_loss(model, tokenizer, rows["validation"]), 5),
        **by_kind,
    }


def pair_loss(model, tokenizer, rows, batch=56):
    """Mean reward loss of pairs, in nats."""
    import torch

    total = 0.0
    with torch.no_grad():
        for n in range(0, len(rows), batch):
            some = rows[n : n + batch]
            ids = lesson()["two_answers"](tokenizer, some, model.device)
            both = lesson()["scores"](model, ids, tokenizer.pad_token_id).chunk(2)
            total += lesson()["reward_loss"](*both).item() * len(some)
    return total / len(rows)


TEXT, PAIRS, REWARD = (
    ("style", "full", {}),
    [("preferences", "full", {"answers": a}) for a in ("mixed", "chosen")],
    ("preferences", "full", {}),
)
ALL = dict(seeds=(0, 1, 2))
SWEEPS = {
    "ways-text": dict(
        run=run_text,
        steps=25,
        rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        arms=[TEXT],
        batch_size=8,
        curve=True,
        noises=(),
        **ALL,
    ),
    # The run that the lesson makes again: a third of the rate with the lowest loss.
    "ways-text-steady": dict(
        run=run_text, steps=25, rates=(3e-3,), arms=[TEXT], live=[TEXT], batch_size=8, seeds=(0,)
    ),
    "ways-pairs": dict(
        run=run_pairs,
        steps=60,
        rates=(3e-4, 1e-3, 3e-3),
        arms=PAIRS,
        live=PAIRS[:1],
        batch_size=16,
        noises=(),
        **ALL,
    ),
    "ways-reward": dict(
        run=run_reward,
        steps=40,
        rates=(3e-4, 1e-3, 3e-3),
        arms=[REWARD],
        live=[REWARD],
        batch_size=8,
        **ALL,
    ),
}
