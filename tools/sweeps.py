"""Sweeps behind the lessons' stored results: every arm gets the same search, by one rule of choice.

    python -m tools.sweeps lora-rank            # names from tools/sweep_plans/; goes on where it was stopped

The rule (`choose`): each arm (task, method, options) is trained at every rate of the grid with three seeds; the rate with the
best mean validation score wins, ties go to the lower mean validation loss. While the winner lies at an edge of the grid, the grid
grows there. A rate whose score moves by more than MAX_WOBBLE when only rounding moves is not eligible. Every run is kept,
chosen or not. The runs that a lesson makes again (`live` in a plan) are repeated under five noises and in two numeric modes, and
how far each of their numbers moved is stored with them.
"""

import argparse
import functools
import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys
import time

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
    more=None,
    extra=(),
):
    """Train one arm once and score it; a flat dict.

    `keep(row)` leaves rows out of all splits, `form(row)` gives a row another prompt and answer; `tests`, {column: function of
    a row}, adds scores on parts of the whole test split; `more(model, history)` adds columns of its own. `extra` are
    more training rows, or ready pairs (ids, labels).
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
    began = time.process_time()
    history = training.train(
        model,
        tokenizer,
        [*train, *extra],
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    cpu_seconds = time.process_time() - began
    validation_score, validation_loss = evaluation.score_and_loss(model, tokenizer, validation)
    test_score, test_loss = evaluation.score_and_loss(model, tokenizer, test)
    return {
        **sweep_plans.about(base, task, method, options, lr, seed, steps, count, batch_size),
        "validation_score": validation_score,
        "validation_loss": round(validation_loss, 5),
        "test_score": test_score,
        "test_loss": round(test_loss, 5),
        **{
            column: evaluation.exact_match(model, tokenizer, [r for r in splits["test"] if part(r)])
            for column, part in (tests or {}).items()
        },
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "final_loss": round(history.final_loss, 4),
        "trainable": training.count(model)[0],
        "seconds": round(history.seconds, 2),
        "step_cpu_seconds": round(cpu_seconds / len(history.loss), 5),
        **(more(model, history) if more else {}),
    }


MAX_WOBBLE = 0.02
NOISES, LIVE_NOISES = (1, 2, 3), (1, 2, 3, 4, 5)
MODES = {
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "no vector instructions": {"ATEN_CPU_CAPABILITY": "default"},
}
ALL_NOISES = (*LIVE_NOISES, *MODES)  # for runs that a lesson makes again
WIDENED = 3  # a grid grows by at most so many rates at each end
SERIES = [float(f"{digit}e{power}") for power in range(-6, 3) for digit in (1, 3)]


def wobble(row, others, columns=None):
    """{column: largest distance of the others' value from the row's} of the columns that hold measured numbers."""
    columns = columns or [
        n
        for n, v in row.items()
        if isinstance(v, float) and n not in ("lr", "seconds") and "cpu" not in n
    ]
    return {n: round(max(abs(o[n] - row[n]) for o in others), 5) for n in columns}


def choose(get, rates, seeds, noises=NOISES):
    """(rate, {rate: wobble of the score} of those that were looked at): the one rule of choice of the course.

    `get(lr, seed, noise)` gives the row of a run, `noise` None for the run as it is. Runs that cannot change the choice are
    not made: where even perfect scores with the seeds still to come would leave a rate's mean below the best mean.
    """
    rates, wobbles, first = sorted(rates), {}, seeds[0]
    grown = {0: 0, -1: 0}
    while True:
        best = _leader(get, [lr for lr in rates if wobbles.get(lr, 0) <= MAX_WOBBLE], seeds)
        if best is None:  # nothing is steady: the least unsteady, and the rows say so
            return min(wobbles, key=wobbles.get), wobbles
        edge = 0 if best == rates[0] else -1 if best == rates[-1] else None
        if len(rates) > 1 and edge is not None and grown[edge] < WIDENED:
            beyond = [lr for lr in SERIES if (lr < best * 0.7 if edge == 0 else lr > best * 1.4)]
            if beyond:
                rates = sorted([*rates, beyond[-1] if edge == 0 else beyond[0]])
                grown[edge] += 1
                continue
        if best not in wobbles:
            there, columns = get(best, first, None), ("validation_score",)
            shaken = [get(best, first, noise) for noise in noises]
            wobbles[best] = wobble(there, shaken, columns)["validation_score"] if noises else 0.0
            if wobbles[best] > MAX_WOBBLE:
                continue
        return best, wobbles


def _leader(get, rates, seeds):
    """The rate with the best (mean validation score, -mean validation loss); None of no rates."""
    done = {lr: [get(lr, seeds[0], None)] for lr in rates}
    shares = all(0 <= rows[0]["validation_score"] <= 1 for rows in done.values())
    perfect = 1.0 if shares else math.inf
    leader, leading = None, (-math.inf, 0.0)
    for lr in sorted(rates, key=lambda lr: -done[lr][0]["validation_score"]):
        rows = done[lr]
        for seed in seeds[1:]:
            reachable = sum(r["validation_score"] for r in rows) + perfect * (
                len(seeds) - len(rows)
            )
            if reachable / len(seeds) < leading[0] - 1e-9:
                break
            rows.append(get(lr, seed, None))
        else:
            reached = _merit(rows)
            if reached > leading:
                leader, leading = lr, reached
    return leader


def _merit(rows):
    """What the rule of choice compares: (mean validation score, minus the mean validation loss)."""
    return (
        round(results.mean(rows, "validation_score"), 9),
        -results.mean(rows, "validation_loss"),
    )


def best_rate(rows):
    """The rate with the highest validation score over all seeds; among equals, the lowest validation loss."""
    by_rate = {lr: results.select(rows, lr=lr) for lr in dict.fromkeys(r["lr"] for r in rows)}
    return max(by_rate, key=lambda lr: _merit(by_rate[lr]))


class Ledger:
    """Finished runs on disk, so that a stopped sweep goes on."""

    def __init__(self, name, again=None):
        """`again` is the call that makes a run in a process of its own, with {!r} for its settings."""
        self.again = again or f"sweeps.one({name!r}, {{!r}})"
        self.path = ROOT / "build" / "sweeps" / f"{name}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.rows = [json.loads(line) for line in lines]

    def get(self, run=run, noise=None, **settings):
        """The stored row of these settings, or a new run, stored before it is returned.

        `noise` is None, the seed of a noise on the weights (PEFT_COURSE_PERTURB), or the name of one of MODES, which needs a
        process of its own.
        """
        key = {**settings, "options": json.dumps(settings["options"]), "noise": noise}
        found = results.select(self.rows, **key)
        if not found:
            found = [{**self._made(run, noise, settings), "noise": noise}]
            self.rows += found
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[0]) + "\n")
        return {name: value for name, value in found[0].items() if name != "noise"}

    def _made(self, run, noise, settings):
        if noise in MODES:
            call = self.again.format(settings)
            code = f"from tools import {call.split('.')[0]}; print({call})"
            environment = {**os.environ, **MODES[noise]}
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=environment
            )
            if done.returncode:
                raise RuntimeError(f"{call} failed under {noise}: {done.stderr[-2000:]}")
            return json.loads(done.stdout.splitlines()[-1])
        os.environ["PEFT_COURSE_PERTURB"] = str(noise or 0)
        try:
            return run(**settings)
        finally:
            del os.environ["PEFT_COURSE_PERTURB"]


def runner_of(plan):
    """The plan's own function that makes a run, or `run`, with what the plan says of rows and tests."""
    given = {k: plan[k] for k in ("keep", "form", "tests", "more") if k in plan}
    return functools.partial(plan.get("run", run), **given)


