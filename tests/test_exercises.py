"""Every exercise: its solution passes in every reasonable type, its stub and a forgotten `return` are told so, and
every listed mistake gets its own true hint. exercises/solutions/lesson_XX.py holds SOLUTIONS and MISTAKES."""

import fractions
import functools
import importlib
import inspect
import itertools
import linecache
import pathlib
import re

import nbformat
import numpy as np
import pytest
import torch

from utils import ROOT, checks

LESSONS = sorted(p.stem for p in (ROOT / "exercises").glob("lesson_*.py"))
SOLUTIONS = {n: importlib.import_module(f"exercises.solutions.{n}") for n in LESSONS}


def function(source):
    """The learner's function: a function as it is, or the `answer` that a source text defines."""
    if not isinstance(source, str):
        return source
    name, space = f"<answer {abs(hash(source))}>", {}
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), space)
    return space["answer"]


def check(lesson, name):
    return getattr(importlib.import_module(f"exercises.{lesson}"), name)


def solutions(lesson, name):
    given = SOLUTIONS[lesson].SOLUTIONS[name]
    return [function(s) for s in (given if isinstance(given, list) else [given])]


def mistakes(lesson, name):
    """[(name, function, part of the hint)]; the older WRONG, pairs of source and hint, is read as well."""
    if hasattr(SOLUTIONS[lesson], "MISTAKES"):
        listed = SOLUTIONS[lesson].MISTAKES.get(name, [])
        return [(label, function(wrong), part) for label, wrong, part in listed]
    return [(part, function(wrong), part) for wrong, part in SOLUTIONS[lesson].WRONG.get(name, [])]


EXERCISES = [(lesson, name) for lesson in LESSONS for name in SOLUTIONS[lesson].SOLUTIONS]
JUDGED_ALIKE = [e for e in EXERCISES if hasattr(SOLUTIONS[e[0]], "MISTAKES")]
each_exercise = pytest.mark.parametrize(
    "lesson, name", EXERCISES, ids=[f"{a[-2:]}-{b}" for a, b in EXERCISES]
)
each_judged_alike = pytest.mark.parametrize(
    "lesson, name", JUDGED_ALIKE, ids=[f"{a[-2:]}-{b}" for a, b in JUDGED_ALIKE]
)

# The solution, in every type


def numeric(values):
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def forms(value):
    """[(what it is, the same value in another reasonable type)]."""
    if isinstance(value, bool | str) or value is None:
        return [("as it is", value)]
    if isinstance(value, int | float | np.generic):
        value = value.item() if isinstance(value, np.generic) else value
        whole = isinstance(value, int)
        return [
            ("float", float(value)),
            ("numpy scalar", np.int64(value) if whole else np.float64(value)),
            ("numpy float32", np.float32(value)),
            ("0-d array", np.array(value)),
            ("0-d tensor", torch.tensor(value)),
            ("float tensor", torch.tensor(float(value))),
            ("tensor of one", torch.tensor([value], dtype=torch.float64)),
            ("fraction", fractions.Fraction(value)),
        ]
    if isinstance(value, torch.Tensor | np.ndarray):
        t = torch.as_tensor(value)
        if t.ndim == 0:
            return forms(t.item())
        found = [("tensor", t), ("numpy", t.numpy()), ("nested lists", t.tolist())]
        if t.is_floating_point():
            found += [("float64", t.double()), ("with a gradient", t.clone().requires_grad_())]
        return [*found, ("list of tensors", list(t)), ("tuple", tuple(t.tolist()))]
    if isinstance(value, list | tuple):
        found = [("list", list(value)), ("tuple", tuple(value)), ("generator", (v for v in value))]
        if value and numeric(value):
            found += [("numpy", np.array(value)), ("tensor", torch.tensor(value))]
            found += [("floats", [float(v) for v in value])]
        for label, _ in forms(value[0]) if value else []:
            parts = [dict(forms(v)).get(label, v) for v in value]
            found += [(f"{label} in a list", parts)]
        return found
    return [("as it is", value)]


def in_form(answer, label):
    """A function that gives what `answer` gives, in the form of that label."""

    @functools.wraps(answer)
    def other(*arguments):
        value = answer(*arguments)
        return dict(forms(value)).get(label, value)

    return other


def labels(lesson, name):
    """The forms of what the solution gives, found out by running the check once."""
    seen = []

    def spy(answer):
        @functools.wraps(answer)
        def run(*arguments):
            seen.append(answer(*arguments))
            return seen[-1]

        return run

    check(lesson, name).judge(spy(solutions(lesson, name)[0]))
    return list(dict.fromkeys(label for value in seen for label, _ in forms(value)))


@each_exercise
def test_solution_passes(lesson, name):
    for answer in solutions(lesson, name):
        passed, text = check(lesson, name).judge(answer)
        assert passed and text.startswith("passed."), text


@each_judged_alike
def test_solution_passes_in_every_type(lesson, name):
    for label in labels(lesson, name):
        passed, text = check(lesson, name).judge(in_form(solutions(lesson, name)[0], label))
        assert passed, f"as {label}: {text}"


# What is wrong


