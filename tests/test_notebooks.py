"""Every lesson keeps to the anatomy, the rules themselves can fail, and the closed network is
closed in kernels too.
"""

import json
import pathlib
import socket
import subprocess
import sys

import nbformat
import pytest
import yaml

from tools import badges, lint, notebooks
from utils import ROOT

LESSONS = badges.lesson_paths()
REPO = badges.repository()
SANITIZE = ROOT / "tests" / "nbval_sanitize.cfg"


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_lesson_is_in_order(path):
    assert lint.faults(path) == []


def test_every_notebook_is_a_numbered_lesson():
    assert sorted((ROOT / "notebooks").glob("*.ipynb")) == LESSONS
    numbers = [p.name[:2] for p in LESSONS]
    assert len(set(numbers)) == len(numbers)


def test_badges_table_and_cost_lines_are_as_the_tool_writes_them(tmp_path):
    """`python -m tools.badges` on a copy changes nothing; with another repository it changes every
    badge.
    """
    for name in ("README.md", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    for path in LESSONS:
        (tmp_path / "notebooks" / path.name).write_text(
            path.read_text(encoding="utf-8"), encoding="utf-8"
        )
    assert badges.rewrite(tmp_path) == []
    badges.set_repository("someone/else", tmp_path)
    assert len(badges.rewrite(tmp_path)) == len(LESSONS) + bool(LESSONS)
    for path in (tmp_path / "notebooks").iterdir():
        text = path.read_text(encoding="utf-8")
        assert (
            f"github/someone/else/blob/{badges.revision()}/notebooks/{path.name}" in text
            and "https://github.com/someone/else" in text
        )
        assert REPO not in text


def test_a_repository_must_look_like_one(tmp_path):
    with pytest.raises(ValueError, match="REPO=owner/name"):
        badges.set_repository("https://github.com/a/b", tmp_path)


def test_lesson_13_asks_colab_for_a_t4():
    made = badges.dress(good(), "13_mistral.ipynb", REPO, {})
    assert made.metadata.accelerator == "GPU" and made.metadata.colab == {
        "name": "13_mistral.ipynb",
        "gpuType": "T4",
    }
    assert "accelerator" not in badges.dress(good(), "05_lora.ipynb", REPO, {}).metadata


def test_uncompared_cells_name_lessons_that_exist():
    listed = yaml.safe_load(lint.UNCOMPARED.read_text(encoding="utf-8")) or {}
    assert set(listed) <= {p.stem for p in LESSONS}


# ---- red cases: a tiny lesson in order, and one fault at a time ----


def code(source, text="", tags=()):
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {})
    if text:
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
    return cell


def good():
    """A lesson that the lint finds in order, as lesson 98."""
    cells = [
        nbformat.v4.new_markdown_cell("# 98 · A tiny lesson\n\n**Is it in order?**"),
        code("", "base\n", ["setup"]),
        code("plot()"),
        code("print(1)", "1\n"),
        code("print(2)", "2\n"),
        code("print(3)", "3\n"),
        code("print(4)", "4\n"),
        code("check()", "your turn\n", ["exercise"]),
        code("print('recap')", "recap\n", ["recap"]),
    ]
    cells[2].outputs = [
        nbformat.v4.new_output(
            "display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"}
        )
    ]
    for count, cell in enumerate(cells[1:], 1):
        cell.execution_count = count
    return notebooks.normalise(
        badges.dress(nbformat.v4.new_notebook(cells=cells), "98_tiny.ipynb", REPO, {})
    )


def faults(notebook, folder, listed=None):
    path = folder / "98_tiny.ipynb"
    notebooks.save(notebook, path)
    return lint.faults(path, REPO, listed or {})


def test_a_lesson_in_order_has_no_faults(tmp_path):
    assert faults(good(), tmp_path) == []


def change(position, **fields):
    def changed(notebook):
        for name, value in fields.items():
            setattr(notebook.cells[position], name, value)

    return changed


def stream(position, text, name="stdout"):
    return change(position, outputs=[nbformat.v4.new_output("stream", name=name, text=text)])


