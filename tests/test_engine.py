"""tools.engine: the same rows locally and on a Ray cluster of two nodes; nothing lost, nothing twice."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from tools import engine
from utils import ROOT

# --- jobs: functions that a spawned process can import ---


def square(n, wait=0.0):
    time.sleep(wait)
    return {"n": n, "square": n * n, "threads": os.environ.get("OMP_NUM_THREADS")}


def dies_at_first(mark):
    """Lost the first time, a row the second."""
    if not pathlib.Path(mark).exists():
        pathlib.Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"mark": "there"}


def dies_later(seconds):
    """A row, and the worker is lost after it."""
    threading.Timer(seconds, dies).start()
    return {}


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def raises(n):
    raise ValueError(f"no row {n}")


def run(jobs, **options):
    rows = {}
    engine.run_all(jobs, lambda key, row: rows.setdefault(key, []).append(row), **options)
    assert all(len(found) == 1 for found in rows.values())
    return {key: found[0] for key, found in rows.items()}


def squares(count, **options):
    return [(f"square {n}", square, {"n": n, **options}) for n in range(count)]


WANTED = {f"square {n}": {"n": n, "square": n * n, "threads": "1"} for n in range(9)}


def test_every_job_once_in_this_process_and_with_one_thread():
    before = dict(os.environ)
    assert run(squares(9), workers=2) == WANTED
    assert dict(os.environ) == before


def test_jobs_may_come_from_a_generator_and_there_may_be_none():
    assert run((job for job in squares(3)), workers=8) == dict(list(WANTED.items())[:3])
    assert run([]) == {}


@pytest.mark.parametrize("how", [{"workers": 2}, {"engine": "here"}])
def test_jobs_may_come_out_of_rows(how):
    """Each row of the first three asks for one more; until then there is nothing at present."""
    rows, queue = {}, [*squares(3)]

    def jobs():
        while len(rows) < 6:
            yield queue.pop(0) if queue else None

    def done(key, row):
        rows[key] = row
        if row["n"] < 3:
            queue.append(squares(row["n"] + 4)[-1])

    engine.run_all(jobs(), done, **how)
    assert {r["n"] for r in rows.values()} == {0, 1, 2, 3, 4, 5}
    engine.run_all(iter([None]), done, **how)  # nothing runs and there is nothing: the end


def test_rows_are_handed_over_as_they_end():
    order = []
    jobs = [("slow", square, {"n": 1, "wait": 3.0}), ("quick", square, {"n": 2})]
    engine.run_all(jobs, lambda key, row: order.append(key), workers=2)
    assert order == ["quick", "slow"]


def test_a_lost_workers_job_is_done_again(tmp_path):
    jobs = [("lost", dies_at_first, {"mark": str(tmp_path / "mark")}), *squares(4)]
    rows = run(jobs, workers=2)
    assert rows.pop("lost") == {"mark": "there"} and len(rows) == 4


def test_a_worker_that_is_lost_while_it_waits_costs_nothing():
    rows, later = {}, squares(4)

    def jobs():
        yield "soon lost", dies_later, {"seconds": 0.2}
        yield "long", square, {"n": 9, "wait": 2.0}
        while "long" not in rows:
            yield None
        yield from later

    engine.run_all(jobs(), rows.__setitem__, workers=2)
    assert {key: rows[key] for key, *_ in later} == dict(list(WANTED.items())[:4])


def test_what_fails_is_told_at_the_end_and_costs_nothing_else():
    rows = {}
    jobs = [("bad", raises, {"n": 7}), ("deadly", dies, {}), *squares(4)]
    with pytest.raises(engine.JobsFailed) as told:
        engine.run_all(jobs, rows.__setitem__, workers=2)
    assert len(rows) == 4
    text = str(told.value)
    assert "2 job(s)" in text and "'bad'" in text and "ValueError: no row 7" in text
    assert "'deadly': its worker was lost 3 times (exit code -9)" in text


def test_a_writer_that_raises_ends_the_workers():
    def full(key, row):
        raise OSError("No space left on device")

    began = time.perf_counter()
    jobs = [("one", square, {"n": 1}), ("long", square, {"n": 2, "wait": 300.0})]
    with pytest.raises(OSError, match="No space"):
        engine.run_all(jobs, full, workers=2)
    assert time.perf_counter() - began < 60


def test_stopped_and_gone_on():
    """The caller leaves out what it has: all rows, none twice."""
    rows = {}

    def three(key, row):
        if len(rows) == 3:
            raise KeyboardInterrupt
        rows[key] = row

    with pytest.raises(KeyboardInterrupt):
        engine.run_all(squares(9), three, workers=2)
    assert len(rows) == 3
    rows |= run([job for job in squares(9) if job[0] not in rows], workers=2)
    assert rows == WANTED


def test_bad_input():
    with pytest.raises(ValueError, match="no engine 'slurm'.*local, ray, here"):
        run([], engine="slurm")
    with pytest.raises(ValueError, match="-1 workers"):
        run([], workers=-1)
    with pytest.raises(ValueError, match="Two jobs have the key 'square 0'"):
        run(squares(1) * 2, workers=1)
    with pytest.raises(Exception, match="pickle|local object"):
        run([("local", lambda: 1, {})], workers=1)


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("ENGINE", "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"needs the package ray.*requirements-ray.txt"):
        run(squares(1))


CLUSTER = """
import json, pathlib, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import ray
from ray.cluster_utils import Cluster
from tools import engine
import test_engine as t

cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "include_dashboard": False}})
second = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False, runtime_env=engine.surroundings())
rows, nodes = {{}}, len(ray.nodes())
jobs = t.squares(9) + [("lost", t.dies_at_first, {{"mark": sys.argv[1]}})]
engine.run_all(jobs, rows.__setitem__, engine="ray")
later, gone = {{}}, []


def done(key, row):
    later[key] = row
    if not gone:
        gone.append(cluster.remove_node(second, allow_graceful=False))


engine.run_all(t.squares(6, wait=1.0), done, engine="ray")
print("ROWS", json.dumps([nodes, rows, later]))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_the_same_rows_on_a_cluster_of_two_nodes_one_of_which_is_lost(tmp_path):
    import json

    pytest.importorskip("ray", reason="ray is not installed: pip install -r requirements-ray.txt")
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER.format(root=str(ROOT)))
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": ""}
    command = [sys.executable, str(script), str(tmp_path / "mark")]
    job = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, env=environment, check=False
    )
    assert job.returncode == 0, (job.stdout + job.stderr)[-3000:]
    line = next(line for line in job.stdout.splitlines() if line.startswith("ROWS "))
    nodes, rows, later = json.loads(line[5:])
    assert nodes == 2 and rows.pop("lost") == {"mark": "there"} and rows == WANTED
    assert later == dict(list(WANTED.items())[:6])
