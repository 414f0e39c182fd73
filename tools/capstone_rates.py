"""Lesson 13's learning rate for the pocket base, chosen by the course's rule; writes data/results/capstone.json.

    python -m tools.capstone_rates [--no-modes]

Runs the lesson's own cells up to its training cell, trains, and scores validation and test rows. The
lesson's run (150 steps) gets the search of `tools.sweeps.choose`: three seeds, the mean validation
score decides, the winner is not at an edge and is steady. Twice as many steps are run at the rate
that won. Runs that are done are kept in build/sweeps/, so a stopped sweep goes on.
"""

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import time

import nbformat
import torch

from tools import sweeps
from tools.ledger import Ledger, environment
from utils import ROOT, bases, capstone, evaluation, instructions, results

NOTEBOOK = ROOT / "notebooks" / "13_mistral_unsloth.ipynb"
RATES, SEEDS = (1e-3, 3e-3, 5e-3, 1e-2), (3407, 1, 2)
ARMS = ({"steps": 150, "rank": 16}, {"steps": 300, "rank": 16})
SETTINGS = capstone.settings


@functools.cache
def cells():
    """(the lesson's code cells before the training cell, the training cell), as source."""
    code = [c for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    at = next(i for i, c in enumerate(code) if "train" in c.metadata.get("tags", []))
    return [c.source for c in code[:at]], code[at].source


def run(base, options, lr, seed):
    """One run of the lesson's cells, scored on validation and test rows; a flat dict."""
    s, chosen = None, {"lr": lr, "seed": seed, "test_rows": 6, **options}

    def settings(*given, **page):
        nonlocal s
        s = SETTINGS(*given, **page)
        for name, value in chosen.items():
            setattr(s, name, value)
        s.alpha = s.rank
        return s

    before, train = cells()
    space, began = {"__name__": "__main__"}, time.perf_counter()
    capstone.settings = settings
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for source in [*before, train]:
                exec(compile(source, "cell", "exec"), space)
    finally:
        capstone.settings = SETTINGS
    seconds, model, tokenizer = time.perf_counter() - began, space["model"], space["tokenizer"]
    validation = instructions.examples(instructions.load("validation"))[: s.validation_rows]
    test = instructions.examples(instructions.load("test"))[: SETTINGS(base).test_rows]
    scores = {
        f"{name}_{what}": round(value, 5)
        for name, rows in (("validation", validation), ("test", test))
        for what, value in (
            ("score", evaluation.exact_match(model, tokenizer, rows)),
            ("loss", evaluation.answer_loss(model, tokenizer, rows)),
        )
    }
    return {
        "base": base,
        "options": json.dumps(options),
        **options,
        "alpha": s.alpha,
        "lr": lr,
        "seed": seed,
        "batch_size": s.batch * s.accumulation,
        **scores,
        "facts_kept": round(evaluation.facts_kept(model, tokenizer), 5),
        "seconds": round(seconds, 1),
    }


def made(settings, noise):
    """The row of a run under a noise; another numeric mode gets a process of its own."""
    if noise not in sweeps.MODES:
        with environment(PEFT_COURSE_PERTURB=str(noise or 0)):
            return run(**settings)
    done = subprocess.run(
        [sys.executable, "-m", "tools.capstone_rates", json.dumps(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **sweeps.MODES[noise]},
    )
    if done.returncode:
        raise RuntimeError(f"the run failed under {noise}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def sweep(base, modes=True):
    """The search for the lesson's run, its wobble, and the same learning rate with twice the steps.

    What is there is stored after each part. Without `modes` the two numeric modes, which take
    longest, are left out of the wobble.
    """
    ledger, rows = Ledger("capstone", made), []

    def get(lr, seed, noise=None, options=ARMS[0]):
        row = ledger.get(noise, base=base, options=options, lr=lr, seed=seed)
        if noise is None and row not in rows:
            rows.append(row)
        return row

    chosen, wobbles = sweeps.choose(get, RATES, SEEDS)
    first, shaken = get(chosen, SEEDS[0]), []
    for noise in (*sweeps.LIVE_NOISES, "more steps", *(sweeps.MODES if modes else ())):
        if noise == "more steps":
            for seed in SEEDS:
                get(chosen, seed, options=ARMS[1])
        else:
            shaken.append(get(chosen, SEEDS[0], noise))
            print(noise, shaken[-1], flush=True)
        store(rows, chosen, wobbles, first, shaken)


def store(rows, chosen, wobbles, first, shaken):
    """Write what is there, the chosen runs marked."""
    told = []
    for row in sorted(rows, key=lambda r: (r["steps"], r["lr"], r["seed"])):
        row = {**row, "chosen": row["lr"] == chosen}
        if row["lr"] in wobbles:
            row["eligible"] = wobbles[row["lr"]] <= sweeps.MAX_WOBBLE
        if row["steps"] == first["steps"] and row["lr"] == chosen and row["seed"] == first["seed"]:
            row |= {"wobble": sweeps.wobble(first, shaken), "wobble_of": len(shaken)}
        told.append(row)
    settings = {"rates": RATES, "seeds": SEEDS, "arms": ARMS, "threads": 1, "rule": sweeps.RULE}
    results.save("capstone", told, settings)


def main():
    os.environ.update(PEFT_COURSE_QUIET="1", MPLBACKEND="Agg")
    os.chdir(NOTEBOOK.parent)
    torch.set_num_threads(1)
    given = sys.argv[1:]
    if given and given[0].startswith("{"):
        print(json.dumps(run(**json.loads(given[0]))))
    else:
        sweep(bases.chosen().name, modes="--no-modes" not in given)


if __name__ == "__main__":
    main()
