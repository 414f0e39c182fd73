"""Make, run and check the lessons.

python -m tools.notebooks to-py 05                     the lesson as text: build/src/05_lora.py
python -m tools.notebooks from-py build/src/05_lora.py and back; the text is jupytext's py:percent
python -m tools.notebooks execute 05 06 | --all        run in place, store outputs, times and memory
python -m tools.notebooks time 05 | --all               run a copy, record CPU seconds and memory
python -m tools.notebooks run 05 [--to build/runs]     run a copy, leave the notebook alone
python -m tools.notebooks lint [05 ...]                anatomy and style, see tools/lint.py
"""

import argparse
import difflib
import json
import os
import pathlib
import platform
import re
import sys
import time

import nbformat

from tools import badges, lint
from tools.pages import Problem, all_faults, normalise, output_text  # noqa: F401 (used by others)
from utils import ROOT
from utils.colab import threads, usable_cores  # noqa: F401 (used by tests)

NOTEBOOKS = ROOT / "notebooks"
SOURCES = ROOT / "build" / "src"
# Run as one more cell: prints the kernel's peak memory in MiB (0 where there is no /proc) and the
# CPU seconds of the kernel and of the processes that it started. It leaves no name behind.
PROBE = """\
(lambda os, p: print(
    next((int(l.split()[1]) // 1024 for l in open(p) if l.startswith("VmHWM")), 0)
    if os.path.exists(p) else 0, sum(os.times()[:4])
))(__import__("os"), "/proc/self/status")"""


def find(number):
    """Path of a lesson from its number ("05" or "5") or name ("05_lora").

    Problem lists the numbers there are.
    """
    numbers = {p.name[:2]: p for p in badges.lesson_paths(NOTEBOOKS)}
    found = numbers.get(str(number).split("_")[0].zfill(2))
    if found is None:
        there = ", ".join(numbers) or "none yet"
        raise Problem(
            f"There is no lesson {number or 'without a number'}. Lessons in notebooks/: {there}. "
            f"Example: make run LESSON={next(iter(numbers), '05')}"
        )
    return found


def environment(closed=True):
    """Variables for a kernel: no progress bars, and threads that wait without using a core.

    If `closed`, as for outputs that are stored, also one thread and no network.
    """
    count = "1" if closed else os.environ.get("OMP_NUM_THREADS") or str(threads())
    paths = [str(ROOT / "tests" / "closed_network")] if closed else []
    paths += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PEFT_COURSE_QUIET": "1",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }


def section(notebook, cell):
    """The last heading above a cell, without its #."""
    heading = ""
    for other in notebook.cells:
        if other is cell:
            break
        if other.cell_type == "markdown":
            found = re.findall(r"^#{1,6} (.+)$", other.source, re.MULTILINE)
            heading = found[-1].strip() if found else heading
    return heading


class Stopped(Problem):
    """A lesson that did not run to its end; `where` says at which cell, in a sentence."""

    def __init__(self, where, details=""):
        super().__init__(f"{where}\n{details}".rstrip())
        self.where = where


def execute(notebook, folder, closed=True, timeout=1800, at_cell=None):
    """Run all cells in a fresh kernel, `folder` its working folder; (CPU seconds, peak MiB).

    Outputs are stored in place. `at_cell(cell)` is called before each code cell. An error in a cell
    not tagged raises-exception is `Stopped` with the cell's number, its section and the error.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    probe = nbformat.v4.new_code_cell(PROBE)
    notebook.cells.append(probe)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    at = {"cell": code[0]}

    def started(cell, cell_index):
        if cell.cell_type != "code":
            return
        at["cell"] = cell
        if at_cell and cell is not probe:
            at_cell(cell)

    def where():
        position = next(i for i, c in enumerate(code) if c is at["cell"])
        return f"code cell {position}", f"section “{section(notebook, at['cell'])}”"

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=started,
    )
    try:
        client.execute(env=environment(closed))
    except CellExecutionError as error:
        cell, place = where()
        raise Stopped(
            f"{cell} raised {error.ename}: {error.evalue} ({place})", str(error).strip()[-3000:]
        ) from None
    except (DeadKernelError, KeyboardInterrupt):
        cell, place = where()
        raise Stopped(
            f"{cell} was cut off ({place}): the run was interrupted, or memory ran out"
        ) from None
    finally:
        notebook.cells.remove(probe)
    peak, seconds = probe.outputs[0].text.split() if probe.outputs else (0, 0)
    return float(seconds), int(peak)


def processor():
    """The processor's name as the system tells it."""
    info = pathlib.Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    return names[0].strip() if names else platform.processor() or platform.machine()


