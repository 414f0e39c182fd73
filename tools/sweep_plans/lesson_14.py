"""DPO: where it starts from, its beta, and the same number of further SFT steps on the chosen answers alone.

`dpo-start` trains the common start, SFT on both answers of every pair; `python -m tools.sweep_plans.lesson_14` then puts the adapter of its
best rate, first seed, into data/results. `dpo` goes on from it, with 16 answers a step in every arm, so whoever makes the adapter anew
makes `dpo`, `dpo-beta`, `dpo-flawed` and `dpo-long` anew. The stored adapter has the rate that the rule chose when the search was
repeated with three seeds, so it was kept. `dpo-alone` starts from the base and gets three times the steps.
"""

import tempfile

import torch

from tools.sweep_plans import about
from utils import ROOT, bases, evaluation, methods, preferences, tasks, training

PAIRS = 96  # test pairs on which log-probabilities and accuracy are taken


def run_start(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """SFT on both answers of every pair; a rate that imitates them best so far leaves its adapter in build/."""
    model, tokenizer = bases.load(base)
    model = methods.apply("lora", model, rank=8, seed=seed)
    train, validation = (
        preferences.both(tasks.load(task, split)) for split in ("train", "validation")
    )
    training.train(
        model,
        tokenizer,
        train,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    loss = evaluation.answer_loss(model, tokenizer, validation)
    if seed == 0 and not bases.noise_seed():
        preferences.save_start(model, ROOT / "build" / f"dpo-start-{lr:g}.safetensors")
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": round(-loss, 5),
        "validation_loss": round(loss, 5),
        "facts_kept": evaluation.facts_kept(model, tokenizer),
    }


def dpo(model, tokenizer, rows, steps, lr, seed, beta, batch_size, loss_type=("sigmoid",)):
    """DPO by TRL with a new LoRA adapter; returns the trained model."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            **preferences.settings(
                folder, steps, lr, beta, pairs=batch_size // 2, seed=seed, disable_tqdm=True
            ),
            loss_type=list(loss_type),
        )
        trainer = DPOTrainer(
            model,
            args=arguments,
            train_dataset=Dataset.from_list(preferences.for_trl(rows)),
            processing_class=tokenizer,
            peft_config=preferences.lora_config(),
        )
        preferences.log_of(trainer)
    return trainer.model


def run(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """One arm: `method` is sft or dpo, options["start"] is base or sft; options["pairs"] "flawed" has no good answer in it,
    options["loss"] names TRL's loss types."""
    tokenizer = bases.load_tokenizer(base)
    train, validation, test = (tasks.load(task, split) for split in ("train", "validation", "test"))
    if options.get("pairs") == "flawed":
        train = preferences.flawed(train)
    model = preferences.start(base) if options["start"] == "sft" else bases.load(base)[0]
    asked = preferences.questions(test)[::2]
    pairs_before = preferences.pair_log_probabilities(model, tokenizer, test[:PAIRS])
    if method == "dpo":
        loss_type = options.get("loss", ["sigmoid"])
        beta = options["beta"]
        model = dpo(model, tokenizer, train, steps, lr, seed, beta, batch_size, loss_type)
    else:
        model = methods.apply("lora", model, rank=8, seed=seed)
        training.train(
            model,
            tokenizer,
            train,
            steps=steps,
            lr=lr,
            seed=seed,
            batch_size=batch_size,
            progress=False,
        )
    chosen, rejected = (
        now - before
        for now, before in zip(
            preferences.pair_log_probabilities(model, tokenizer, test[:PAIRS]), pairs_before
        )
    )
    said = preferences.manners(model, tokenizer, asked)
    good = preferences.manners(model, tokenizer, preferences.questions(validation), ("good",))[
        "good"
    ]
    loss = evaluation.answer_loss(model, tokenizer, validation)
    kinds = {
        f"{name}_{kind}": round(
            values[[i for i, r in enumerate(test[:PAIRS]) if r["kind"] == kind]].mean().item(), 3
        )
        for kind in ("rude", "wrong", "rambling")
        for name, values in (
            ("chosen", chosen),
            ("rejected", rejected),
            ("accuracy", (chosen > rejected).float()),
        )
    }
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": round(good, 5),
        "validation_loss": round(loss, 5),
        **{kind: round(value, 4) for kind, value in said.items()},
        "accuracy": (chosen > rejected).float().mean().item(),
        "chosen_change": round(chosen.mean().item(), 3),
        "rejected_change": round(rejected.mean().item(), 3),
        **kinds,
        "kl": round(preferences.kl_to_reference(model, tokenizer, [q["prompt"] for q in asked]), 3),
        "facts_kept": evaluation.facts_kept(model, tokenizer),
    }


SEARCH = dict(seeds=(0, 1, 2), rates=(3e-4, 1e-3, 3e-3, 1e-2), run=run)
SWEEPS = {
    "dpo-start": dict(
        seeds=(0, 1, 2),
        rates=(1e-3, 3e-3, 1e-2),
        steps=160,
        run=run_start,
        arms=[("preferences", "sft", {"start": "base", "data": "both"})],
    ),
    "dpo": dict(
        SEARCH,
        steps=30,
        live=[("preferences", "dpo", {"start": "sft", "beta": 0.1})],
        arms=[
            ("preferences", "dpo", {"start": "sft", "beta": 0.1}),
            ("preferences", "sft", {"start": "sft", "data": "chosen"}),
        ],
    ),
    # every learning rate with other betas, one seed: where the policy goes, and no comparison of methods
    "dpo-beta": dict(
        SEARCH,
        seeds=(0,),
        steps=30,
        noises=(),
        arms=[("preferences", "dpo", {"start": "sft", "beta": beta}) for beta in (1.0, 0.3, 0.03)],
    ),
    # chosen answers that are better and never good: what imitation cannot reach
    "dpo-flawed": dict(
        SEARCH,
        steps=30,
        arms=[
            ("preferences", "dpo", {"start": "sft", "beta": 0.1, "pairs": "flawed"}),
            ("preferences", "sft", {"start": "sft", "data": "chosen", "pairs": "flawed"}),
        ],
    ),
    # one whole pass at the rate of `dpo`, without and with the SFT term
    "dpo-long": dict(
        SEARCH,
        rates=(1e-3,),
        steps=87,
        noises=(),
        arms=[
            ("preferences", "dpo", {"start": "sft", "beta": 0.1, "loss": loss})
            for loss in (["sigmoid"], ["sigmoid", "sft"])
        ],
    ),
    "dpo-alone": dict(
        SEARCH, steps=90, arms=[("preferences", "dpo", {"start": "base", "beta": 0.1})]
    ),
}


def keep_start():
    """data/results/dpo-start.safetensors: the adapter of the sweep's chosen rate, which `dpo` starts from."""
    from safetensors.torch import load_file, save_file

    from utils import results

    row = next(r for r in results.load("dpo-start")["rows"] if r["chosen"])
    made_with = {
        k: str(row[k]) for k in ("base", "task", "options", "lr", "steps", "batch_size", "seed")
    }
    save_file(
        load_file(ROOT / "build" / f"dpo-start-{row['lr']:g}.safetensors"),
        preferences.START,
        {**made_with, **results.provenance()},
    )


if __name__ == "__main__":
    keep_start()
