"""The leaderboard's tool: rows drawn by seed, controls that are what they say, runs kept, nothing unfinished saved."""

import functools
import json
import types

import pytest
import torch

from tools import leaderboard, ledger
from utils import bases, methods, results


def test_a_seed_draws_its_own_rows_and_shuffling_moves_only_answers():
    one, again, other = (leaderboard.drawn("facts", 30, seed) for seed in (1, 1, 2))
    assert one == again and one != other and len({r["prompt"] for r in one}) == 30
    dealt = leaderboard.drawn("facts", 30, 1, shuffled=True)
    assert [r["prompt"] for r in dealt] == [r["prompt"] for r in one]
    assert sorted(r["answer"] for r in dealt) == sorted(r["answer"] for r in one)
    assert sum(a["answer"] != b["answer"] for a, b in zip(one, dealt)) > 15


def test_noise_has_the_norm_of_the_update_in_every_layer_and_another_direction():
    model = methods.apply("lora", bases.load("pocket-xs")[0], rank=4)
    layers = [m for m in model.modules() if hasattr(m, "lora_A")]
    torch.manual_seed(0)
    for m in layers:
        torch.nn.init.normal_(m.lora_B["default"].weight)
    before = [m.get_delta_weight("default").detach().clone() for m in layers]
    leaderboard.to_noise(model, seed=3)
    for m, old in zip(layers, before):
        new = m.get_delta_weight("default")
        assert torch.isclose(new.norm(), old.norm(), rtol=1e-4)
        assert abs(torch.nn.functional.cosine_similarity(new.flatten(), old.flatten(), 0)) < 0.5


def test_a_run_measures_what_the_lesson_shows():
    row = leaderboard.run(
        base="pocket-xs",
        task="facts",
        method="prompt",
        options={"tokens": 3},
        count=10,
        lr=0.1,
        seed=0,
        shuffled=False,
        steps=2,
        batch_size=2,
    )
    hidden = bases.load("pocket-xs")[0].config.hidden_size
    assert (
        row["trainable"] == 3 * hidden
        and 4 * 3 * hidden < row["stored_bytes"] < 4 * 3 * hidden + 400
    )
    assert (
        row["state_bytes"] > 2_000_000
        and 0 <= row["facts_kept"] <= 1
        and row["world_perplexity"] > 1
        and row["rows"] == 10
    )


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """The tool with runs that cost nothing, and its files in a folder of the test."""

    def fake(**settings):
        good = {0.003: 0.9, 0.1: 0.8}.get(settings["lr"], 0.1)
        return {
            **settings,
            "test_score": good,
            "options": json.dumps(settings["options"]),
            "validation_score": good,
            "validation_loss": 1.0,
            "noise_test_score": 0.0,
        }

    monkeypatch.setattr(leaderboard, "run", fake)
    monkeypatch.setattr(
        leaderboard,
        "frozen",
        lambda **settings: {**settings, "options": json.dumps(settings["options"])},
    )
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    monkeypatch.setattr(leaderboard, "LIVE", {})  # other numerics need processes of their own
    saved = types.SimpleNamespace(rows=None)
    monkeypatch.setattr(results, "DATA", tmp_path)

    def save(name, rows, settings):
        saved.rows, saved.settings = rows, settings
        return tmp_path / name

    monkeypatch.setattr(results, "save", save)
    return saved


def race(*bases, **how):
    """In this process, where the runs are those of `quick`."""
    return leaderboard.race(*bases, engine="here", **how)


def test_a_race_runs_every_arm_equally_and_goes_on_where_it_was_stopped(quick, monkeypatch):
    rows = race("pocket-s", only=("facts",))
    for arm, (_, _, rates) in leaderboard.ARMS.items():
        mine = [r for r in rows if r["arm"] == arm]
        chosen = [r for r in mine if r["chosen"]]
        assert len(chosen) == 20 and {(r["count"], r["seed"]) for r in chosen} == {
            (c, s) for c in leaderboard.SIZES for s in leaderboard.SEEDS
        }
        searched = {r["lr"] for r in mine if r["count"] == 300}
        assert set(rates) <= searched, "every arm is searched on its five rates"
        assert min(searched) < chosen[0]["lr"] < max(searched), "the winner is inside the grid"
    assert {r["arm"] for r in rows} == {
        *leaderboard.ARMS,
        "none",
        leaderboard.LABELS,
        leaderboard.NOISE,
    }
    monkeypatch.setattr(
        leaderboard, "run", lambda **settings: pytest.fail("a finished run was made again")
    )
    assert race("pocket-s", only=("facts",)) == rows


