"""What the newest versions change: install them, run the suite, say what failed.

python -m tools.drift                    everything, into .venv-drift and build/drift/report.md
python -m tools.drift 00 05 test_utils   only these lessons and test files
Options: --no-install keeps .venv-drift as it is; --torch-index ADDRESS takes torch from there first
(PyTorch's CPU wheels, so that no CUDA packages come along).

The stored outputs were made with the pins in requirements.txt. This asks what a reader gets who
installs a year later: the newest version of each package that the course's bounds allow.
"""

import argparse
import os
import pathlib
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from tools import badges
from utils import ROOT, colab

VENV = ROOT / ".venv-drift"
FOLDER = ROOT / "build" / "drift"
# Where the course's bound is not in colab.ACCEPTED. (A version outside ACCEPTED would make every
# set-up cell say that something is missing, and so fail every lesson for one reason.)
BOUNDS = {
    "torch": "<2.15",  # Unsloth's
    "numpy": "",
}
# What one lesson needs and runs without: where one of these cannot be installed, it is said.
EXTRAS = ("requirements-export.txt", "requirements-tune.txt")
# These compare what is installed with the pins; away from them they say nothing about the course.
ABOUT_PINS = (
    "tests/test_setup_files.py::test_what_is_installed_is_what_is_pinned",
    "tests/test_setup_files.py::test_the_lock_holds_all_that_a_pinned_package_needs_on_each_machine",
    "tests/test_setup_files.py::test_unsloth_accepts_the_pins",
)

COLOUR = re.compile(r"(\x1b|#x1B)\[[0-9;]*m")  # as a terminal's, and as pytest writes it into XML


def ranges(pins, accepted=colab.ACCEPTED, bounds=BOUNDS):
    """["torch<2.15", "peft>=0.18.0", ...]: each pinned package with the course's bounds for it."""
    return [f"{name}{bounds.get(name, accepted.get(name, ''))}" for name in pins]


def pinned():
    """{name: version} of every version that the stored outputs were made with."""
    files = ("constraints.txt", "requirements.txt", "requirements-unsloth.txt")
    found = {}
    for name in files:
        found |= {colab._key(k): v for k, v in colab.read_pins(ROOT / name).items()}
    return found


def python(venv=VENV):
    """The environment's Python."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def install(torch_index=None):
    """A new .venv-drift with the newest versions allowed. CalledProcessError if pip stops."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    pip = [str(python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ranges(colab.read_pins(ROOT / "requirements.txt"))
    if torch_index:
        torch = next(r for r in wanted if r.startswith("torch"))
        subprocess.run([*pip, torch, "--index-url", torch_index], check=True)
    print("Installing the newest versions into .venv-drift (some minutes)", flush=True)
    subprocess.run([*pip, "--upgrade", *wanted], check=True)
    unsloth = colab.read_pins(ROOT / "requirements-unsloth.txt")
    subprocess.run([*pip, "--upgrade", "--no-deps", *unsloth], check=True)
    for name in EXTRAS:
        extra = [*ranges(colab.read_pins(ROOT / name)), *wanted]  # none of them moves back for it
        if subprocess.run([*pip, *extra], check=False).returncode:
            print(f"{name} could not be installed; pip says why above. Its lesson runs without it.")


