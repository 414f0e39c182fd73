"""Sweeps behind the lessons' stored results: every arm gets the same search, by one rule of choice.

    python -m tools.sweeps lora-rank                # names from tools/sweep_plans/; goes on where it was stopped
    python -m tools.sweeps lora-rank --workers 2    # so many runs at a time; all processors by default
    ENGINE=ray python -m tools.sweeps lora-rank     # on a Ray cluster (tools/engine.py); the same rows

The rule (`choose`): each arm (task, method, options) is trained at every rate of the grid with three seeds; the rate with the
best mean validation score wins, ties go to the lower mean validation loss. While the winner lies at an edge of the grid, the grid
grows there. A rate whose score moves by more than MAX_WOBBLE when only rounding moves is not eligible. Every run is kept,
chosen or not. The runs that a lesson makes again (`live` in a plan) are repeated under five noises and in two numeric modes, and
how far each of their numbers moved is stored with them.

Each run has one thread, and this process alone writes them down (tools/ledger.py); if one fails, the others are made before its
settings are told. The two sweeps whose runs also write a file, dpo-start and rewards-start, belong on one machine. Sweeps that are
named together are made one after another, for some start from what another one stored.
"""

import argparse
import functools
import importlib
import json
import math
import os
import pkgutil
import time

import torch

from tools import engine, sweep_plans
from tools import ledger as ledgers
from tools.ledger import MODES, Ledger, Missing, rows_of
from utils import bases, evaluation, methods, results, tasks, training

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

    `get(lr, seed, noise)` gives the row of a run, `noise` None for the run as it is; or raises `Missing`, and `choose` does so for
    all runs that are certainly needed. Runs that cannot change the choice are not made: where even perfect scores with the seeds
    still to come would leave a rate's mean below the best mean.
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
            shaken = rows_of(get, [(best, first, noise) for noise in noises])
            wobbles[best] = wobble(there, shaken, columns)["validation_score"] if noises else 0.0
            if wobbles[best] > MAX_WOBBLE:
                continue
        return best, wobbles


def _leader(get, rates, seeds):
    """The rate with the best (mean validation score, -mean validation loss); None of no rates."""
    first = rows_of(get, [(lr, seeds[0], None) for lr in rates])
    done = {lr: [row] for lr, row in zip(rates, first)}
    shares = all(0 <= rows[0]["validation_score"] <= 1 for rows in done.values())
    perfect = 1.0 if shares else math.inf
    leader, leading = None, (-math.inf, 0.0)
    for lr in sorted(rates, key=lambda lr: -done[lr][0]["validation_score"]):
        rows = done[lr]
        while missing := seeds[len(rows) :]:
            reachable = sum(r["validation_score"] for r in rows) + perfect * len(missing)
            if reachable / len(seeds) < leading[0] - 1e-9:
                break
            # While there is nothing to fall behind, all seeds are needed.
            certain = missing if leader is None or perfect == math.inf else missing[:1]
            rows += rows_of(get, [(lr, seed, None) for seed in certain])
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


def runner_of(plan):
    """The plan's own function that makes a run, or `run`, with what the plan says of rows and tests."""
    given = {k: plan[k] for k in ("keep", "form", "tests", "more") if k in plan}
    return functools.partial(plan.get("run", run), **given)


def one(name, settings):
    """The row of one run of a sweep as JSON, for a process of its own with other numerics."""
    torch.set_num_threads(1)
    return json.dumps(runner_of(SWEEPS[name])(**settings))


def made(name, base, settings, noise):
    """The row of one run of a sweep, with `base` as the chosen one; what a worker does."""
    torch.set_num_threads(1)
    again = f"sweeps.one({name!r}, {settings!r})"
    return ledgers.made(runner_of(SWEEPS[name]), settings, noise, again, base)


def sweep(name, made=made, **how):
    """All runs of a sweep; what is there is stored after every arm. `how`: workers and engine of engine.run_all."""
    plan, found, choices = SWEEPS[name], {}, {}
    # The chosen base goes along, for a worker's own environment may be another.
    ledger = Ledger(name, functools.partial(made, name, os.environ.get("PEFT_COURSE_BASE")))

    def finished(at, rows):
        found[at] = rows
        choices[arm_of(plan, at)] = next(row["lr"] for row in rows if row["chosen"])
        store(name, plan, [row for at in sorted(found) for row in found[at]])

    arms = {
        at: functools.partial(rows_of_arm, plan, at, ledger, choices)
        for at in range(len(plan["arms"]))
    }
    ledgers.complete(arms, finished, name, **how)
    print(f"{sum(map(len, found.values()))} runs in data/results/{name}.json")


def arm_of(plan, at):
    task, method, options = plan["arms"][at]
    return task, method, json.dumps(options)


def rows_of_arm(plan, at, ledger, choices):
    """The rows of an arm, by learning rate and seed; Missing while the ledger lacks some. `choices`: {arm: its rate} so far."""
    task, method, options = plan["arms"][at]
    rates, seeds = rates_of(plan, method, options), plan["seeds"]
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
        row = ledger.find(noise, **common, lr=lr, seed=seed)
        if noise is None and row not in mine:
            mine.append(row)
        return row

    if plan.get("curve"):  # all rates with all seeds, for a figure over the rate with its spread
        rows_of(get, [(lr, seed) for lr in rates for seed in seeds])
    # The rate that an earlier arm chose, with all seeds: a race at one common learning rate.
    leader = plan["common"](task, options) if "common" in plan else None
    shared = None
    if leader in (arm_of(plan, earlier) for earlier in range(at)):
        if leader not in choices:
            rows_of(get, [(lr, seeds[0]) for lr in rates])  # needed in any case
            raise Missing()
        shared = choices[leader]
    if shared:
        rates = sorted({*rates, shared})
        rows_of(get, [(shared, seed) for seed in seeds])
    chosen, wobbles = choose(get, rates, seeds, plan.get("noises", NOISES))
    chosen_rows = rows_of(get, [(chosen, seed) for seed in seeds])
    live = (task, method, options) in plan.get("live", [])
    noises = ALL_NOISES if live else plan.get("noises", NOISES)
    if noises:
        shaken = rows_of(get, [(chosen, seeds[0], noise) for noise in noises])
        moved = wobble(chosen_rows[0], shaken)
    rows = []
    for row in sorted(mine, key=lambda r: (r["lr"], r["seed"])):
        row = {**row, "chosen": row["lr"] == chosen}
        if "common" in plan:
            row["common"] = row["lr"] == (shared or chosen)
        if row["lr"] in wobbles:
            row["eligible"] = wobbles[row["lr"]] <= MAX_WOBBLE
        if noises and row["chosen"] and row["seed"] == seeds[0]:
            row |= {"wobble": moved, "wobble_of": len(noises)}
        rows.append(row)
    return rows


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


def add_workers(parser):
    parser.add_argument(
        "--workers", type=int, help="runs at a time; by default all processors, one beside a GPU"
    )


def workers_of(given):
    """The asked number of workers, or None for all processors; runs that share a GPU go one by one."""
    return given.workers or (1 if torch.cuda.is_available() else None)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", nargs="+", choices=SWEEPS)
    add_workers(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with engine.told():
        for name in given.sweep:
            sweep(name, workers=workers_of(given))


if __name__ == "__main__":
    from tools import sweeps  # by this name workers know its functions

    sweeps.main()
