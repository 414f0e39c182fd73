"""Lesson 19's functions, taken out of the notebook and run in real processes.

The quick tests start processes that import torch alone; those that need transformers or TRL in
every process are slow ones.
"""

import ast
import pathlib
import re
import subprocess
import sys
import time

import nbformat
import pytest

from utils import ROOT

PATH = next((ROOT / "notebooks").glob("19_*.ipynb"))
CELLS = [c for c in nbformat.read(PATH, 4).cells if c.cell_type == "code"]


def sources():
    """{name: source} of every top-level function and constant of the notebook."""
    found = {}
    for cell in CELLS:
        if "setup" in cell.metadata.get("tags", []):
            continue
        for node in ast.parse(cell.source).body:
            text = ast.get_source_segment(cell.source, node)
            if isinstance(node, ast.FunctionDef):
                found[node.name] = text
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, text)
    return found


SOURCES = sources()
TAKE_HOME = next(c.source for c in CELLS if "take-home" in c.metadata.get("tags", []))
SFT = re.search(r'r"""(.*?)"""', TAKE_HOME, re.DOTALL)[1]  # the script that the cell writes


@pytest.fixture(scope="module")
def launch():
    """The notebook's launch, with the constants that it needs."""
    space = {}
    exec("import os, pathlib, re, signal, socket, subprocess, sys", space)
    for name in ("LAUNCHERS", "free_port", "start", "stop", "why", "wait_for", "launch"):
        exec(SOURCES[name], space)
    return space["launch"]


def left_over(script):
    """Processes of this machine whose command line names the script."""
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in lines.stdout.splitlines() if str(script) in line]


def write(tmp_path, text, name="job.py"):
    path = tmp_path / name
    path.write_text(text)
    return path


# --- the launcher: every way to end ---------------------------------------------------------------


def test_two_processes_run_and_what_they_print_comes_back(launch, tmp_path):
    line = "' '.join(['rank', os.environ['RANK'], *sys.argv[1:]]) + '\\n'"  # in one piece each
    script = write(tmp_path, f"import os, sys\nsys.stdout.write({line})")
    text = launch(script, "a", 7)
    assert "rank 0 a 7" in text and "rank 1 a 7" in text and "rank 2" not in text


def test_a_hung_process_ends_in_a_clear_error_and_leaves_nothing_behind(launch, tmp_path):
    script = write(tmp_path, "import time\ntime.sleep(600)")
    began = time.perf_counter()
    with pytest.raises(RuntimeError, match=r"job.py had not ended after 5 s. A process hangs"):
        launch(script, seconds=5)
    assert time.perf_counter() - began < 60
    assert not left_over(script)


def test_a_lost_process_is_named(launch, tmp_path):
    text = "import os, signal, time\nif os.environ['RANK'] == '1':\n"
    text += "    os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)"
    script = write(tmp_path, text)
    with pytest.raises(RuntimeError, match=r"a process was lost: Signal 9 \(SIGKILL\)"):
        launch(script)
    assert not left_over(script)


def test_an_error_of_one_process_is_the_error_that_is_told(launch, tmp_path):
    text = "import os, time\nif os.environ['RANK'] == '1':\n"
    text += "    raise ValueError('row 7 is empty')\ntime.sleep(600)"
    with pytest.raises(RuntimeError, match=r"ended with an error: ValueError: row 7 is empty"):
        launch(write(tmp_path, text))


def test_a_process_that_waits_for_one_that_left_gets_an_error(launch, tmp_path):
    """Rank 1 ends without a word while rank 0 waits in an all-reduce."""
    text = """import torch, torch.distributed as dist
dist.init_process_group("gloo")
if dist.get_rank() == 0:
    dist.all_reduce(torch.ones(1))
"""
    began = time.perf_counter()
    with pytest.raises(RuntimeError, match="ended with an error: .*Error"):
        launch(write(tmp_path, text))
    assert time.perf_counter() - began < 60