def installed():
    """{name: version} in .venv-drift."""
    listed = subprocess.run(
        [str(python()), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pairs = (line.split("==") for line in listed.splitlines() if "==" in line)
    return {colab._key(name): version.split("+")[0] for name, version in pairs}


def moved(before, now):
    """[(package, pinned, newest)] where they differ; newest is "" for one that is not there."""
    return [
        (name, before.get(name, ""), now.get(name, ""))
        for name in sorted(before.keys() | now.keys())
        if name in before and before.get(name) != now.get(name)
    ]


def chosen(which):
    """Paths for pytest of lessons ("05") and test files ("test_utils"); everything without any."""
    if not which:
        return ["tests", "notebooks"]
    lessons = {path.name[:2]: path for path in badges.lesson_paths()}
    paths = [lessons.get(one, ROOT / "tests" / f"{one}.py") for one in which]
    if missing := [one for one, path in zip(which, paths, strict=True) if not path.exists()]:
        raise SystemExit(f"There is no lesson and no test file called {', '.join(missing)}.")
    return [path.relative_to(ROOT).as_posix() for path in paths]


def run(which, workers):
    """The suite in .venv-drift, as `make test` runs it; path of its JUnit file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    report = FOLDER / "junit.xml"
    report.unlink(missing_ok=True)
    command = [str(python()), "-m", "pytest", *chosen(which), "-q", "-m", "not slow"]
    command += ["--nbval", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]
    command += ["--nbval-cell-timeout=300", "-n", str(workers), "--dist", "loadscope"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1", "-p", "no:cacheprovider"]
    command += [f"--deselect={one}" for one in ABOUT_PINS]
    environment = {k: v for k, v in os.environ.items() if k != "PEFT_COURSE_BASE"}
    environment |= {
        "PYTHONPATH": str(ROOT / "tests" / "closed_network"),
        "PEFT_COURSE_QUIET": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    log = FOLDER / "suite.txt"
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False
        )
    if not report.exists():
        raise SystemExit(
            f"pytest ended without a report (status {done.returncode}; below 0 it was stopped); "
            f"what it said: {log}"
        )
    return report


# What a failure's line says, the most telling first: an exception, a number or word that differs.
TELLING = (
    r"(E +)?[\w.]*(Error|Exception|Warning)\b: \S",
    r".*\bdiffer by\b|.*: the table had\b",
    r"new: ",
    r"E ",
)


def first_line(text):
    """The line of a failure that says most, without colours."""
    lines = [COLOUR.sub("", line).strip() for line in (text or "").splitlines()]
    lines = [line for line in lines if line and line != "Notebook cell execution failed"]
    found = (line for pattern in TELLING for line in lines if re.match(pattern, line))
    told = next(found, (lines or ["?"])[0])
    return re.sub(r"^E +", "", told)[:160].replace("|", "\\|")


def outcome(report):
    """{place: (run, failed, first error)}; a place is a lesson or a test file."""
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        place = case.get("file") or case.get("classname", "?").replace(".", "/")
        place = pathlib.PurePosixPath(place).stem
        ran, failed, error = found.get(place, (0, 0, ""))
        bad = [*case.iter("failure"), *case.iter("error")]
        if bad and not error:
            error = first_line(f"{bad[0].get('message') or ''}\n{bad[0].text or ''}")
        found[place] = (ran + 1, failed + bool(bad), error)
    return found


def write_report(changes, places, which, path):
    """The report as Markdown: what moved, then what failed, lessons first. Returns the text."""
    head = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    part = f" Only {', '.join(which)} ran." if which else ""
    text = [f"# Drift\n\n{head}.{part}\n", "| package | pinned | newest |\n|---|---|---|"]
    text += [f"| {name} | {old} | {new or 'not there'} |" for name, old, new in changes]
    text += [] if changes else ["| nothing has moved | | |"]
    text += ["\n| lesson or test file | ran | failed | first error |\n|---|---|---|---|"]
    order = sorted(places, key=lambda place: (not place[:2].isdigit(), place))
    bad = [place for place in order if places[place][1]]
    text += [f"| {p} | {places[p][0]} | {places[p][1]} | {places[p][2]} |" for p in bad]
    ran = sum(n for n, _, _ in places.values())
    text += [] if bad else ["| none | | | |"]
    text += [f"\n{ran} ran in {len(places)} places; {len(bad)} places have failures."]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", nargs="*", help="lesson numbers and names of test files")
    parser.add_argument("--no-install", action="store_true", help="keep .venv-drift as it is")
    parser.add_argument("--torch-index", help="package index to take torch from")
    parser.add_argument("--workers", default=2, help="tests side by side")
    arguments = parser.parse_args()
    chosen(arguments.which)  # a wrong name is told before minutes of installing
    try:
        if not arguments.no_install:
            install(arguments.torch_index)
        now = installed()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        sys.exit(f"No environment with the newest versions: {error}. pip says why above.")
    places = outcome(run(arguments.which, arguments.workers))
    print(
        write_report(moved(pinned(), now), places, arguments.which, FOLDER / "report.md"),
        flush=True,
    )
    sys.exit(any(failed for _, failed, _ in places.values()))


if __name__ == "__main__":
    main()