@each_exercise
def test_every_mistake_gets_its_hint(lesson, name):
    listed = mistakes(lesson, name)
    assert len(listed) >= 6, f"{lesson}, {name}: list at least six plausible mistakes"
    assert len({label for label, *_ in listed}) == len(listed) or not hasattr(
        SOLUTIONS[lesson], "MISTAKES"
    )
    for label, wrong, part in listed:
        passed, text = check(lesson, name).judge(wrong)
        assert not passed and text.startswith("not yet.") and part in text, f"{label}: {text}"


@each_exercise
def test_a_stub_is_told_what_to_do_and_a_forgotten_return_too(lesson, name):
    names = ", ".join(inspect.signature(solutions(lesson, name)[0]).parameters)
    for body in (
        "...",
        '"""What it gives."""\n    ...',
        "return ...",
        "pass",
        "raise NotImplementedError",
    ):
        passed, text = check(lesson, name).judge(function(f"def answer({names}):\n    {body}"))
        assert not passed and text.startswith("to do."), f"{body}: {text}"
    forgotten = solutions(lesson, name)[0]

    @functools.wraps(forgotten)
    def answer(*arguments):
        forgotten(*arguments)

    passed, text = check(lesson, name).judge(answer)
    assert not passed and "returned None" in text and "`return`" in text, text


@each_exercise
def test_an_error_is_reported_with_the_learners_line(lesson, name):
    names = ", ".join(inspect.signature(solutions(lesson, name)[0]).parameters)
    for line in (
        "result = undefined_name + 1",
        "import json; json.loads('no')",
        "torch.ones(2) @ torch.ones(3)",
    ):
        source = f"import torch\ndef answer({names}):\n    {line}\n    return result"
        passed, text = check(lesson, name).judge(function(source))
        assert not passed and f"(line 3: {line})" in text and text.count("line 3") == 1, text


@each_exercise
def test_nothing_that_is_returned_makes_the_check_itself_fail(lesson, name):
    odd = ["", "nonsense", [], (), {}, {1, 2}, True, 1j, object(), [None], [[1], [2, 3]], "ab",
           float("nan"), torch.zeros(0), torch.zeros(2, 3, 4), np.array(["a"]), lambda: None, print,
           {"a": 1}, torch.nn.Linear(2, 2), (1, 2), [1, 2, 3], -1, (None, None), ([], []), 10**400]  # fmt: skip
    names = ", ".join(inspect.signature(solutions(lesson, name)[0]).parameters)
    for value in odd:
        answer = eval(f"lambda {names}: value", {"value": value})
        passed, text = check(lesson, name).judge(answer)
        assert not passed and text.startswith("not yet."), f"{value!r}: {text}"
        assert "Your code raised" not in text, f"{value!r}: {text}"
    assert "brackets" in check(lesson, name).judge(3.0)[1]


def alike(a, b):
    """Whether two mistakes give the same in every case, in a part that both speak of."""
    of_one_part = any(
        x is not ... and y is not ...
        for x, y in zip(*((v[0] if isinstance(v[0], tuple) else v[:1]) for v in (a, b)))
    )
    return of_one_part and all(map(checks.equal, a, b))


@each_judged_alike
def test_no_two_listed_mistakes_of_a_check_coincide(lesson, name, monkeypatch):
    """Over all its cases each mistake of a check differs from what is right and from every other mistake."""
    monkeypatch.setattr(checks, "audit", [])
    assert check(lesson, name).judge(solutions(lesson, name)[0])[0]
    for solution, cases, listed in checks.audit:
        right = [checks.read(v, v) for v in (solution(*checks.copied(c)) for c in cases)]
        found = []
        for hint, *ways in listed:
            assert ways and (hint[0].isupper() or hint[0] == "`") and hint[-1] in ".?", hint
            for way in ways:
                for used in range(len(cases), 0, -1):  # it may fail on the last, odd cases
                    values = checks.outcomes(way, cases[:used], right[:used])
                    if values is not None:
                        break
                assert values is not None, f"fails on the first case: {hint}"
                assert not all(map(checks.equal, values, right)), f"is right: {hint}"
                found.append((hint, values))
        for (hint, a), (other, b) in itertools.combinations(found, 2):
            assert hint == other or not alike(a, b), f"{hint}\n= {other}"


# The notebooks


@pytest.mark.parametrize("lesson", LESSONS)
def test_notebook_calls_every_check_with_an_untouched_stub(lesson):
    """Each check is called in one exercise cell of its notebook, and that cell's stored output asks for the work."""
    number = lesson.removeprefix("lesson_")
    paths = list(pathlib.Path(ROOT / "notebooks").glob(f"{number}_*.ipynb"))
    if not paths:
        pytest.skip(f"lesson {number} has no notebook yet")
    cells = [
        c for c in nbformat.read(paths[0], 4).cells if "exercise" in c.metadata.get("tags", [])
    ]
    listed = getattr(SOLUTIONS[lesson], "MISTAKES", None) or SOLUTIONS[lesson].WRONG
    assert set(SOLUTIONS[lesson].SOLUTIONS) == set(listed)
    for name in SOLUTIONS[lesson].SOLUTIONS:
        cell = [c for c in cells if re.search(rf"lesson_{number}\.{name}\(", c.source)]
        assert len(cell) == 1, f"{name} should be called in exactly one exercise cell"
        text = "".join(o.get("text", "") for o in cell[0].outputs)
        assert re.search(r"Exercise \d+: to do\.", text), (
            f"the stub of {name} should be told what to do, got {text!r}"
        )
