"""Sweeps behind the lessons' stored results: every arm gets the same search, the rate is chosen on validation rows.

    python -m tools.sweeps lora-rank            # names from tools/sweep_plans/; goes on where it was stopped

Each arm (task, method, options) is trained once per rate of the grid with seed 0. The rate with the best validation
score (ties: the lower validation loss) is trained again with the other seeds. Every run is kept, chosen or not.
"""

import argparse
import functools
import importlib
import json
import pkgutil

import torch
from tqdm import tqdm

from tools import sweep_plans
from utils import ROOT, bases, evaluation, methods, results, tasks, training

PLANS = [
    importlib.import_module(f"tools.sweep_plans.{m.name}")
    for m in pkgutil.iter_modules(sweep_plans.__path__)
]
SWEEPS = {name: plan for module in PLANS for name, plan in module.SWEEPS.items()}
for _module in PLANS:
    methods.METHODS.update(getattr(_module, "METHODS", {}))


def run(
    task,
    method,
    options,
    lr,
    seed,
    steps,
    base="pocket-s",
    count=None,
    batch_size=16,
    keep=None,
    form=None,
    tests=None,
):
    """Train one arm once and score it; a flat dict.

    `keep(row)` leaves rows out of all splits, `form(row)` gives a row another prompt and answer; `tests`, {column: function of
    a row}, adds scores on parts of the whole test split.
    """
    model, tokenizer = bases.load(base, four_bit=options.get("four_bit", False))
    model = methods.apply(
        method, model, seed=seed, **{k: v for k, v in options.items() if k != "four_bit"}
    )
    splits = {
        split: tasks.load(task, split, count if split == "train" else None)
        for split in ("train", "validation", "test")
    }
    splits = {split: [form(r) for r in rows] if form else rows for split, rows in splits.items()}
    train, validation, test = (
        [r for r in rows if keep is None or keep(r)] for rows in splits.values()
    )
    history = training.train(
        model,
        tokenizer,
        train,
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    return {
        "base": base,
        "task": task,
        "method": method,
        "options": json.dumps(options),
        "lr": lr,
        "seed": seed,
        "steps": steps,
        "count": count,
        "batch_size": batch_size,
        "validation_score": evaluation.exact_match(model, tokenizer, validation),
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, validation), 5),
        "test_score": evaluation.exact_match(model, tokenizer, test),
        **{
            column: evaluation.exact_match(model, tokenizer, [r for r in splits["test"] if part(r)])
            for column, part in (tests or {}).items()
        },
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "final_loss": round(history.final_loss, 4),
        "trainable": training.count(model)[0],
        "seconds": round(history.seconds, 2),
    }


def best(rows):
    """The row with the highest validation score; among equals, the lowest validation loss."""
    return max(rows, key=lambda r: (r["validation_score"], -r["validation_loss"]))


def best_rate(rows):
    """The rate with the highest validation score over all seeds; among equals, the lowest validation loss."""
    by_rate = {lr: results.select(rows, lr=lr) for lr in dict.fromkeys(r["lr"] for r in rows)}
    return max(
        by_rate,
        key=lambda lr: (
            round(results.mean(by_rate[lr], "validation_score"), 9),
            -results.mean(by_rate[lr], "validation_loss"),
        ),
    )


class Ledger:
    """Finished runs on disk, so that a stopped sweep goes on."""

    def __init__(self, name):
        self.path = ROOT / "build" / "sweeps" / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def get(self, run=run, **settings):
        """The stored row of these settings, or a new run, stored before it is returned."""
        key = {**settings, "options": json.dumps(settings["options"])}
        found = results.select(self.rows, **key)
        if not found:
            found = [run(**settings)]
            self.rows += found
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[0]) + "\n")
        return found[0]


def sweep(name):
    plan = SWEEPS[name]
    ledger, rows = Ledger(name), []
    base, runner = (
        plan.get("base", "pocket-s"),
        functools.partial(
            plan.get("run", run), **{k: plan[k] for k in ("keep", "form", "tests") if k in plan}
        ),
    )
    for task, method, options in tqdm(plan["arms"], desc=name):
        common = dict(
            run=runner,
            task=task,
            method=method,
            options=options,
            steps=plan["steps"],
            base=base,
            count=plan.get("count"),
            batch_size=plan.get("batch_size", 16),
        )
        if plan.get(
            "curve"
        ):  # every rate with every seed, so that what is forgotten can be drawn over the rate with its spread
            every = [
                ledger.get(**common, lr=lr, seed=seed)
                for seed in plan["seeds"]
                for lr in plan.get("rates", methods.RATES)
            ]
            rows += [{**row, "chosen": row["lr"] == best_rate(every)} for row in every]
            continue
        searched = [ledger.get(**common, lr=lr, seed=0) for lr in plan.get("rates", methods.RATES)]
        chosen = best(searched)["lr"]
        rows += [{**row, "chosen": row["lr"] == chosen} for row in searched]
        rows += [
            {**ledger.get(**common, lr=chosen, seed=seed), "chosen": True}
            for seed in plan["seeds"]
            if seed
        ]
    path = results.save(
        name,
        rows,
        {
            "seeds": plan["seeds"],
            "steps": plan["steps"],
            "rates": plan.get("rates", methods.RATES),
            "batch_size": plan.get("batch_size", 16),
            "threads": torch.get_num_threads(),
            "rule": f"rate by validation score, ties by validation loss, {'mean over the seeds' if plan.get('curve') else 'seed 0'}",
        },
    )
    print(f"{len(rows)} runs in {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", nargs="+", choices=SWEEPS)
    torch.use_deterministic_algorithms(True)
    for name in parser.parse_args().sweep:
        sweep(name)


if __name__ == "__main__":
    main()
