"""Measure how far stored runs that lessons repeat move when only rounding moves, and store it.

    python -m tools.wobble                     # every run of LIVE whose row has no wobble yet
    python -m tools.wobble leaderboard         # of one stored result

A sweep measures the wobble of its own `live` arms (tools/sweeps.py). This is for rows that a lesson
repeats and whose sweep was stored before wobble was measured, or that no sweep chose. Each run is
made again as it is, under five noises and in two numeric modes; the first must give the stored row,
or the sweep has to be made again.
"""

import argparse
import functools
import json
import os

import torch

from tools import leaderboard, sweeps
from tools.ledger import Ledger
from utils import results

SETTINGS = ("task", "method", "options", "lr", "seed", "steps", "base", "count", "batch_size")
# {stored result: what picks out the rows that a lesson repeats}
LIVE = {
    "leaderboard": [
        {
            "base": "pocket-s",
            "task": "facts",
            "arm": "lora",
            "count": 100,
            "seed": 1,
            "chosen": True,
        },
        {
            "base": "pocket-s",
            "task": "sentiment",
            "arm": "prompt",
            "count": 30,
            "seed": 2,
            "chosen": True,
        },
    ],
}


def runs_of(name, row):
    """(a ledger, a function that gives the run under a noise) of a stored row."""
    settings = {k: row[k] for k in SETTINGS if k in row} | {"options": json.loads(row["options"])}
    if name == "leaderboard":
        settings |= {"shuffled": False}
        ledger = Ledger(f"wobble-{name}", leaderboard.made)
    else:
        base = os.environ.get("PEFT_COURSE_BASE")
        ledger = Ledger(f"wobble-{name}", functools.partial(sweeps.made, name, base))
    return lambda noise: ledger.get(noise, **settings)


def measure(name):
    """Add `wobble` and `wobble_of` to the rows of a stored result that a lesson repeats."""
    there = results.load(name)
    for wanted in LIVE[name]:
        for row in results.select(there["rows"], **wanted):
            if "wobble" in row:
                continue
            run = runs_of(name, row)
            again = run(None)
            apart = abs(again["test_score"] - row["test_score"])
            print(
                f"{name} {wanted}: {again['test_score']:.3f} again, {row['test_score']:.3f} stored"
            )
            if apart > results.SHARE_BAND:
                raise SystemExit(
                    f"{name}: the stored run cannot be repeated. Make the sweep again."
                )
            moved = sweeps.wobble(again, [run(noise) for noise in sweeps.ALL_NOISES])
            row |= {"wobble": {k: v for k, v in moved.items() if k in row}}
            row |= {"wobble_of": len(sweeps.ALL_NOISES)}
    results.save(name, there["rows"], there["settings"], made_with=there["provenance"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="*", choices=[*LIVE, []], default=[])
    torch.set_num_threads(1)
    for name in parser.parse_args().results or LIVE:
        measure(name)


if __name__ == "__main__":
    main()
