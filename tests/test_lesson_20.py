"""Lesson 20: every case of the clinic, its score, and the index from symptom to cell."""

import dataclasses
import functools
import math
import re

import nbformat
import pytest

from exercises import clinic_cases, clinic_runs
from exercises.solutions import lesson_20 as solutions
from tools import symptoms
from tools.pages import Problem, tags
from utils import ROOT, clinic, results

PATH = next((ROOT / "notebooks").glob("20_*.ipynb"))
CELLS = nbformat.read(PATH, 4).cells
CASES, CAUSES = {c.number: c for c in clinic_cases.CASES}, clinic_cases.CAUSES
ROWS = {row["case"]: row for row in results.load("clinic")["rows"]}
each_case = pytest.mark.parametrize("number", CASES)


@functools.cache
def run(settings):
    return clinic_runs.run(settings)


@pytest.fixture
def case(number):
    return clinic.Case(number, ROWS[number])


@pytest.fixture
def session(monkeypatch):
    """An empty clinic in which repairs cost nothing: the stored measures stand for them."""
    monkeypatch.setattr(clinic, "opened", {})
    monkeypatch.setattr(clinic.Case, "repair", lambda self: {"measures": self.record["repaired"]})


# ---- the runs ----


def test_every_case_is_stored_with_what_it_was_made_by():
    stored = results.load("clinic")
    assert set(ROWS) == set(CASES) and len(CASES) == 13
    assert stored["provenance"]["torch"] and stored["settings"]["base"] == "pocket-s"
    assert stored["settings"]["healthy_score"] > 0.9
    for number, case in CASES.items():
        made = clinic_runs.Settings(**case.broken)
        told = {k: v if v is not None else math.inf for k, v in ROWS[number]["settings"].items()}
        for field in dataclasses.fields(made):
            value = getattr(made, field.name)
            assert value is None or told[field.name] == value, (number, field.name)


@each_case
def test_broken_and_repaired_differ_in_one_thing(number):
    broken, repaired = CASES[number].broken, CASES[number].repaired
    differ = [k for k in repaired if broken.get(k) != repaired[k]]
    assert len(differ) == 1 and set(broken) <= set(repaired)


@each_case
def test_the_evidence_shows_one_cause_and_no_other(number):
    chart = clinic.chart_of(ROWS[number])
    assert [n for n, cause in CAUSES.items() if cause.holds(chart)] == [CASES[number].cause]


@each_case
def test_the_stored_run_has_the_symptom_and_the_stored_repair_has_not(number, case):
    assert case.better({"measures": ROWS[number]["repaired"]})


@each_case
def test_the_repair_works_here(number, case):
    after = run(clinic_runs.Settings(**CASES[number].repaired))
    assert case.better(after)
    assert not [n for n, cause in CAUSES.items() if cause.holds(after["chart"])]


@pytest.mark.parametrize("number", [1, 6, 7])
def test_the_broken_run_breaks_here_too(number, case):
    made = clinic_runs.run(clinic_runs.Settings(**CASES[number].broken))
    there, here = (clinic.measured(r, case.about.measure) for r in (case.record, made))
    assert here == pytest.approx(there, abs=0.15)
    assert CAUSES[case.about.cause].holds(made["chart"])


@pytest.mark.slow
@each_case
def test_every_broken_run_breaks_here_too(number, case):
    made = run(clinic_runs.Settings(**CASES[number].broken))
    assert CAUSES[case.about.cause].holds(made["chart"])
    assert not case.better(made)


# ---- naming ----


@each_case
def test_the_right_cause_is_accepted_and_every_wrong_one_gets_its_own_reason(number, case):
    right, text = case.judge(CASES[number].cause)
    assert right and text.startswith("Yes: ") and CAUSES[CASES[number].cause].cure in text
    reasons = {}
    for name in CAUSES:
        if name == CASES[number].cause:
            continue
        right, text = case.judge(name)
        assert not right and text.startswith(f'Not "{name}"') and "In this run " in text
        assert CAUSES[name].look in clinic.LOOKS and f"look: {CAUSES[name].look}" in text
        reasons[name] = text.partition("In this run ")[2]
        assert "{" not in reasons[name] and CASES[number].cause not in reasons[name]
    assert len(set(reasons.values())) == len(CAUSES) - 1