@pytest.mark.slow
def test_workers_make_the_rows_that_this_process_makes(monkeypatch, tmp_path):
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    book, xs = ledger.Ledger("a-test", leaderboard.made), {"base": "pocket-xs", "task": "cloze"}
    settings = {**xs, "method": "lora", "options": {"rank": 2}, "count": 10, "lr": 0.01, "seed": 0}
    settings |= {"shuffled": False, "steps": 3, "batch_size": 4}

    def search():
        asked = [{**xs, "method": "none", "options": {}}, settings]
        asked += [{**settings, "noise": noise} for noise in (2, "MKL compatible")]
        return ledger.together(*(functools.partial(book.find, **one) for one in asked))

    found = {}
    ledger.complete({"one": search}, found.__setitem__, "a test", workers=2, engine="local")
    untuned, trained, shaken, other_mode = found["one"]
    assert untuned == leaderboard.made({**xs, "method": "none", "options": {}}, None)
    for row, noise in ((trained, None), (shaken, 2)):
        again = leaderboard.made(settings, noise)
        assert [k for k in again if again[k] != row[k]] in ([], ["step_cpu_seconds"])
    assert trained["final_loss"] == pytest.approx(other_mode["final_loss"], abs=1e-3)


def test_one_more_method_is_one_more_line(quick, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "dummy", lambda model: model)
    monkeypatch.setitem(leaderboard.ARMS, "dummy", ("dummy", {}, (1e-3, 3e-3, 1e-2)))
    rows = race("pocket-s", only=("cloze",))
    assert len([r for r in rows if r["arm"] == "dummy" and r["chosen"]]) == 20


def test_a_large_base_is_searched_on_all_rows_with_three_seeds(quick):
    leaderboard.race_large("pocket-xs", only=("facts",), engine="here")
    for arm, (_, _, rates) in leaderboard.ARMS.items():
        mine = results.select(quick.rows, arm=arm)
        (chosen,) = {r["lr"] for r in mine if r["chosen"]}
        assert [r["seed"] for r in mine if r["chosen"]] == list(leaderboard.SEARCH_SEEDS)
        searched = {r["lr"] for r in mine}
        assert set(rates[1:4]) <= searched and min(searched) < chosen < max(searched)
        assert {r["count"] for r in mine} == {300}
    assert quick.settings["seeds"] == leaderboard.SEARCH_SEEDS


def test_a_task_of_a_large_base_that_is_not_raced_keeps_its_stored_rows(quick, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    there = [{"task": "facts", "arm": "old"}, {"task": "sentiment", "arm": "old"}]
    file = tmp_path / "results" / "leaderboard-pocket-xs.json"
    file.write_text(json.dumps({"settings": {}, "provenance": {}, "rows": there}))
    leaderboard.race_large("pocket-xs", only=("facts",), engine="here")
    assert there[1] in quick.rows and there[0] not in quick.rows
    assert "stored before: sentiment" in capsys.readouterr().out


def test_what_is_not_finished_is_named_and_what_was_stored_is_kept(quick, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    there = [
        {"base": "pocket-m", "task": "facts", "arm": "none"},
        {"base": "pocket-s", "task": "facts", "arm": "old"},
    ]
    old = {"settings": {}, "provenance": {"processor": "another"}, "rows": there}
    (tmp_path / "results" / "leaderboard.json").write_text(json.dumps(old))
    race("pocket-s", only=("facts",))
    leaderboard.save()
    assert [r for r in quick.rows if r["base"] == "pocket-m"] == there[:1]
    assert there[1] not in quick.rows
    assert quick.settings["made_on"]["pocket-m, facts"] == {"processor": "another"}
    said = capsys.readouterr().out
    assert "pocket-m, facts: not finished; its stored rows are kept" in said
    assert "pocket-s, sentiment: not finished; left out" in said


# What the leaderboard does not have.
NOT_RACED = {("pocket-m", "cloze"), ("smollm", "cloze")}


def lies_inside(searched):
    """Holds the rows of a search to the rule: three seeds at the winner, and it is not at an edge."""
    (chosen,) = {r["lr"] for r in searched if r["chosen"]}
    seeds = [r["seed"] for r in searched if r["lr"] == chosen]
    assert sorted(seeds) == list(leaderboard.SEARCH_SEEDS)
    rates = {r["lr"] for r in searched}
    assert min(rates) < chosen < max(rates), (chosen, rates)


@pytest.mark.parametrize("task", leaderboard.TASKS)
@pytest.mark.parametrize("arm", leaderboard.ARMS)
@pytest.mark.parametrize("base", [*leaderboard.BASES, "smollm"])
def test_a_stored_winner_has_three_seeds_and_lies_inside_its_grid(base, arm, task):
    stored = "leaderboard" if base in leaderboard.BASES else f"leaderboard-{base}"
    rows = results.select(results.load(stored)["rows"], base=base, arm=arm, task=task)
    if (base, task) in NOT_RACED:
        assert not rows
        return
    for count in {r["count"] for r in rows} & set(leaderboard.SEARCHED_ON.values()):
        found = results.select(rows, count=count)
        lies_inside([r for r in found if r["seed"] in leaderboard.SEARCH_SEEDS])
    assert rows