def one(name, settings):
    """The row of one run of a sweep as JSON, for a process of its own with other numerics."""
    torch.set_num_threads(1)
    return json.dumps(runner_of(SWEEPS[name])(**settings))


def sweep(name):
    plan = SWEEPS[name]
    ledger, rows, choices = Ledger(name), [], {}
    seeds = plan["seeds"]
    for task, method, options in tqdm(plan["arms"], desc=name):
        rates = rates_of(plan, method, options)
        common = {
            "task": task,
            "method": method,
            "options": options,
            "steps": plan["steps"],
            "base": plan.get("base", "pocket-s"),
            "count": plan.get("count"),
            "batch_size": plan.get("batch_size", 16),
        }
        mine = []  # every run of this arm that was made without noise

        def get(lr, seed, noise=None):
            row = ledger.get(runner_of(plan), noise, **common, lr=lr, seed=seed)
            if noise is None and row not in mine:
                mine.append(row)
            return row

        if plan.get(
            "curve"
        ):  # all rates with all seeds, for a figure over the rate with its spread
            for lr in rates:
                for seed in seeds:
                    get(lr, seed)
        # The rate that another arm chose, with all seeds: a race at one common learning rate.
        shared = choices.get(plan["common"](task, options)) if "common" in plan else None
        if shared:
            rates = sorted({*rates, shared})
            for seed in seeds:
                get(shared, seed)
        chosen, wobbles = choose(get, rates, seeds, plan.get("noises", NOISES))
        choices[task, method, json.dumps(options)] = chosen
        chosen_rows = [get(chosen, seed) for seed in seeds]
        live = (task, method, options) in plan.get("live", [])
        noises = ALL_NOISES if live else plan.get("noises", NOISES)
        if noises:
            moved = wobble(chosen_rows[0], [get(chosen, seeds[0], noise) for noise in noises])
        for row in sorted(mine, key=lambda r: (r["lr"], r["seed"])):
            row = {**row, "chosen": row["lr"] == chosen}
            if "common" in plan:
                row["common"] = row["lr"] == (shared or chosen)
            if row["lr"] in wobbles:
                row["eligible"] = wobbles[row["lr"]] <= MAX_WOBBLE
            if noises and row["chosen"] and row["seed"] == seeds[0]:
                row |= {"wobble": moved, "wobble_of": len(noises)}
            rows.append(row)
        store(name, plan, rows)
    print(f"{len(rows)} runs in data/results/{name}.json")


def rates_of(plan, method, options):
    """The rates on which the search of an arm begins: the plan's, or the course's grid; `rates` may be a function of the arm."""
    rates = plan.get("rates", methods.RATES)
    return rates(method, options) if callable(rates) else rates


def store(name, plan, rows):
    """Write what is there of a sweep; after every arm, so that a lesson can be written before the last one is done."""
    results.save(
        name,
        rows,
        {
            "seeds": plan["seeds"],
            "steps": plan["steps"],
            "rates": {
                f"{method} {json.dumps(options)}": rates_of(plan, method, options)
                for _, method, options in plan["arms"]
            }
            if callable(plan.get("rates"))
            else plan.get("rates", methods.RATES),
            "batch_size": plan.get("batch_size", 16),
            "threads": torch.get_num_threads(),
            "arms_done": len({(r["task"], r["method"], r["options"]) for r in rows}),
            "arms": len(plan["arms"]),
            "rule": RULE,
        },
    )


RULE = (
    "mean validation score over the seeds, ties by mean validation loss; the grid grows until the winner is inside; "
    f"no rate whose score moves by over {MAX_WOBBLE} when only rounding moves"
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", nargs="+", choices=SWEEPS)
    torch.set_num_threads(1)
    for name in parser.parse_args().sweep:
        sweep(name)


if __name__ == "__main__":
    main()
