"""Run all, and run all again: in one kernel, and in a second kernel beside what the first has left.

Slow, so only in `make test-all`. Lesson 13's own test (test_capstone.py) is in `make test`.
"""

import nbformat
import pytest

from tools import badges, notebooks

LESSONS = badges.lesson_paths()


def twice(notebook):
    """A notebook with all cells twice, so that the second round meets the names of the first."""
    again = nbformat.from_dict(notebook)
    again.cells = [*notebook.cells, *nbformat.from_dict(notebook).cells]
    for number, cell in enumerate(again.cells):
        again.cells[number] = nbformat.from_dict({**cell, "id": f"cell-{number}"})
    return again


def text(cell):
    return [notebooks.output_text(output) for output in cell.get("outputs", [])]


def test_the_second_round_sees_the_first():
    cells = [nbformat.v4.new_code_cell(s) for s in ("print('n' in globals())", "n = 1")]
    made = twice(nbformat.v4.new_notebook(cells=cells))
    notebooks.execute(made, ".")
    assert [text(cell) for cell in made.cells] == [["False\n"], [], ["True\n"], []]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
def test_run_all_twice_in_one_kernel_and_once_more_in_another(path, monkeypatch):
    monkeypatch.delenv("PEFT_COURSE_BASE", raising=False)
    lesson = nbformat.read(path, 4)
    notebooks.execute(twice(lesson), path.parent)  # raises Problem at the cell that stops
    notebooks.execute(lesson, path.parent)
