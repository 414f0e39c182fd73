"""Make, run and check the lessons.

python -m tools.notebooks to-py 05                     the lesson as text: build/src/05_lora.py
python -m tools.notebooks from-py build/src/05_lora.py and back; the text is jupytext's py:percent
python -m tools.notebooks execute 05 06 | --all        run in place, store outputs, times and memory
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

NOTEBOOKS = ROOT / "notebooks"
SOURCES = ROOT / "build" / "src"
# Run as one more cell: prints the kernel's peak memory in MiB, or 0 where there is no /proc. It
# leaves no name behind.
PEAK = """\
(lambda p: print(
    next((int(l.split()[1]) // 1024 for l in open(p) if l.startswith("VmHWM")), 0)
    if __import__("os").path.exists(p) else 0
))("/proc/self/status")"""


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
    """Variables for a kernel: no progress bars.

    If `closed`, as for outputs that are stored, also one thread and no network.
    """
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if closed else {}
    paths = [str(ROOT / "tests" / "closed_network")] if closed else []
    paths += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PEFT_COURSE_QUIET": "1",
        **threads,
    }


def execute(notebook, folder, closed=True, timeout=1800):
    """Run all cells in a fresh kernel with `folder` as its working folder; (seconds, peak MiB).

    Outputs are stored in place. An error in a cell not tagged raises-exception is a Problem with
    the cell's number, its first line and the error.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    probe = nbformat.v4.new_code_cell(PEAK)
    notebook.cells.append(probe)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],
        resources={"metadata": {"path": str(folder)}},
    )
    began = time.perf_counter()
    try:
        client.execute(env=environment(closed))
    except CellExecutionError as error:
        index = next(
            i
            for i, c in enumerate(c for c in notebook.cells if c.cell_type == "code")
            if any(o.output_type == "error" for o in c.outputs)
            and "raises-exception" not in c.metadata.get("tags", [])
        )
        raise Problem(
            f"code cell {index} raised {error.ename}: {error.evalue}\n{str(error).strip()[-3000:]}"
        ) from None
    finally:
        notebook.cells.remove(probe)
    peak = int(probe.outputs[0].text) if probe.outputs else 0
    return time.perf_counter() - began, peak


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
    print(f"{path.name}: {seconds:.1f} s, peak {peak} MiB")


def run_copy(number, to):
    """Run a lesson with the network as it is, into another folder; the notebook is not touched."""
    path, to = find(number), pathlib.Path(to)
    notebook = nbformat.read(path, 4)
    print(f"running {path.relative_to(ROOT)}", flush=True)
    try:
        seconds, peak = execute(notebook, path.parent, closed=False, timeout=None)
    except Problem as problem:
        save(notebook, to / path.name)
        raise Problem(
            f"{path.name}: {problem}\nThe copy, up to that cell: {to / path.name}"
        ) from None
    save(notebook, to / path.name)
    print(f"done in {seconds:.1f} s, peak memory {peak} MiB. The executed copy: {to / path.name}")


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
    parser.add_argument("what", choices=["from-py", "to-py", "execute", "run", "lint"])
    parser.add_argument("which", nargs="*", help="lesson numbers, or files for from-py")
    parser.add_argument("--all", action="store_true", help="every lesson")
    parser.add_argument("--to", default="build/runs", help="folder for `run`")
    arguments = parser.parse_args()
    jobs = {
        "from-py": from_py,
        "to-py": to_py,
        "execute": execute_in_place,
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
    if arguments.what == "execute":
        badges.rewrite()  # the README's table tells the new times
    sys.exit(failed)


if __name__ == "__main__":
    main()
