"""Lesson 13's own cells, killed, resumed and compared. `test_capstone.py` runs this file once and
reads what it leaves behind.

    python tests/kill_capstone.py FOLDER

Unsloth is imported once and the lesson's cells before the training cell are run once. Every run
below is then a fork of that state, which is what a kernel is that has just been started and run up
to the training cell.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WORK = pathlib.Path(sys.argv[1])
for name in ("PEFT_COURSE_QUIET", "PEFT_COURSE_BASE"):
    os.environ.pop(name, None)  # so that checkpoints go where a reader's go

# A child of a process whose OpenMP has started several threads waits for ever.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

from utils import capstone, checkpoints, colab, evaluation, instructions  # noqa: E402

CELLS = [
    c
    for c in nbformat.read(ROOT / "notebooks" / "13_mistral_unsloth.ipynb", 4).cells
    if c.cell_type == "code"
]
TRAIN = next(i for i, c in enumerate(CELLS) if "train" in c.metadata.get("tags", []))
RUN = CELLS[TRAIN].source
small = dataclasses.replace(
    capstone.settings(), steps=8, save_every=3, batch=2, accumulation=2, test_rows=6
)
rows, facts = instructions.load, evaluation.facts()[:8]
capstone.settings = lambda *_, **__: small
colab.checkpoint_folder = lambda name: WORK / "drive" / name
instructions.load = lambda split, base=None: rows(split)[:40]
evaluation.facts = lambda: facts

space, report = {"__name__": "__main__"}, {}
for cell in CELLS[:TRAIN]:
    exec(compile(cell.source, "cell", "exec"), space)
trainer, transformers = space["trainer"], space["transformers"]
report["folder"] = pathlib.Path(trainer.args.output_dir).relative_to(WORK).as_posix()


class At(transformers.TrainerCallback):
    """Do something at the end of a step."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            self.do()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(step):
    """Be killed when half of this step's optimiser state is on the disk."""
    write = trainer._save_optimizer_and_scheduler

    def half(folder):
        write(folder)
        if trainer.state.global_step == step:
            path = pathlib.Path(folder) / "optimizer.pt"
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            die()

    trainer._save_optimizer_and_scheduler = half


def interrupt():
    raise KeyboardInterrupt


def cell(source=RUN):
    """Run the training cell; a KeyboardInterrupt in it is what the stop button does."""
    with contextlib.suppress(KeyboardInterrupt):
        exec(compile(source, "train", "exec"), space)


def run(name, folder, act):
    """Fork, `act` in the child with its checkpoints in `folder`, keep its adapter as `name`; the
    child's signal, 0 if it ended.
    """
    pid = os.fork()
    if not pid:
        code = 1
        try:
            trainer.args.output_dir = str(WORK / folder)
            with (
                open(WORK / f"{name}.txt", "w", encoding="utf-8", buffering=1) as out,
                contextlib.redirect_stdout(out),
            ):
                act()
            space["model"].save_pretrained(WORK / "adapters" / name)
            done = {
                "from": space["went_on_from"],
                "step": trainer.state.global_step,
                "losses": [row["loss"] for row in space["log"]],
            }
            (WORK / f"{name}.json").write_text(json.dumps(done))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    report[name] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def killed_at(step):
    trainer.add_callback(At(step, die))
    cell()


def killed_while_writing():
    die_while_writing(6)
    cell()


def interrupted():
    """The stop button at step 2, before any checkpoint, and at step 5; the cell is run again each
    time, in the same kernel.
    """
    for step in (2, 5):
        callback = At(step, interrupt)
        trainer.add_callback(callback)
        cell()
        trainer.remove_callback(callback)
    cell()


def start_over():
    cell()
    cell(RUN.replace("start_over=False", "start_over=True"))


def against_plain():
    """The trained adapter in plain transformers and peft: the loss of Unsloth's trainer against
    theirs, on the same batch.
    """
    cell()
    space["model"].save_pretrained(WORK / "adapters" / "plain")
    plain = checkpoints.load_adapter(
        space["bases"].load(four_bit=True)[0], WORK / "adapters" / "plain"
    )
    batch = space["batch"]
    losses = [
        float(trainer.compute_loss(space["model"].train(), dict(batch)).detach()),
        float(plain(**batch).loss.detach()),
    ]
    (WORK / "losses.json").write_text(json.dumps(losses))


run("unbroken", "a", against_plain)
for name, act in (
    ("kill-2", lambda: killed_at(2)),
    ("kill-5", lambda: killed_at(5)),
    ("kill-writing-6", killed_while_writing),
):
    run(name, name, act)
    run(f"resumed-{name}", name, cell)
run("finished", "a", cell)
run("interrupted", "b", interrupted)
run("start-over", "c", start_over)
try:
    with capstone.hushed("mistral"):
        space["FastLanguageModel"].from_pretrained(
            **capstone.source("mistral"), load_in_4bit=True, dtype=space["bases"].dtype()
        )
except OSError as error:
    report["offline"] = str(error)
(WORK / "report.json").write_text(json.dumps(report))