def test_a_process_that_waits_for_one_that_hangs_gives_up(launch, tmp_path):
    """The group's own timeout, 45 s in the lesson, 5 s here."""
    text = """import datetime, time, torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=5))
if dist.get_rank() == 1:
    time.sleep(600)
dist.all_reduce(torch.ones(1))
"""
    began, script = time.perf_counter(), write(tmp_path, text)
    with pytest.raises(RuntimeError, match="ended with an error: .*Error"):
        launch(script)
    assert time.perf_counter() - began < 60
    assert not left_over(script)
    assert "timeout=datetime.timedelta(seconds=45)" in SOURCES["begin"]


def test_accelerate_on_a_cpu_starts_one_process_and_the_assertion_tells(launch, tmp_path):
    first = "import os, sys\n" + SFT.splitlines()[1]  # without the slow imports
    with pytest.raises(RuntimeError, match="AssertionError: 2 processes did not start"):
        launch(write(tmp_path, first), 2, by="accelerate --cpu")


# --- the processes that stay ---------------------------------------------------------------------


@pytest.fixture
def staying(tmp_path):
    """The page's names with two workers that import torch alone."""
    space = {"PROCESSES": 2}
    exec("import os, pathlib, re, signal, socket, subprocess, sys, time", space)
    exec("import torch.distributed as dist", space)
    for name in ("LAUNCHERS", "free_port", "start", "stop", "why", "wait_for", "run_in_workers"):
        exec(SOURCES[name], space)
    head = "import datetime, itertools, runpy, sys\nimport torch.distributed as dist"
    parts = [head, SOURCES["begin"], SOURCES["worker"], "worker(*sys.argv[1:])"]
    script = write(tmp_path, "\n\n\n".join(parts), "worker.py")
    exec(SOURCES["store"], space)
    space["workers"] = space["start"](script, 2, space["store"].port)
    yield space
    if space["workers"].poll() is None:
        space["stop"](space["workers"])
    assert not left_over(script)


NOTE = """import os, pathlib, torch.distributed as dist
rank = dist.get_rank()
with pathlib.Path({folder!r}, str(rank)).open("a") as out:
    print({text!r}, os.getpid(), file=out)
"""


def test_two_scripts_run_one_after_the_other_in_the_same_processes(staying, tmp_path):
    for text in ("first", "second"):
        script = NOTE.format(folder=str(tmp_path), text=text)
        staying["run_in_workers"](write(tmp_path, script, f"{text}.py"), seconds=60)
    for rank in "01":
        first, second = (line.split() for line in (tmp_path / rank).read_text().splitlines())
        assert (first[0], second[0]) == ("first", "second") and first[1] == second[1]


def test_an_error_in_a_worker_is_told_and_ends_all(staying, tmp_path):
    text = "import torch.distributed as dist\nif dist.get_rank() == 1:\n"
    script = write(tmp_path, text + "    raise ValueError('row 7 is empty')", "part.py")
    with pytest.raises(RuntimeError, match="part.py ended with an error: ValueError: row 7"):
        staying["run_in_workers"](script, seconds=60)
    assert staying["workers"].poll() is not None


def test_a_worker_that_hangs_is_told_with_the_seconds_given(staying, tmp_path):
    quick = write(tmp_path, "", "quick.py")
    staying["run_in_workers"](quick, seconds=60)  # until here they have started
    with pytest.raises(RuntimeError, match="slow.py had not ended after 3 s. A process hangs"):
        staying["run_in_workers"](write(tmp_path, "import time\ntime.sleep(600)", "slow.py"), 3)


def test_the_workers_end_with_the_page(staying, tmp_path):
    """Without the page's store nobody could name a script, so waiting would be for ever."""
    import gc

    staying["run_in_workers"](write(tmp_path, "", "quick.py"), seconds=60)
    del staying["store"]
    gc.collect()
    staying["workers"].wait(timeout=60)


# --- ten lines ------------------------------------------------------------------------------------