def test_the_solutions_are_those_of_the_cases():
    assert {n: CASES[n].cause for n in CASES} == solutions.CAUSES_OF_THE_CASES
    assert set(solutions.CAUSES_OF_THE_CASES.values()) <= set(CAUSES)


@pytest.mark.parametrize(
    "said", [None, 5, "", "   ", [], {}, True, "the weather", "adapter", float("nan"), object()]
)
def test_what_is_no_cause_lists_what_can_be_said(said):
    case = clinic.Case(2, ROWS[2])
    right, text = case.judge(said)
    assert not right and all(name in text for name in CAUSES) and not case.wrong


def test_an_untouched_stub_is_told_what_to_do(capsys):
    case = clinic.Case(2, ROWS[2])
    case.look(...)
    case.name(...)
    said = capsys.readouterr().out
    assert "labels" in said and "in quotation marks" in said and not case.wrong


@pytest.mark.parametrize(
    "said",
    [
        "Adapter merged TWICE",
        "adapter merged twice.",
        " adapter  merged twice",
        "merged twice",
        "adapter mergd twice",
    ],
)
def test_a_name_may_be_written_in_several_ways(said):
    assert clinic.Case(5, ROWS[5]).judge(said)[0]


# ---- looking ----


@each_case
def test_every_look_says_something(number, case, capsys):
    for name in clinic.LOOKS:
        case.look(name.upper())
        said = capsys.readouterr().out
        assert said.startswith(f"Case {number}, {name}:") and len(said.splitlines()) > 1
    for odd in (None, 3, "the moon", []):
        case.look(odd)
        said = capsys.readouterr().out
        assert all(name in said for name in clinic.LOOKS)


@each_case
def test_a_case_shows_what_is_there_and_not_its_cause(number, session, capsys):
    clinic.open_case(number)
    said = capsys.readouterr().out
    assert CASES[number].complaint in said and "learning rate" in said and "grad_norm" in said
    assert CASES[number].cause not in said and CAUSES[CASES[number].cause].cure not in said


@pytest.mark.parametrize("odd", [0, 14, "1", None, True, 1.5, [], ...])
def test_a_case_that_is_not_there_says_which_are(odd, session, capsys):
    assert clinic.open_case(odd) is None
    assert "There are 1, 2, 3" in capsys.readouterr().out


# ---- the score ----


def test_the_score(session, capsys):
    two, five, six = (clinic.open_case(n) for n in (2, 5, 6))
    two.name(CASES[2].cause)
    five.look("loading")
    for wrong in ("rank too small", "rank too small", "too few steps"):
        five.name(wrong)
    five.name(CASES[5].cause)
    for wrong in [n for n in CAUSES if n != CASES[6].cause]:
        six.name(wrong)
    assert six.points == 0
    six.name(CASES[6].cause)
    assert (two.points, five.points, six.points) == (3, 1, 1)
    capsys.readouterr()
    table = clinic.score()
    assert capsys.readouterr().out == "5 of 39 points\n"
    assert [row[0] for row in table.rows] == ["2", "5", "6"]
    assert clinic.open_case(5) is five and clinic.open_case(5).points == 1


def test_a_repair_that_does_not_help_says_so(session, monkeypatch, capsys):
    monkeypatch.setattr(clinic.Case, "repair", lambda self: self.record)
    clinic.open_case(2).name(CASES[2].cause)
    assert "did not help here" in capsys.readouterr().out


# ---- the lesson ----


