"""Sweeps on several processes: the rows of a sequential search, no run twice, nothing lost."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import invented_runs
from tools import engine, ledger, sweeps
from utils import ROOT, results


class AtOnce:
    """A ledger whose missing runs are made here and now: the search one run after another."""

    def __init__(self, name):
        self.name, self.rows = name, {}

    def find(self, noise=None, **settings):
        key = json.dumps([settings, noise])
        if key not in self.rows:
            self.rows[key] = invented_runs.made(self.name, None, settings, noise)
        return dict(self.rows[key])


class Saved(list):
    """What a sweep stored, each time."""

    def save(self, name, rows, settings):
        self.append((name, rows, settings))

    def rows(self):
        return self[-1][1]


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """A folder for the runs, the invented plans, and what is stored of them."""
    for name, plan in invented_runs.PLANS.items():
        monkeypatch.setitem(sweeps.SWEEPS, name, plan)
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    monkeypatch.setenv("INVENTED", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in a worker, whatever the tests run with
    there = Saved()
    monkeypatch.setattr(results, "save", there.save)
    return there


def sweep(name, **how):
    sweeps.sweep(name, invented_runs.made, **{"workers": 2, **how})


def one_after_another(name):
    """(all rows, all runs) of a sweep without the engine."""
    plan, book, rows, choices = sweeps.SWEEPS[name], AtOnce(name), [], {}
    for at in range(len(plan["arms"])):
        mine = sweeps.rows_of_arm(plan, at, book, choices)
        choices[sweeps.arm_of(plan, at)] = next(r["lr"] for r in mine if r["chosen"])
        rows += mine
    made().unlink()
    return rows, sorted(book.rows)


def made():
    return pathlib.Path(os.environ["INVENTED"], "made")


def runs():
    """What the invented runs wrote down, sorted."""
    return sorted(made().read_text().splitlines()) if made().exists() else []


@pytest.mark.parametrize("how", [{"workers": 2}, {"engine": "here"}])
@pytest.mark.parametrize("name", invented_runs.PLANS)
def test_the_same_rows_and_runs_as_one_after_another(saved, name, how):
    wanted, needed = one_after_another(name)
    sweep(name, **how)
    assert saved.rows() == wanted and [list(r) for r in saved.rows()] == [list(r) for r in wanted]
    assert runs() == needed, "every run once, and none that the sequential search does not make"
    arms = [(r["task"], r["method"]) for r in saved.rows()]
    assert list(dict.fromkeys(arms)) == [arm[:2] for arm in sweeps.SWEEPS[name]["arms"]]
    assert [settings["arms_done"] for *_, settings in saved] == [1, 2, 3]


def test_the_invented_plans_meet_every_part_of_the_rule(saved):
    rows, _ = one_after_another("invented")
    shaky = results.select(rows, method="shaky")
    assert {r["lr"] for r in shaky if not r.get("eligible", True)} == {1e-2}
    assert {r["lr"] for r in shaky if r["chosen"]} != {1e-2}
    common, _ = one_after_another("invented-common")
    assert {r["lr"] for r in common if r["common"]} == {3e-3}
    assert {r["method"] for r in common if r["chosen"] and not r["common"]} == {"dora", "shaky"}
    live, _ = one_after_another("invented-live")
    assert [r["wobble_of"] for r in live if "wobble" in r] == [len(sweeps.ALL_NOISES), 1, 1]
    later, _ = one_after_another("invented-later")  # an arm has no common rate from a later one
    assert all(r["common"] == r["chosen"] for r in later)


def test_a_stopped_sweep_goes_on_and_makes_no_run_twice(saved, monkeypatch):
    wanted, needed = one_after_another("invented-common")
    add = ledger.Ledger.add

    def stopped(self, noise, settings, row):
        add(self, noise, settings, row)
        if len(self.rows) == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger.Ledger, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep("invented-common")
    monkeypatch.setattr(ledger.Ledger, "add", add)
    book = ledger.Ledger("invented-common", None)
    assert len(book.rows) == 9
    made().unlink()
    sweep("invented-common")
    assert len(runs()) == len(needed) - 9 and set(runs()) < set(needed)
    assert saved.rows() == wanted
    made().unlink()
    sweep("invented-common")
    assert runs() == [] and saved.rows() == wanted


def test_a_line_that_was_torn_off_is_made_again(saved):
    wanted, _ = one_after_another("invented")
    sweep("invented", engine="here")
    path = ledger.Ledger("invented", None).path
    path.write_text(path.read_text()[:-30])
    made().unlink()
    sweep("invented", engine="here")
    assert len(runs()) == 1 and saved.rows() == wanted
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_lost_workers_run_is_made_again(saved):
    wanted, needed = one_after_another("invented-live")
    (made().parent / "deadly").write_text("dora")
    sweep("invented-live")
    assert saved.rows() == wanted and not (made().parent / "deadly").exists()
    assert len(runs()) == len(needed) + 1 and set(runs()) == set(needed)


def test_a_run_that_fails_is_told_with_its_settings_and_the_others_are_made(saved):
    wanted, needed = one_after_another("invented")
    (made().parent / "bad").write_text("dora")
    with pytest.raises(engine.JobsFailed) as told:
        sweep("invented")
    text = str(told.value)
    assert "4 job(s) gave no row" in text and "ValueError: the loss is nan" in text
    assert '"method": "dora", "options": {"rank": 8}' in text and '"lr": 0.001, "seed": 0' in text
    assert saved.rows() == [r for r in wanted if r["method"] != "dora"]
    (made().parent / "bad").unlink()
    made().unlink()
    sweep("invented")
    assert saved.rows() == wanted and {json.loads(r)[0]["method"] for r in runs()} == {"dora"}


def test_the_chosen_base_goes_along_and_is_set_only_for_the_run(monkeypatch):
    def run(**settings):
        return {name: os.environ.get(name) for name in ("PEFT_COURSE_PERTURB", "PEFT_COURSE_BASE")}

    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket-m")
    before = dict(os.environ)
    assert ledger.made(run, {}, 3, "", base="pocket-xs") == {
        "PEFT_COURSE_PERTURB": "3",
        "PEFT_COURSE_BASE": "pocket-xs",
    }
    assert ledger.made(run, {}, None, "")["PEFT_COURSE_BASE"] is None
    assert dict(os.environ) == before


def test_another_numeric_mode_is_a_process_of_its_own():
    names = "MKL_CBWR", "PEFT_COURSE_BASE"
    again = f"ledger.json.dumps({{k: ledger.os.environ.get(k) for k in {names}}})"
    row = ledger.made(pytest.fail, {}, "MKL compatible", again, base="pocket-xs")
    assert row == {"MKL_CBWR": "COMPATIBLE", "PEFT_COURSE_BASE": "pocket-xs"}
    with pytest.raises(RuntimeError, match="(?s)failed under MKL compatible: .*no_such"):
        ledger.made(pytest.fail, {}, "MKL compatible", "ledger.no_such()")


CLUSTER = """
import json, pathlib, sys
sys.path[:0] = [{root!r}]
import ray
from ray.cluster_utils import Cluster
from tests import invented_runs
from tools import engine, ledger, sweeps
from utils import results

