"""Every stored sweep keeps the one rule of choice; what a lesson runs again has its wobble."""

import json

import pytest

from tools import sweeps
from utils import DATA, results

STORED = {}
for path in sorted((DATA / "results").glob("*.json")):
    found = json.loads(path.read_text(encoding="utf-8"))
    if "settings" in found and "mean validation score" in str(found["settings"].get("rule")):
        STORED[path.stem] = found
PLANNED = [name for name in STORED if name in sweeps.SWEEPS]


def arms(name):
    """{arm: rows} of a stored sweep."""
    made = {}
    for row in STORED[name]["rows"]:
        made.setdefault((row["task"], row["method"], row["options"]), []).append(row)
    return made


# Arms whose best learning rate is the lowest one of a grid grown to its end, with the reason.
AT_AN_EDGE = {("dpo-flawed", "sft"): "imitating bad answers only harms, so no training is best"}


def test_every_stored_sweep_was_made_by_the_rule():
    stored = [name for name in sweeps.SWEEPS if (DATA / "results" / f"{name}.json").exists()]
    assert len(stored) > 50 and sorted(stored) == sorted(PLANNED)


@pytest.mark.parametrize("name", PLANNED)
def test_the_winner_has_the_best_mean_and_lies_inside_its_grid(name):
    seeds = STORED[name]["settings"]["seeds"]
    for arm, rows in arms(name).items():
        by_rate = {lr: results.select(rows, lr=lr) for lr in sorted({r["lr"] for r in rows})}
        (chosen,) = {r["lr"] for r in rows if r["chosen"]}
        assert sorted(r["seed"] for r in by_rate[chosen]) == sorted(seeds), (name, arm)
        shares = all(0 <= r["validation_score"] <= 1 for r in rows)
        best = sweeps._merit(by_rate[chosen])
        for lr, some in by_rate.items():
            if lr == chosen or any(r.get("eligible") is False for r in some):
                continue
            if len(some) == len(seeds):
                assert sweeps._merit(some) <= best, (name, arm, lr)
            else:  # not run to the end, because it could not have won
                missing = len(seeds) - len(some)
                most = (sum(r["validation_score"] for r in some) + missing) / len(seeds)
                assert shares and most < best[0] + 1e-9, (name, arm, lr)
        steady = all(r.get("eligible", True) for r in by_rate[chosen])
        if len(by_rate) > 1 and steady and (name, arm[1]) not in AT_AN_EDGE:
            assert min(by_rate) < chosen < max(by_rate), (name, arm)


@pytest.mark.parametrize("name", PLANNED)
def test_every_rate_of_the_plan_was_run(name):
    plan, made = sweeps.SWEEPS[name], arms(name)
    for task, method, options in plan["arms"]:
        run = {r["lr"] for r in made[task, method, json.dumps(options)]}
        assert set(sweeps.rates_of(plan, method, options)) <= run, (name, method, options)


@pytest.mark.parametrize("name", PLANNED)
def test_what_a_lesson_runs_again_carries_its_wobble(name):
    for task, method, options in sweeps.SWEEPS[name].get("live", ()):
        rows = arms(name).get((task, method, json.dumps(options)), ())
        first = [
            r for r in rows if r["chosen"] and r["seed"] == STORED[name]["settings"]["seeds"][0]
        ]
        for row in first:
            assert row["wobble_of"] == len(sweeps.ALL_NOISES), (name, method, options)
            assert set(row["wobble"]) >= {"test_score", "facts_kept"} & set(row)


def test_every_stored_run_that_a_lesson_compares_with_has_a_wobble():
    for path in sorted((DATA.parent / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert "how much other machines differ was not measured" not in text, path.name


class Stored:
    """A stored sweep as a ledger. The noise that moved a row by its wobble is the first one."""

    added = ("chosen", "eligible", "common", "wobble", "wobble_of")

    def __init__(self, name):
        self.rows = {self.key(**row): row for row in STORED[name]["rows"]}

    @staticmethod
    def key(task, method, options, lr, seed, **rest):
        return task, method, options, lr, seed

    def find(self, noise=None, **settings):
        row = self.rows[self.key(**{**settings, "options": json.dumps(settings["options"])})]
        bare = {k: v for k, v in row.items() if k not in self.added}
        unsteady = {} if row.get("eligible", True) else {"validation_score": 2 * sweeps.MAX_WOBBLE}
        moved = row.get("wobble", unsteady) if noise == 1 else {}
        return bare | {column: bare[column] + by for column, by in moved.items()}


# Stored when a winner was shaken by fewer noises, or (grpo-full) on a grid that its plan left.
EARLIER = "grpo-full ia3 lora-rank p-tuning prefix-guide prompt-start qlora".split()


@pytest.mark.parametrize("name", [name for name in PLANNED if name not in EARLIER])
def test_the_rule_gives_the_stored_rows_again_from_the_stored_runs(name):
    plan, ledger, rows, choices = sweeps.SWEEPS[name], Stored(name), [], {}
    for at in range(len(plan["arms"])):
        mine = sweeps.rows_of_arm(plan, at, ledger, choices)
        choices[sweeps.arm_of(plan, at)] = next(row["lr"] for row in mine if row["chosen"])
        rows += mine
    assert json.dumps(rows) == json.dumps(STORED[name]["rows"])


def test_most_stored_sweeps_are_of_the_present_rule():
    assert set(EARLIER) <= set(PLANNED) and len(EARLIER) < len(PLANNED) / 4