def test_the_stored_lesson_names_one_cause_only():
    after = False
    for cell in CELLS:
        text = "".join(o.get("text", "") for o in cell.get("outputs", []))
        after |= "Twelve cases" in cell.source
        if after and "exercise" in tags(cell):
            assert "Yes: " not in text and "Repaired: " not in text
    opened = re.findall(r"open_case\((\d+)\)", "\n".join(c.source for c in CELLS))
    assert [int(n) for n in opened] == sorted(CASES)


# ---- the index ----


def test_every_place_of_the_index_is_a_cell():
    places = symptoms.Places()
    for group in symptoms.groups():
        for one in group["symptoms"]:
            assert one["look"].endswith(".") and one["places"], one
            for place in one["places"]:
                found = places.find(place)
                assert found is None or found[1], place


def test_every_case_has_its_line_in_the_index():
    lines = {one["case"]: one["symptom"] for g in symptoms.groups() for one in g["symptoms"]
             if "case" in one}  # fmt: skip
    assert set(lines) == set(CASES)


def test_the_lesson_has_the_index_as_it_is_written():
    cells = [c.source for c in CELLS if symptoms.TAG in tags(c)]
    places = symptoms.Places()
    assert cells == [symptoms.cell_text(g, places) for g in symptoms.groups()], (
        "run `python -m tools.symptoms`"
    )


def test_the_symptoms_that_people_ask_for_are_there():
    there = " ".join(one["symptom"] for g in symptoms.groups() for one in g["symptoms"])
    for asked in ("never stops", "loss 0", "answers as before", "worse after merging",
                  "out of memory at step 40", "nan", "grad_norm 0"):  # fmt: skip
        assert asked in there


@pytest.mark.parametrize("words", ["words that stand in no cell", "import torch"])
def test_words_of_no_cell_or_of_many_are_refused(words):
    with pytest.raises(Problem, match="exactly one should"):
        symptoms.Places().find({"lesson": 19, "cell": words})


def test_a_lesson_that_is_not_there_yet_is_left_out():
    assert symptoms.Places().find({"lesson": 77, "cell": "any"}) is None


def test_the_page_of_the_site_links_every_lesson_of_the_index():
    page = symptoms.page()
    linked = set(re.findall(r"notebooks/(\d\d)_\w+\.ipynb#\S", page))
    there = symptoms.Places().paths
    wanted = {f"{p['lesson']:02d}" for g in symptoms.groups() for one in g["symptoms"]
              for p in one["places"] if p["lesson"] in there}  # fmt: skip
    clinic = there[20].read_text(encoding="utf-8")
    assert f"## {symptoms.CASES}" in clinic and f"## {symptoms.WORKED}" in clinic
    assert linked == wanted | {"20"} and "out of memory at step 40" in page


# ---- what a wrong name is told ----


@pytest.mark.parametrize(
    "number, name, says",
    [
        (2, "no EOS in the labels", "are none, so it is not EOS alone"),
        (3, "adapter merged twice", "nothing was learned"),
        (6, "too few steps", "broke off in step 27 of 40"),
        (7, "too few steps", "broke off in step 2 of 30"),
        (7, "adapter merged twice", "the weights are nan"),
        (7, "learning rate too high", "the learning rate is 0.005"),
        (10, "too few steps", "160 steps are enough to get 1.00"),
        (11, "rank too small", "it is enough to get 0.96"),
    ],
)
def test_a_reason_does_not_speak_for_the_wrong_cause(number, name, says):
    right, text = clinic.Case(number, ROWS[number]).judge(name)
    assert not right and says in text and "nan%" not in text and "nan times" not in text


@each_case
def test_the_symptom_can_be_had_as_a_number(number, case, capsys):
    case.look("symptom")
    said = capsys.readouterr().out
    assert clinic.MEASURES[CASES[number].measure] in said and re.search(r"\d", said.split(":")[-1])


@pytest.mark.parametrize("number", [6, 7])
def test_a_run_that_broke_off_has_no_scores(number, case, capsys):
    for name in ("padding", "rows"):
        case.look(name)
        assert "the run had stopped" in capsys.readouterr().out
