"""Folded cells have one form, reading a lesson changes nothing that counts, lint reports all."""

import subprocess
import sys

import nbformat
import pytest
from test_notebooks import REPO, code, faults, good, lesson

from tools import badges, lint, notebooks, pages
from utils import ROOT

FOLD = "# @title Draw the losses\nprint(1)"


def saved_by_jupyterlab(notebook):
    """What JupyterLab 4.6 writes when a lesson is opened, looked through and saved."""
    notebook.metadata.language_info = {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": "3.12.4",
    }
    notebook.metadata.kernelspec["display_name"] = "Python 3 (ipykernel)"
    notebook.cells[0].metadata["jp-MarkdownHeadingCollapsed"] = True
    notebook.cells[3].metadata.update(collapsed=True, scrolled=True, editable=True)
    notebook.cells[4].metadata["jupyter"] = {"outputs_hidden": True}


def test_opening_and_saving_a_lesson_is_no_fault_and_no_change(tmp_path):
    notebook = good()
    saved_by_jupyterlab(notebook)
    assert faults(notebook, tmp_path) == []
    assert pages.essence(notebook) == pages.essence(good())


def test_saved_lessons_leave_badges_alone(tmp_path):
    for name in ("README.md", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    for path in badges.lesson_paths():
        notebook = nbformat.read(path, 4)
        saved_by_jupyterlab(notebook)
        notebooks.save(notebook, tmp_path / "notebooks" / path.name)
    assert badges.rewrite(tmp_path) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda n: n.cells[3].metadata.update(tags=["train"]),
        lambda n: n.metadata.kernelspec.update(name="julia"),
        lambda n: n.cells[3].update(source="print(3)"),
        lambda n: n.cells[3].outputs[0].update(text="2\n"),
        lambda n: n.metadata.colab.update(name="other"),
    ],
)
def test_what_counts_is_seen(spoil):
    notebook = good()
    spoil(notebook)
    assert pages.essence(notebook) != pages.essence(good())


# ---- folded cells ----


def folded():
    notebook = good()
    notebook.cells[3].source = FOLD
    notebook.cells[3].metadata.tags = ["hide-input", "train"]
    return pages.normalise(notebook)


def test_a_tag_folds_a_cell_everywhere_and_nothing_else_does(tmp_path):
    notebook = folded()
    assert notebook.cells[3].metadata == {
        "tags": ["hide-input", "train"],
        "jupyter": {"source_hidden": True},
        "cellView": "form",
    }
    assert faults(notebook, tmp_path) == []
    notebook.cells[3].metadata.tags = ["train"]
    notebook.cells[0].metadata.tags = ["hide-input"]  # prose cannot be folded this way
    pages.normalise(notebook)
    assert notebook.cells[3].metadata == {"tags": ["train"]}
    assert notebook.cells[0].metadata == {"tags": ["hide-input"]}


def test_a_reader_may_unfold_and_save(tmp_path):
    notebook = folded()
    del notebook.cells[3].metadata["jupyter"]
    assert faults(notebook, tmp_path) == []


def test_folds_survive_text_and_back(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "SOURCES", tmp_path)
    path = lesson(tmp_path, "print(1)")
    notebooks.to_py("98")
    text = tmp_path / "98_tiny.py"
    text.write_text(text.read_text().replace("# %%\nprint(1)", f'# %% tags=["hide-input"]\n{FOLD}'))
    notebooks.from_py(text)
    made = nbformat.read(path, 4)
    assert made.cells[1].source == FOLD and made.cells[1].metadata.cellView == "form"
    first = path.read_text()
    notebooks.to_py("98")
    notebooks.from_py(text)
    assert path.read_text() == first


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda c: c.update(source="print(1)"), "say on its first line"),
        (lambda c: c.metadata.update(tags=["train"]), "begins with @title"),
        (lambda c: c.metadata.pop("cellView"), "not marked for Colab"),
    ],
)
def test_a_half_folded_cell_is_a_fault(change, says, tmp_path):
    notebook = folded()
    change(notebook.cells[3])
    assert any(says in fault for fault in faults(notebook, tmp_path))


# ---- width ----


def test_code_is_a_hundred_wide_and_old_lessons_have_an_allowance_that_shrinks(tmp_path, capsys):
    notebook = good()
    notebook.cells[3].source = "x = '" + "a" * 95 + "'"
    path = tmp_path / "98_tiny.ipynb"
    notebooks.save(notebook, path)
    assert any("a line of 101 characters" in f for f in lint.faults(path, REPO, {}, {}))
    notebooks.save(notebooks.normalise(notebook), path)
    assert lint.faults(path, REPO, {}, {"98_tiny": 1}) == []
    notebook.cells[4].source = notebook.cells[3].source
    notebooks.save(notebooks.normalise(notebook), path)
    assert len([f for f in lint.faults(path, REPO, {}, {"98_tiny": 1}) if "101 char" in f]) == 2
    notebook.cells[4].source = "x = '" + "a" * 105 + "'"
    notebooks.save(notebooks.normalise(notebook), path)
    assert any("a line of 111" in f for f in lint.faults(path, REPO, {}, {"98_tiny": 2}))


def test_wide_cells_lists_lessons_that_exist():
    assert set(lint.listing(lint.WIDE_CELLS)) <= {p.stem for p in badges.lesson_paths()}


# ---- lint reports ----


@pytest.mark.parametrize(
    "text, says",
    [
        ("{", "not a notebook that can be read"),
        ('{"cells": 3}', "not a notebook that can be read"),
        ("<<<<<<< HEAD\n{}", "not a notebook that can be read"),
        ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "has no cells"),
    ],
)
def test_a_broken_file_is_one_sentence(text, says, tmp_path):
    path = tmp_path / "98_tiny.ipynb"
    path.write_text(text)
    found = lint.faults(path, REPO, {}, {})
    assert len(found) == 1 and says in found[0]


def test_an_empty_first_cell_is_a_fault_and_no_traceback(tmp_path):
    notebook = good()
    notebook.cells[0].source = ""
    assert any("should begin with '# 98" in fault for fault in faults(notebook, tmp_path))


def test_lint_from_the_command_line_reports_and_fails_without_a_traceback(tmp_path):
    """The way `make lint` calls it: main's own Problem is the one that lint raises."""
    notebook = good()
    notebook.cells[3].source = "x = '" + "a" * 120 + "'"
    notebooks.save(notebook, tmp_path / "98_tiny.ipynb")
    start = f"""
import pathlib, runpy, sys
from tools import badges
badges.lesson_paths = lambda folder=None: [pathlib.Path({str(tmp_path)!r}) / "98_tiny.ipynb"]
sys.argv = ["notebooks", "lint"]
runpy.run_module("tools.notebooks", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "98_tiny.ipynb: cell 4" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_lint_and_notebooks_do_not_import_each_other():
    assert "notebooks" not in vars(lint) and not hasattr(pages, "lint")
    assert code("x = 1").cell_type == "code"