def drop_tag(position):
    return lambda notebook: notebook.cells[position].metadata.pop("tags")


def add_to_first(text):
    def changed(notebook):
        notebook.cells[0].source += "\n\n" + text

    return changed


RED = {
    "title": (
        lambda n: setattr(n.cells[0], "source", n.cells[0].source.replace("98 ·", "97 ·")),
        "should begin with '# 98 ·",
    ),
    "question": (
        lambda n: setattr(
            n.cells[0], "source", n.cells[0].source.replace("**Is it in order?**", "Fine.")
        ),
        "question in bold",
    ),
    "no exercise": (drop_tag(-2), "no cell is tagged exercise"),
    "no recap": (drop_tag(-1), "no cell is tagged recap"),
    "no set-up": (drop_tag(1), "no cell is tagged setup"),
    "no figure": (change(2, outputs=[]), "no figure"),
    "badge": (
        lambda n: setattr(
            n.cells[0], "source", n.cells[0].source.replace("98_tiny.ipynb", "97_tiny.ipynb")
        ),
        "badges do not lead",
    ),
    "set-up": (
        lambda n: setattr(n.cells[1], "source", n.cells[1].source + "\nx = 1"),
        "set-up cell differs",
    ),
    "wide line": (change(3, source="x = '" + "a" * 106 + "'"), "a line of 112 characters"),
    "long cell": (change(3, source="x = 1\n" * 26), "26 lines; 25 are allowed"),
    "median": (
        lambda n: [setattr(c, "source", "x = 1\n" * 16) for c in n.cells[2:]],
        "more than 15 lines",
    ),
    "wordy": (add_to_first("word " * 121), "words; 120 are allowed"),
    "loud": (add_to_first("Great!"), "exclamation mark"),
    "order": (change(3, execution_count=9), "from top to bottom"),
    "not run": (change(3, execution_count=None), "from top to bottom"),
    "stderr": (stream(3, "oops", "stderr"), "wrote to stderr: oops"),
    "warning": (stream(3, "x.py:3: UserWarning: careful"), "shows a warning"),
    "bar": (stream(3, " 45%|####      | 9/20"), "shows a progress bar"),
    "path": (stream(3, "saved in /home/me/course/x"), "shows an absolute path"),
    "widget": (
        change(
            3,
            outputs=[
                nbformat.v4.new_output(
                    "display_data", data={"application/vnd.jupyter.widget-view+json": {}}
                )
            ],
        ),
        "shows a widget",
    ),
    "error": (
        change(
            3,
            outputs=[
                nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
            ],
        ),
        "raised ValueError: no",
    ),
    "widgets": (lambda n: n.metadata.update(widgets={}), "metadata or cell ids"),
    "time stamps": (
        lambda n: n.cells[3].metadata.update(execution={"start": "now"}),
        "metadata or cell ids",
    ),
    "unlisted": (change(3, source="# NBVAL_IGNORE_OUTPUT\nprint(1)"), "'print(1)' is not compared"),
    "unlisted tag": (
        lambda n: n.cells[3].metadata.update(tags=["nbval-skip"]),
        "'print(1)' is not compared",
    ),
    "large": (
        lambda n: n.cells[2].outputs[0].data.update({"image/png": "A" * 1_000_000}),
        "MB are allowed",
    ),
}


@pytest.mark.parametrize("case", RED)
def test_lint_goes_red(case, tmp_path):
    spoil, says = RED[case]
    notebook = good()
    spoil(notebook)
    assert any(says in fault for fault in faults(notebook, tmp_path)), faults(notebook, tmp_path)


def test_a_reason_settles_one_uncompared_cell_but_not_a_fifth_of_them(tmp_path):
    notebook = good()
    notebook.cells[3].source = "# NBVAL_IGNORE_OUTPUT\nprint(1)"
    notebooks.normalise(notebook)
    reason = {"98_tiny": {"print(1)": "a sampled text"}}
    assert faults(notebook, tmp_path, reason) == []
    assert "remove the entry" in faults(good(), tmp_path, reason)[0]
    notebook.cells[4].source = "# NBVAL_IGNORE_OUTPUT\nprint(2)"
    notebooks.normalise(notebook)
    reason["98_tiny"]["print(2)"] = "another"
    assert (
        "5 of 7 code cells with text output are compared" in faults(notebook, tmp_path, reason)[0]
    )