def record(path, seconds, peak):
    """Write a lesson's seconds and peak memory into data/results/timings.json.

    Processor and versions go with them.
    """
    from utils.colab import versions

    keep = {
        k: v
        for k, v in versions(
            ("torch", "transformers", "peft", "trl", "bitsandbytes", "unsloth")
        ).items()
        if v != "not installed"
    }
    measured = badges.timings()
    measured.setdefault(path.name[:2], {}).update(
        seconds=round(seconds, 1), peak_mib=peak, threads=1, processor=processor(), versions=keep
    )
    badges.TIMINGS.parent.mkdir(parents=True, exist_ok=True)
    temporary = badges.TIMINGS.with_suffix(f".{os.getpid()}")
    temporary.write_text(
        json.dumps(dict(sorted(measured.items())), indent=1) + "\n", encoding="utf-8"
    )
    temporary.replace(badges.TIMINGS)


def save(notebook, path):
    """Write a notebook whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    temporary.replace(path)


def execute_in_place(number):
    """Run a lesson and store its outputs.

    One that fails or shows what it must not is left as it was; the run is kept in build/runs.
    """
    path = find(number)
    os.environ.pop("PEFT_COURSE_BASE", None)  # stored outputs are those of the default base
    notebook = badges.dress(
        nbformat.read(path, 4), path.name, badges.repository(), badges.timings()
    )
    kept = ROOT / "build" / "runs" / path.name
    try:
        seconds, peak = execute(notebook, path.parent)
        if faults := all_faults(normalise(notebook)):
            raise Problem("\n".join(faults))
    except Problem as problem:
        save(notebook, kept)
        raise Problem(
            f"{path.name}: {problem}\n"
            f"The stored notebook is as it was; this run is in {kept.relative_to(ROOT)}."
        ) from None
    record(path, seconds, peak)
    save(badges.dress(notebook, path.name, badges.repository(), badges.timings()), path)
    print(f"{path.name}: {seconds:.1f} CPU seconds, peak {peak} MiB")


def progress(notebook, began):
    """A function for `execute` that prints each section as it is reached, and the seconds."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    seen = {None}

    def at_cell(cell):
        heading = section(notebook, cell)
        if heading not in seen:
            seen.add(heading)
            position = next(i for i, c in enumerate(code) if c is cell)
            seconds = time.perf_counter() - began
            print(f"{seconds:6.0f} s  cell {position + 1:2} of {len(code)}  {heading}", flush=True)

    return at_cell


def take_time(number):
    """Run a copy of a lesson and record what it costs.

    CPU seconds, not seconds on the clock: other programs disturb them little.
    """
    path = find(number)
    record(path, *execute(nbformat.read(path, 4), path.parent))
    told = badges.timings()[path.name[:2]]
    print(
        f"{path.name}: {told['seconds']:.1f} CPU seconds, peak {told['peak_mib']} MiB", flush=True
    )