TOY = """import sys, types
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

{functions}


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed, self.head = torch.nn.Embedding(20, 8), torch.nn.Linear(8, 20)

    def forward(self, input_ids):
        return types.SimpleNamespace(logits=self.head(self.embed(input_ids)))


def run(way, rank, world, steps=4):
    model = Toy()
    model.embed.requires_grad_(False)
    net = torch.nn.parallel.DistributedDataParallel(model) if way == "library" else model
    optimizer, losses = torch.optim.SGD(model.head.parameters(), lr=0.5), []
    for step in range(steps):
        ids = torch.randint(0, 20, (7, 9), generator=torch.Generator().manual_seed(step))
        labels = ids.masked_fill(torch.arange(9) >= torch.arange(2, 9)[:, None], -100)
        batch = {{"input_ids": ids[rank::world], "labels": labels[rank::world]}}
        losses.append(one_step(net, optimizer, batch, way))
    return losses, model.head.weight.detach()


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    ways = ("own mean", "all tokens", "library")
    torch.save({{w: run(w, rank, world) for w in ways}}, f"{{sys.argv[1]}}/{{rank}}.pt")
    dist.destroy_process_group()
"""


def test_by_hand_and_torch_equal_one_process(launch, tmp_path, processes=3):
    """Another model, plain SGD, 7 rows of different length on 3 processes (2 on the page)."""
    import torch

    names = ("token_loss", "average_gradients", "one_step")
    script = write(tmp_path, TOY.format(functions="\n\n\n".join(SOURCES[n] for n in names)))
    launch(script, tmp_path, processes=processes)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    (tmp_path / "one").mkdir()
    launch(script, tmp_path / "one", processes=1)
    alone = torch.load(tmp_path / "one" / "0.pt")["all tokens"]
    for way in ("all tokens", "library"):
        for losses, weight in (one[way] for one in found):
            assert losses == pytest.approx(alone[0], abs=1e-5)
            assert torch.allclose(weight, alone[1], atol=1e-5)
    wrong = found[0]["own mean"][1]
    assert (wrong - alone[1]).norm() > 1e-2 * alone[1].norm()
    assert torch.equal(wrong, found[1]["own mean"][1])  # equal to each other, and wrong


# --- launch lines ---------------------------------------------------------------------------------


def test_accelerates_reader_refuses_what_it_does_not_know(tmp_path):
    import yaml
    from accelerate.commands.config.config_args import load_config_from_file

    space = {}
    for name in ("SHARDED", "ONE", "TWO"):
        exec(SOURCES[name], space)
    for settings, processes in ((space["ONE"], 8), (space["TWO"], 16)):
        good = write(tmp_path, yaml.safe_dump(settings), "good.yaml")
        assert load_config_from_file(str(good)).num_processes == processes
    wrong = write(tmp_path, yaml.safe_dump({**space["ONE"], "num_procesess": 8}), "wrong.yaml")
    with pytest.raises(ValueError, match="num_procesess"):
        load_config_from_file(str(wrong))


def test_the_take_home_script_needs_nothing_of_the_course():
    imported = re.findall(r"^(?:from|import) (.+)$", SFT, re.MULTILINE)
    assert imported == ["datasets, os, peft, sys, transformers, trl"]


# --- with the real base: slow ---


@pytest.fixture(scope="module")
def whole_page():
    """A namespace with the functions that the notebook puts into its scripts."""
    names = ("fresh", "my_batch", "token_loss", "average_gradients", "one_step", "adapter")
    names += ("optimizer_of", "train", "shard", "state_of", "train_sharded")
    head = SOURCES["HEAD"].split("'''")[1].replace("{str(root)!r}", repr(str(ROOT)))
    head = head.replace("{str(work)!r}", repr(str(ROOT / "build")))
    return head + "\n\n" + "\n\n\n".join(SOURCES[n] for n in names) + "\n\n"