def test_words_leave_out_tables_formulas_and_code():
    assert (
        lint.words(
            "Two words, $a + b$ and\n\n| a | b |\n|---|---|\n\n$$\nx = y\n$$\n\n```\nfour "
            "five\n```\n`code`"
        )
        == 3
    )


# ---- running, text and back ----


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The tools look at lessons in here instead of notebooks/."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "SOURCES", tmp_path / "build")
    monkeypatch.setattr(
        notebooks,
        "environment",
        lambda closed=True, real=notebooks.environment: {
            **real(closed),
            "PYTHONPATH": str(ROOT / "tests" / "closed_network") if closed else "",
        },
    )
    monkeypatch.setattr(badges, "TIMINGS", tmp_path / "timings.json")
    monkeypatch.setattr(badges, "repository", lambda: REPO)
    return tmp_path


def lesson(folder, *cells):
    """98_tiny.ipynb with a title and these code cells."""
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# 98 · Tiny\n\n**Does it run?**"), *map(code, cells)]
    )
    notebooks.save(
        notebooks.normalise(badges.dress(made, "98_tiny.ipynb", REPO, {})), folder / "98_tiny.ipynb"
    )
    return folder / "98_tiny.ipynb"


def test_execute_stores_outputs_times_and_memory_with_the_network_closed(folder):
    path = lesson(
        folder,
        "import os, socket\nprint(os.environ['HF_HUB_OFFLINE'], os.environ['OMP_NUM_THREADS'], "
        f"os.getcwd() == {str(folder)!r})",
        "try:\n    socket.create_connection(('pypi.org', 443), 3)\nexcept OSError as error:\n    "
        "print(type(error).__name__, error)",
    )
    notebooks.execute_in_place("98")
    first, second = (c for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    assert first.outputs[0].text == "1 1 True\n"
    assert second.outputs[0].text.startswith(
        "NetworkIsClosed The network is closed during tests, and something asked for pypi.org"
    )
    measured = json.loads((folder / "timings.json").read_text())["98"]
    assert (
        0 < measured["seconds"] < 120 and measured["processor"] and measured["versions"]["python"]
    )
    assert sys.platform != "linux" or 20 < measured["peak_mib"] < 2000
    assert f"CPU (one core) {measured['seconds']:.0f} s" in nbformat.read(path, 4).cells[0].source


def test_execute_refuses_a_failing_or_noisy_lesson_and_leaves_it_as_it_was(folder):
    for source, says in (
        ("print(1)\n1 / 0", "code cell 0 raised ZeroDivisionError"),
        (
            "import warnings; warnings.warn('careful')",
            "code cell 0 (import warnings; warnings.warn('careful')) wrote to stderr",
        ),
    ):
        path = lesson(folder, source)
        before = path.read_text()
        with pytest.raises(notebooks.Problem) as problem:
            notebooks.execute_in_place("98")
        assert says in str(problem.value) and "The stored notebook is as it was" in str(
            problem.value
        )
        assert path.read_text() == before and not (folder / "timings.json").exists()


def test_run_leaves_the_notebook_alone(folder, capsys):
    path = lesson(folder, "print(6 * 7)")
    before = path.read_text()
    notebooks.run_copy("98", folder / "runs")
    assert path.read_text() == before and "42" in (folder / "runs" / "98_tiny.ipynb").read_text()
    assert str(folder / "runs" / "98_tiny.ipynb") in capsys.readouterr().out


def test_text_and_back_gives_the_same_notebook(folder):
    source = folder / "98_tiny.py"
    source.write_text(
        '# %% [markdown]\n# # 98 · Tiny\n#\n# **Same?** $x_1$\n\n# %% tags=["setup"]\n\n# '
        '%%\nprint(1)\n\n# %% tags=["recap"]\nprint(1)\n'
    )
    notebooks.from_py(source)
    made = nbformat.read(folder / "98_tiny.ipynb", 4)
    assert made.cells[1].source == badges.setup_cell(REPO)
    assert len({c.id for c in made.cells}) == 4 and made.cells[3].metadata.tags == ["recap"]
    first = (folder / "98_tiny.ipynb").read_text()
    notebooks.to_py("98")
    notebooks.from_py(folder / "build" / "98_tiny.py")
    assert (folder / "98_tiny.ipynb").read_text() == first


def test_outputs_stay_with_unchanged_code_only(folder):
    path = lesson(folder, "print(1)")
    notebook = nbformat.read(path, 4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    notebooks.save(notebook, path)
    notebooks.to_py("98")
    text = folder / "build" / "98_tiny.py"
    text.write_text(text.read_text().replace("Does it run?", "Does it still run?"))
    notebooks.from_py(text)
    assert nbformat.read(path, 4).cells[1].outputs
    text.write_text(text.read_text().replace("print(1)", "print(2)"))
    notebooks.from_py(text)
    assert not nbformat.read(path, 4).cells[1].outputs


def test_a_number_that_is_not_there_names_those_that_are(folder):
    lesson(folder, "print(1)")
    with pytest.raises(
        notebooks.Problem,
        match="There is no lesson 77. Lessons in notebooks/: 98. Example: make run LESSON=98",
    ):
        notebooks.find("77")
    assert notebooks.find("98_tiny").name == "98_tiny.ipynb"


# ---- nbval itself ----


def nbval(folder):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "pyproject.toml",
    ]
    command += ["--nbval", "--nbval-sanitize-with", SANITIZE, "tests/conftest.py", folder]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_nbval_compares_outputs_and_rewrites_only_what_cannot_be_the_same_twice(tmp_path):
    cells = [
        code(
            "print('took 3.2 s, 812 MiB measured, 1,234 tokens/s, 1.08× the time; loss 0.25')",
            "took 14.9 s, 9 MiB measured, 7 tokens/s, 2.50× the time; loss 0.25\n",
        ),
        code("print('loss 0.28')", "loss 0.25\n"),
    ]
    for count, cell in enumerate(cells, 1):
        cell.execution_count = count
    path = tmp_path / "98_tiny.ipynb"
    notebooks.save(
        badges.dress(
            nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 98 · Tiny"), *cells]),
            path.name,
            REPO,
            {},
        ),
        path,
    )
    done = nbval(tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout[-2000:]


# ---- the closed network ----


def test_the_network_is_closed_here_and_loopback_is_open():
    for call in (
        lambda: socket.create_connection(("192.0.2.1", 80), 1),
        lambda: socket.getaddrinfo("example.com", 80),
        lambda: socket.socket().connect(("192.0.2.1", 80)),
        lambda: socket.gethostbyname("example.com"),
    ):
        with pytest.raises(OSError, match="The network is closed during tests"):
            call()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname(), 1).close()


def test_the_network_is_closed_in_python_processes_that_tests_start():
    done = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('example.com', 80))"],
        capture_output=True,
        text=True,
    )
    assert done.returncode and "The network is closed during tests" in done.stderr


def test_make_test_closes_the_network():
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    line = next(l for l in text.splitlines() if l.startswith("CLOSED"))
    assert (
        "tests/closed_network" in line
        and "OMP_NUM_THREADS=1" in line
        and "PEFT_COURSE_QUIET=1" in line
    )
    assert pathlib.Path(ROOT / "tests" / "closed_network" / "sitecustomize.py").exists()


def test_a_mark_for_nbval_is_a_tag_that_no_reader_sees():
    cell = code("## NBVAL_SKIP\nprint(1)", "1\n", ["try-it"])
    plain = code("print(1)", "1\n")
    made = notebooks.normalise(nbformat.v4.new_notebook(cells=[cell, plain]))
    assert made.cells[0].source == made.cells[1].source == "print(1)"
    assert made.cells[0].metadata.tags == ["try-it", "nbval-skip"]
    assert "tags" not in made.cells[1].metadata and lint.is_uncompared(made.cells[0])
