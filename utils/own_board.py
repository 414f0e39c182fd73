"""The table of lesson 11 for the reader's own rows: every method with the same search, the same seeds
and held-out rows that nobody trained on. What it will cost is said first.
"""

import dataclasses
import random
import statistics
import time

from . import bases, evaluation, methods, training
from .tables import Table

# {method: (options, learning rates)}; one more method is one more line
METHODS = {
    "full": ({}, (1e-4, 3e-4, 1e-3)),
    "lora": ({"rank": 8}, (1e-3, 3e-3, 1e-2)),
    "ia3": ({}, (1e-2, 3e-2, 1e-1)),
    "prompt": ({"tokens": 10, "init": "SAMPLE_VOCAB"}, (1e-1, 3e-1, 1.0)),
    "adapter": ({"bottleneck": 16}, (1e-3, 3e-3, 1e-2)),
}
FEWEST = 12  # rows; fewer cannot be split into three parts


@dataclasses.dataclass
class Board:
    """What a race needs: `rows` with `prompt` and `answer`, which methods, how long."""

    rows: list
    base: str | None = None
    arms: tuple = ("full", "lora", "prompt")
    seeds: tuple = (0, 1)
    steps: int = 60
    batch_size: int = 8

    def __post_init__(self):
        if unknown := [arm for arm in self.arms if arm not in METHODS]:
            raise ValueError(f"there is no method {unknown[0]!r}; there are {', '.join(METHODS)}")
        wrong = [n for n, r in enumerate(self.rows, 1) if not {"prompt", "answer"} <= set(r)]
        if wrong:
            raise ValueError(f"row {wrong[0]} has no prompt or no answer; every row needs both")
        if len(self.rows) < FEWEST:
            raise ValueError(f"{len(self.rows)} rows are too few to split; {FEWEST} is the least")
        rows = random.Random(0).sample(self.rows, len(self.rows))
        held = max(2, len(rows) // 5)
        self.parts = {
            "test": rows[:held],
            "validation": rows[held : 2 * held],
            "train": rows[2 * held :],
        }

    def runs(self):
        """[(method, learning rate, seed)] of the whole race."""
        return [
            (arm, lr, seed) for arm in self.arms for lr in METHODS[arm][1] for seed in self.seeds
        ]

    def seconds(self):
        """About how long the race takes on this machine: two short runs of each method, extended."""
        total = 0.0
        for arm in self.arms:
            began = time.perf_counter()
            self.run(arm, METHODS[arm][1][0], 0, steps=1)
            one = time.perf_counter()
            self.run(arm, METHODS[arm][1][0], 0, steps=4)
            four = time.perf_counter()
            step = max(0.0, (four - one) - (one - began)) / 3
            runs = len(METHODS[arm][1]) * len(self.seeds)
            total += runs * (one - began + step * (self.steps - 1))
        return total

    def run(self, arm, lr, seed, steps=None):
        """One run: {"validation_score", "validation_loss", "test_score", ...}."""
        model, tokenizer = bases.load(self.base)
        model = methods.apply(arm, model, seed=seed, **METHODS[arm][0])
        how = {"lr": lr, "seed": seed, "batch_size": min(self.batch_size, len(self.parts["train"]))}
        training.train(
            model, tokenizer, self.parts["train"], steps=steps or self.steps, progress=False, **how
        )
        score, loss = evaluation.score_and_loss(model, tokenizer, self.parts["validation"])
        test_score, test_loss = evaluation.score_and_loss(model, tokenizer, self.parts["test"])
        return {
            "arm": arm,
            **how,
            "validation_score": score,
            "validation_loss": loss,
            "test_score": test_score,
            "test_loss": test_loss,
            "trainable": training.count(model)[0],
        }


def race(rows, most_seconds=120, **how):
    """A `Table` of methods on your rows, each at the learning rate that its validation rows choose.

    `rows` is a list of {"prompt", "answer"}; a fifth is held out for the choice and a fifth for the
    table. `how` may name `base`, `arms`, `seeds`, `steps`, `batch_size` (see `Board`). The estimated
    time is printed first; above `most_seconds` nothing runs and None is returned.
    ValueError says what is wrong with the rows or the methods.
    """
    board = Board(list(rows), **how)
    estimated = board.seconds()
    sizes = ", ".join(f"{len(part)} {name}" for name, part in board.parts.items())
    print(
        f"{len(board.runs())} runs of {board.steps} steps, about {estimated:.0f} s; rows: {sizes}"
    )
    if estimated > most_seconds:
        print(
            f"That is over {most_seconds} s, so nothing was run. Give a larger most_seconds, or "
            "fewer steps, seeds or methods."
        )
        return None
    found = [board.run(*settings) for settings in board.runs()]
    return table(board, found)


def table(board, found):
    """The `Table` of a race's rows: the chosen learning rate and the mean over seeds of each method."""
    lines = []
    for arm in board.arms:
        best = max(METHODS[arm][1], key=lambda lr: merit(found, arm, lr))
        runs = chosen(found, arm, best)
        scores = [run["test_score"] for run in runs]
        edge = " (edge)" if best in (METHODS[arm][1][0], METHODS[arm][1][-1]) else ""
        lines.append(
            (
                arm,
                f"{runs[0]['trainable']:,}",
                f"{best:g}{edge}",
                f"{statistics.fmean(scores):.2f} ({min(scores):.2f} to {max(scores):.2f})",
                f"{statistics.fmean(run['test_loss'] for run in runs):.2f}",
            )
        )
    rows, share = len(board.parts["test"]), 0.5
    error = (share * (1 - share) / rows) ** 0.5
    count = f"{len(board.seeds)} seed" + "s" * (len(board.seeds) > 1)
    head = f"test score, mean of {count} (lowest to highest)"
    print(f"{rows} test rows: a score has a standard error of up to {error:.2f} from them alone")
    return Table(["method", "trainable", "learning rate", head, "test loss"], lines)


def chosen(found, arm, lr):
    """The runs of a method at a learning rate."""
    return [run for run in found if (run["arm"], run["lr"]) == (arm, lr)]


def merit(found, arm, lr):
    """What the rule of choice compares: (mean validation score, minus the mean validation loss)."""
    runs = chosen(found, arm, lr)
    return (
        statistics.fmean(run["validation_score"] for run in runs),
        -statistics.fmean(run["validation_loss"] for run in runs),
    )