def gap(one, other):
    size = sum(p.square().sum() for p in other.values()).sqrt()
    return float(sum((one[n] - other[n]).square().sum() for n in other).sqrt() / size)


@pytest.mark.slow
def test_a_lost_run_goes_on_with_three_processes(launch, tmp_path, whole_page):
    """Two processes, one lost at step 5; three go on from step 3; as if one had never stopped."""
    import torch

    text = """dist.init_process_group("gloo")
folder, out = pathlib.Path(sys.argv[1]), sys.argv[3]
if sys.argv[2] == "alone":
    found = train("all tokens")[1]
else:
    found = train_sharded(folder, die_at=int(sys.argv[2]))
if dist.get_rank() == 0:
    torch.save(found, out)
dist.destroy_process_group()
"""
    script, folder = write(tmp_path, whole_page + text), tmp_path / "checkpoint"
    with pytest.raises(RuntimeError, match="a process was lost"):
        launch(script, folder, 5, tmp_path / "lost.pt", seconds=180)
    assert not (tmp_path / "lost.pt").exists() and (folder / ".metadata").exists()
    launch(script, folder, -1, tmp_path / "resumed.pt", processes=3, seconds=180)
    launch(script, folder, "alone", tmp_path / "alone.pt", processes=1, seconds=180)
    resumed, alone = (torch.load(tmp_path / f"{n}.pt") for n in ("resumed", "alone"))
    assert gap(resumed, alone) < 1e-4


@pytest.mark.slow
def test_trl_under_both_launchers_trains_what_one_process_trains(launch, tmp_path, monkeypatch):
    import json

    from safetensors.torch import load_file

    # `train_loss` at the end is the first process's own mean; the logged losses are means over all.
    short = SFT.replace("max_steps=24", "max_steps=4").replace("logging_steps=6", "logging_steps=1")
    script = write(tmp_path, short, "sft.py")
    given = ROOT / "data/pocket/s", ROOT / "data/tasks/facts/train.jsonl"
    runs = {"one": ("torchrun", 1), "torchrun": ("torchrun", 2), "accelerate": ("accelerate", 2)}
    losses, adapters = {}, {}
    for name, (by, processes) in runs.items():
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        launch(script, processes, *given, by=by, processes=processes, seconds=180)
        out = tmp_path / name / f"my-run-{processes}"
        log = json.loads((out / "trainer_state.json").read_text())["log_history"]
        losses[name] = [row["loss"] for row in log if "loss" in row]
        adapters[name] = load_file(out / "adapter_model.safetensors")
    assert len(losses["one"]) == 4
    for name in ("torchrun", "accelerate"):
        assert losses[name] == pytest.approx(losses["one"], abs=1e-4)
        assert gap(adapters[name], adapters["one"]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_the_plan_of_a_sharded_run_is_what_each_process_holds(launch, tmp_path, processes):
    """4 layers of hidden 128 with LoRA r=8, which 2 and 4 divide; DDP beside it."""
    import torch

    text = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from utils import memory, training
import test_memory
{SOURCES["shard"]}

{SOURCES["optimizer_of"]}

dist.init_process_group("gloo")
model, _ = shard(test_memory.lora(test_memory.tiny(layers=4)))
optimizer = optimizer_of(model)
test_memory.step(model, optimizer)
torch.save(memory.measured_state(model, optimizer), f"{{sys.argv[1]}}/{{dist.get_rank()}}.pt")
dist.destroy_process_group()
"""
    launch(write(tmp_path, text), tmp_path, processes=processes, seconds=180)
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import test_memory

    from utils import memory

    planned = memory.plan(
        test_memory.tiny(layers=4),
        rank=8,
        quantisation=None,
        dtype="float32",
        optimizer="adamw",
        checkpointing=False,
        shards=processes,
    )
    for rank in range(processes):
        found = torch.load(tmp_path / f"{rank}.pt")
        for part, size in found.items():
            assert getattr(planned, part) == pytest.approx(size, rel=0.01), (rank, part)
