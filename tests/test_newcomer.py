"""A first hour: the README's commands work as they stand, and what goes wrong is said."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import nbformat
import pytest
from test_notebooks import folder, lesson  # noqa: F401 (folder is a fixture)
from test_setup_files import fresh, make, script  # noqa: F401

from tools import badges, notebooks
from utils import ROOT, colab

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", README, re.DOTALL)


# ---- README ----


def test_readme_begins_with_the_site_and_the_badges():
    first_screen = README[:2500]
    assert badges.site_address(badges.repository()) in first_screen
    assert badges.row("00_start_here.ipynb", badges.repository()) in README


def test_readme_commands_can_be_copied():
    commands = "\n".join(BLOCKS)
    assert f"git clone https://github.com/{badges.repository()}" in commands
    words_to_replace = set(re.findall(r"(?<!\S)[A-Z]{4,}\b(?!=)", commands)) - {"NVIDIA"}
    assert not words_to_replace, "a copied command would hold these words"
    pin = colab.read_pins(ROOT / "requirements.txt")["torch"]
    assert f"torch=={pin} --index-url https://download.pytorch.org/whl/cpu" in commands
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)):
        assert re.search(rf"(?m)^{target}:", makefile), f"make {target} is no target"
    for name in re.findall(r"-r (requirements\S*)|-c (\S+\.txt)", commands):
        assert (ROOT / "".join(name)).exists(), name


def test_readme_names_windows_solutions_and_what_figures_are():
    for words in ("Windows", "exercises/solutions", "**Live**", "**Stored**", "**Published**"):
        assert words in README, words
    assert "| T4 |" not in README and README.count("T4 has been measured") <= 1


def test_readme_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", README):
        assert (ROOT / target).exists(), target


def test_another_repository_changes_every_address_in_the_readme():
    made = badges.readme(README, "someone/else", badges.timings(), ROOT / "notebooks")
    assert badges.repository() not in made
    assert "git clone https://github.com/someone/else" in made
    assert "https://someone.github.io/else/" in made


def test_a_release_changes_every_badge_and_what_the_set_up_cell_clones(tmp_path, monkeypatch):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    path = badges.lesson_paths()[5]
    shutil.copy(path, tmp_path / "notebooks")
    badges.set_revision("v9.9.0", tmp_path)
    badges.rewrite(tmp_path)
    first = nbformat.read(tmp_path / "notebooks" / path.name, 4).cells[0].source
    assert f"/blob/v9.9.0/notebooks/{path.name}" in first and "/main" not in first
    assert "/v9.9.0?urlpath=" in first and "/tree/v9.9.0?quickstart" in first
    monkeypatch.setattr(badges, "SETUP_CELL", "git clone --branch {revision} {repository}")
    assert badges.setup_cell("a/b", "v9.9.0") == "git clone --branch v9.9.0 a/b"
    for wrong in ("-x", "a..b", "a b", "a/"):
        with pytest.raises(ValueError, match=r"REVISION=v0\.1\.0"):
            badges.set_revision(wrong, tmp_path)


# ---- make ----


def test_a_python_with_a_space_in_its_path_is_found(fresh):  # noqa: F811
    (fresh / "my tools").mkdir()
    old = script(
        fresh / "my tools" / "python3.9",
        'case "$1" in -V) echo "Python 3.9.18";; *) exit 1;; esac',
    )
    done = make("lab", f"PYTHON={old}", cwd=fresh)
    assert done.returncode and f"and {old} is Python 3.9.18" in done.stderr


def environment_there(fresh):  # noqa: F811
    """An installed environment of Python 3.11.7 whose Python only notes what it is asked."""
    (fresh / ".venv" / "bin").mkdir(parents=True)
    (fresh / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    script(fresh / ".venv" / "bin" / "python", 'echo "$* OMP=$OMP_NUM_THREADS" >> calls')


def test_another_python_beside_an_environment_is_not_passed_over_in_silence(fresh):  # noqa: F811
    environment_there(fresh)
    named = script(fresh / "python3.12", 'case "$1" in -V) echo "Python 3.12.4";; esac')
    done = make("install", f"PYTHON={named}", cwd=fresh)
    assert "made with Python 3.11.7, so" in done.stderr and "remove .venv first" in done.stderr
    assert "made with" not in make("install", cwd=fresh).stderr


def test_lab_opens_a_lesson_at_the_courses_root_with_one_thread(fresh):  # noqa: F811
    environment_there(fresh)
    (fresh / "notebooks").mkdir()
    for name in ("00_start_here.ipynb", "05_lora.ipynb"):
        (fresh / "notebooks" / name).touch()
    clean = {"OMP_NUM_THREADS": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""}

    def last(*arguments):
        assert make("lab", *arguments, cwd=fresh, **clean).returncode == 0
        return (fresh / "calls").read_text().splitlines()[-1]

    assert last().endswith("/lab/tree/notebooks/00_start_here.ipynb OMP=1")
    assert last("LESSON=05").endswith("/lab/tree/notebooks/05_lora.ipynb OMP=1")
    assert last("THREADS=4").endswith("OMP=4") and last("BASE=smollm").endswith("OMP=")


def test_torch_for_a_cpu_is_installed_first(fresh):  # noqa: F811
    environment_there(fresh)
    assert make("install", "TORCH=cpu", cwd=fresh).returncode == 0
    installs = [c for c in (fresh / "calls").read_text().splitlines() if "pip install" in c]
    pin = colab.read_pins(ROOT / "requirements.txt")["torch"]
    assert f"torch=={pin} --index-url https://download.pytorch.org/whl/cpu" in installs[0]
    assert "-r requirements.txt" in installs[1]
    assert "--quiet" not in installs[1]  # pip shows what it is doing


# ---- make run ----


def test_a_lesson_that_stops_says_so_last_and_in_its_copy(folder, capsys):  # noqa: F811
    path = lesson(folder, "print(1)", "raise ValueError('no such column')", "print(3)")
    before = path.read_text()
    with pytest.raises(notebooks.Problem) as problem:
        notebooks.run_copy("98", folder / "runs")
    lines = str(problem.value).splitlines()
    assert lines[-2] == (
        "98_tiny.ipynb stopped: code cell 1 raised ValueError: no such column "
        "(section “98 · Tiny”). The cells after it did not run."
    )
    assert lines[-1] == f"The copy, up to that cell: {folder / 'runs' / '98_tiny.ipynb'}"
    assert "Traceback" in str(problem.value) and "\x1b[" not in str(problem.value)
    copy = nbformat.read(folder / "runs" / "98_tiny.ipynb", 4)
    assert "98_tiny.ipynb stopped" in copy.cells[-1].source and path.read_text() == before


def test_a_run_tells_its_sections_as_it_goes(folder, capsys):  # noqa: F811
    path = lesson(folder, "print(1)", "print(2)")
    notebook = nbformat.read(path, 4)
    notebook.cells.insert(2, nbformat.v4.new_markdown_cell("## Break it"))
    notebooks.save(notebook, path)
    notebooks.run_copy("98", folder / "runs")
    told = capsys.readouterr().out
    assert re.search(r"\d s  cell  1 of 2  98 · Tiny\n", told)
    assert re.search(r"\d s  cell  2 of 2  Break it\n", told)


def test_in_an_open_notebook_a_cell_that_stops_says_what_it_means(folder, monkeypatch):  # noqa: F811
    """The traceback may be far above where "Run All" leaves the reader: a sentence ends it."""
    start = "from utils import colab\ncolab.tell_where_it_stopped()\n" * 2
    path = lesson(folder, start, "raise ValueError('no such column')", "print(3)")
    notebook = nbformat.read(path, 4)
    import nbclient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PEFT_COURSE_QUIET", "0")
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    stopped = next(c for c in notebook.cells if "no such" in c.source)
    said = "".join(o.get("text", "") for o in stopped.outputs)
    assert said.count("This cell stopped with ValueError.") == 1 and "git checkout" in said
    assert [o.get("text") for o in notebook.cells[-1].outputs] == ["3\n"]


def test_a_kernel_that_ends_is_a_sentence(folder):  # noqa: F811
    lesson(folder, "import os\nos._exit(1)")
    with pytest.raises(notebooks.Problem, match="cut off .*interrupted, or memory ran out"):
        notebooks.run_copy("98", folder / "runs")


def test_run_without_a_lesson_asks_which(folder):  # noqa: F811
    with pytest.raises(notebooks.Problem, match="Which lesson.*make run LESSON=05"):
        notebooks.run_copy("", folder / "runs")


def test_after_three_wrong_answers_the_solution_is_named(capsys):
    from exercises import lesson_13

    check = lesson_13.steps_per_epoch
    check.tried = 0
    for answer in (..., lambda *_: "5%", lambda *_: 0, lambda *_: -1):
        check(answer)
    told = capsys.readouterr().out.splitlines()
    assert "to do" in told[0] and ["solutions" in line for line in told] == [False] * 3 + [True]
    assert "exercises/solutions/lesson_13.py" in told[3] and "steps_per_epoch(" not in told[1]
    assert (ROOT / "exercises" / "solutions" / "lesson_13.py").exists()
    check.tried = 0


# ---- threads ----


def test_pocket_computes_with_one_thread_and_larger_bases_with_the_cores_there_are(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    assert notebooks.threads("pocket-m") == 1
    assert notebooks.threads() == notebooks.usable_cores() >= 1
    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket")
    assert notebooks.environment(closed=False)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert notebooks.environment(closed=False)["OMP_NUM_THREADS"] == "3"
    assert notebooks.environment(closed=True)["OMP_NUM_THREADS"] == "1"
    assert notebooks.environment(closed=False)["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(
    "text, most", [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1)]
)
def test_a_containers_quota_counts(text, most, tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text(text + "\n")
    without = notebooks.usable_cores(tmp_path / "not there")
    assert notebooks.usable_cores(quota) == (most or without)


# ---- a folder that cannot be written, and whose name has a space ----


# Root may write anywhere, so for root the copy is mounted read-only, in a namespace of its own.
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && shift && exec "$@"'


@pytest.fixture
def read_only():
    """A copy of the checkout in "my course": (a function that runs a command in it, its parent)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of its files")
    above = pathlib.Path(tempfile.mkdtemp(prefix="new comer "))
    copy = above / "my course"
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    folders = [path for path in (copy, *copy.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    environment = {**os.environ, "PYTHONPATH": str(copy / "tests" / "closed_network")}
    prefix = ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(copy)] if os.geteuid() == 0 else []

    def there(*command):
        return subprocess.run(
            [*prefix, *map(str, command)],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    if there("touch", "x").returncode == 0 or there("true").returncode:
        pytest.skip("nothing can be made read-only here")
    yield there, above
    for path in folders:
        path.chmod(0o755)
    shutil.rmtree(above)


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_a_read_only_checkout_in_a_path_with_a_space(read_only):
    """Lesson 00 runs from it into another folder; what would write to it says so in a sentence."""
    there, above = read_only
    run = [sys.executable, "-m", "tools.notebooks", "run", "00", "--to"]
    done = there(*run, "build/runs")
    assert done.returncode == 1 and "Nothing can be written to build/runs" in done.stderr
    assert "Traceback" not in done.stderr
    done = there(*run, above / "my runs")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (above / "my runs" / "00_start_here.ipynb").exists()
    done = there(sys.executable, "-m", "tools.notebooks", "lint", "00")
    assert done.stdout.startswith("00_start_here.ipynb: in order"), done.stderr
    done = there("make", "install", f"PYTHON={sys.executable}")
    assert done.returncode and "Nothing can be written here" in done.stderr
    assert "python3-venv" not in done.stderr