def run_copy(number, to):
    """Run a lesson with the network as it is, into another folder; the notebook is not touched.

    A lesson that stops says so on its last line and in its copy's last cell.
    """
    if not number:
        raise Problem("Which lesson? For example: make run LESSON=05")
    path, to = find(number), pathlib.Path(to)
    notebook = nbformat.read(path, 4)
    print(f"running {path.relative_to(ROOT)}", flush=True)
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            f"Nothing can be written to {to} ({error.strerror}). Name another folder: "
            f"python -m tools.notebooks run {path.name[:2]} --to FOLDER"
        ) from None
    try:
        seconds, peak = execute(
            notebook,
            path.parent,
            closed=False,
            timeout=None,
            at_cell=progress(notebook, time.perf_counter()),
        )
    except Stopped as stopped:
        sentence = f"{path.name} stopped: {stopped.where}. The cells after it did not run."
        notebook.cells.append(nbformat.v4.new_markdown_cell(f"**{sentence}**"))
        save(notebook, to / path.name)
        details = str(stopped).partition("\n")[2]
        colourless = details if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", details)
        raise Problem(
            f"{colourless}\n\n{sentence}\nThe copy, up to that cell: {to / path.name}".strip()
        ) from None
    save(notebook, to / path.name)
    print(
        f"done in {seconds:.1f} CPU seconds, peak memory {peak} MiB. "
        f"The executed copy: {to / path.name}"
    )


def from_py(source):
    """Make or update a notebook from its text.

    Outputs are kept if no code changed, else dropped: execute it again.
    """
    import jupytext

    source = pathlib.Path(source)
    path = NOTEBOOKS / f"{source.stem}.ipynb"
    if not re.match(r"\d\d_", source.stem):
        raise Problem(
            f"{source.name}: a lesson's file is named by number and topic, such as 05_lora.py."
        )
    if not source.exists():
        raise Problem(
            f"There is no {source}. "
            f"`python -m tools.notebooks to-py {source.stem[:2]}` makes it from the notebook."
        )
    made = nbformat.v4.new_notebook(
        cells=[nbformat.from_dict(c) for c in jupytext.read(source, fmt="py:percent").cells]
    )
    normalise(badges.dress(made, path.name, badges.repository(), badges.timings()))
    stale = ""
    if path.exists():
        new, old = (
            [c for c in n.cells if c.cell_type == "code"] for n in (made, nbformat.read(path, 4))
        )
        if [c.source for c in new] == [c.source for c in old]:
            for a, b in zip(new, old):
                a.outputs, a.execution_count = b.outputs, b.execution_count
        else:
            stale = "; code changed, so the outputs were dropped: execute it"
            print(
                "".join(
                    difflib.unified_diff(
                        [c.source.split("\n")[0] + "\n" for c in old],
                        [c.source.split("\n")[0] + "\n" for c in new],
                        "before",
                        "now",
                        n=0,
                    )
                ),
                end="",
            )
    save(made, path)
    print(f"wrote {path.relative_to(ROOT)}: {len(made.cells)} cells{stale}")


def to_py(number):
    """Write a lesson as text that `from-py` reads, into build/src/."""
    import jupytext

    path = find(number)
    notebook = nbformat.read(path, 4)
    notebook.metadata = {
        "jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}
    }
    target = SOURCES / f"{path.stem}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    jupytext.write(notebook, target, fmt="py:percent")
    print(f"wrote {target.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["from-py", "to-py", "execute", "time", "run", "lint"])
    parser.add_argument("which", nargs="*", help="lesson numbers, or files for from-py")
    parser.add_argument("--all", action="store_true", help="every lesson")
    parser.add_argument("--to", default="build/runs", help="folder for `run`")
    arguments = parser.parse_args()
    jobs = {
        "from-py": from_py,
        "to-py": to_py,
        "execute": execute_in_place,
        "time": take_time,
        "run": lambda n: run_copy(n, arguments.to),
        "lint": lambda n: lint.report(find(n)),
    }
    everything = arguments.all or arguments.what == "lint" and not arguments.which
    which = (
        [p.name[:2] for p in badges.lesson_paths(NOTEBOOKS)]
        if everything
        else arguments.which or [""]
    )
    failed = False
    for one in which:
        try:
            jobs[arguments.what](one)
        except Problem as problem:
            failed = True
            print(problem, file=sys.stderr)
    if arguments.what in ("execute", "time"):
        badges.rewrite()  # the README's table tells the new times
    sys.exit(failed)


if __name__ == "__main__":
    main()
