"""Every exercise: its solution passes, its stub does not, and every listed wrong answer gets its
own hint.
"""

import importlib
import pathlib
import re

import nbformat
import pytest

from utils import ROOT

LESSONS = sorted(p.stem for p in (ROOT / "exercises").glob("lesson_*.py"))


def cases(kind):
    for lesson in LESSONS:
        solutions = importlib.import_module(f"exercises.solutions.{lesson}")
        for name, sources in getattr(solutions, kind).items():
            for source in [sources] if isinstance(sources, str) else sources:
                yield pytest.param(
                    lesson,
                    name,
                    source,
                    id=f"{lesson}-{name}-{source[1] if isinstance(source, tuple) else 'solution'}",
                )


def verdict(lesson, name, source):
    """(passed, text) of the check `name` on the object `answer` that the source defines."""
    space = {}
    exec(source, space)
    return getattr(importlib.import_module(f"exercises.{lesson}"), name).judge(space["answer"])


@pytest.mark.parametrize("lesson, name, source", list(cases("SOLUTIONS")))
def test_solution_passes(lesson, name, source):
    passed, text = verdict(lesson, name, source)
    assert passed, text


@pytest.mark.parametrize("lesson, name, case", list(cases("WRONG")))
def test_wrong_answer_gets_its_hint(lesson, name, case):
    source, fragment = case
    passed, text = verdict(lesson, name, source)
    assert not passed and text.startswith("not yet.") and fragment in text, text


@pytest.mark.parametrize("lesson", LESSONS)
def test_notebook_calls_every_check_with_an_untouched_stub(lesson):
    """Each check is called in one exercise cell of its notebook, and that cell's stored output asks
    for the work.
    """
    number = lesson.removeprefix("lesson_")
    paths = list(pathlib.Path(ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    if not paths:
        pytest.skip(f"lesson {number} has no notebook yet")
    cells = [
        c for c in nbformat.read(paths[0], 4).cells if "exercise" in c.metadata.get("tags", [])
    ]
    solutions = importlib.import_module(f"exercises.solutions.{lesson}")
    assert set(solutions.SOLUTIONS) == set(solutions.WRONG)
    for name in solutions.SOLUTIONS:
        cell = [c for c in cells if re.search(rf"lesson_{number}\.{name}\(", c.source)]
        assert len(cell) == 1, f"{name} should be called in exactly one exercise cell"
        text = "".join(o.get("text", "") for o in cell[0].outputs)
        assert re.search(r"Exercise \d+: to do\.", text), (
            f"the stub of {name} should be told what to do, got {text!r}"
        )
