"""Lesson 13's learning rate for a pocket base, chosen on validation rows; writes data/results/capstone.json.

    python -m tools.capstone_rates

Runs the lesson's own cells up to its training cell, trains, and scores the validation rows: every rate with the lesson's seed, the
best one (lowest validation loss) with two more. All of it twice, with the adapter in float32 and left in bfloat16, as TRL casts it.
Runs that are done are kept in build/sweeps/, so a stopped sweep goes on.
"""

import contextlib
import dataclasses
import functools
import io
import json
import os
import time

import nbformat
import torch

from utils import ROOT, capstone, evaluation, results

NOTEBOOK = ROOT / "notebooks" / "13_mistral_unsloth.ipynb"
RATES, SEEDS, ADAPTERS = (1e-3, 3e-3, 5e-3, 1e-2, 2e-2), (3407, 1, 2), ("float32", "bfloat16")


@functools.cache
def cells():
    """(the lesson's code cells before the training cell, the training cell), as source."""
    code = [c for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    at = next(i for i, c in enumerate(code) if "train" in c.metadata.get("tags", []))
    return [c.source for c in code[:at]], code[at].source


def run(base, lr, seed, adapter):
    """One run of the lesson's cells, scored on validation rows; a flat dict."""
    s = dataclasses.replace(capstone.settings(base), lr=lr, seed=seed, test_rows=6)
    capstone.settings = lambda base=None: s
    capstone.float32_adapter = (
        FLOAT32 if adapter == "float32" else lambda model: contextlib.nullcontext()
    )
    before, train = cells()
    space, began = {"__name__": "__main__"}, time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        for source in [*before, train]:
            exec(compile(source, "cell", "exec"), space)
    seconds, model, tokenizer = time.perf_counter() - began, space["model"], space["tokenizer"]
    rows = space["instructions"].examples(space["instructions"].load("validation"))[
        : s.validation_rows
    ]
    return {
        "base": s.base,
        "lr": lr,
        "seed": seed,
        "adapter": adapter,
        "steps": s.steps,
        "rows": s.batch * s.accumulation,
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, rows), 5),
        "validation_exact": round(evaluation.exact_match(model, tokenizer, rows), 5),
        "facts_kept": round(evaluation.facts_kept(model, tokenizer), 5),
        "seconds": round(seconds, 1),
    }


def main():
    os.environ.update(PEFT_COURSE_QUIET="1", MPLBACKEND="Agg")
    os.chdir(NOTEBOOK.parent)
    torch.set_num_threads(1)
    base, ledger, done = capstone.settings().base, ROOT / "build" / "sweeps" / "capstone.jsonl", []
    ledger.parent.mkdir(parents=True, exist_ok=True)
    if ledger.exists():
        done = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]

    def get(**key):
        found = results.select(done, **key)
        if not found:
            found = [run(**key)]
            with ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[0]) + "\n")
        print(found[0], flush=True)
        return found[0]

    rows = [
        get(base=base, lr=lr, seed=SEEDS[0], adapter=adapter)
        for adapter in ADAPTERS
        for lr in RATES
    ]
    best = min(results.select(rows, adapter=ADAPTERS[0]), key=lambda r: r["validation_loss"])["lr"]
    rows += [
        get(base=base, lr=best, seed=seed, adapter=adapter)
        for adapter in ADAPTERS
        for seed in SEEDS[1:]
    ]
    results.save(
        "capstone",
        rows,
        {
            "rates": RATES,
            "seeds": SEEDS,
            "rule": "lowest validation loss, seed 3407",
            "chosen": best,
        },
    )


FLOAT32 = capstone.float32_adapter

if __name__ == "__main__":
    main()