folder = pathlib.Path(sys.argv[1])
head = {{"num_cpus": 1, "include_dashboard": False}}
cluster = Cluster(initialize_head=True, head_node_args=head)
second = cluster.add_node(num_cpus=1)
surroundings = engine.surroundings()
surroundings["env_vars"]["INVENTED"] = str(folder)
ray.init(address=cluster.address, log_to_driver=False, runtime_env=surroundings)
sweeps.SWEEPS.update(invented_runs.PLANS)
ledger.ROOT, stored = folder, {{}}
add, gone = ledger.Ledger.add, []


def with_loss(self, noise, settings, row):
    add(self, noise, settings, row)
    if len(self.rows) == 5 and not gone:
        gone.append(cluster.remove_node(second, allow_graceful=False))


ledger.Ledger.add = with_loss
results.save = lambda name, rows, settings: stored.update({{name: rows}})
nodes = len(ray.nodes())
for name in ("invented-common", "invented-live"):
    sweeps.sweep(name, invented_runs.made)
print("ROWS", json.dumps([nodes, stored]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_one_of_which_is_lost_gives_the_same_rows(saved, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install -r requirements-ray.txt")
    wanted = {n: one_after_another(n)[0] for n in ("invented-common", "invented-live")}
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER.format(root=str(ROOT)))
    told = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": "", "ENGINE": "ray"}
    command = [sys.executable, str(script), str(tmp_path)]
    environment = {**os.environ, **told}
    job = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, env=environment, check=False
    )
    assert job.returncode == 0, (job.stdout + job.stderr)[-3000:]
    line = next(line for line in job.stdout.splitlines() if line.startswith("ROWS "))
    nodes, stored = json.loads(line[5:])
    assert nodes == 2 and stored == json.loads(json.dumps(wanted))
