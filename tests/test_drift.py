"""The drift report: which versions are asked for, what moved, and what failed where."""

import re
import subprocess

import pytest

from tools import drift
from utils import ROOT, colab

JUNIT = """<testsuites><testsuite>
<testcase file="notebooks/05_lora.ipynb" classname="x" name="Cell 1"/>
<testcase file="notebooks/05_lora.ipynb" classname="x" name="Cell 2">
 <failure message="Notebook cell execution failed">Traceback
#x1B[31mTypeError: unexpected keyword 'rank' | really#x1B[0m</failure></testcase>
<testcase file="tests/test_utils.py" classname="tests.test_utils" name="test_a"/>
<testcase classname="tests.test_memory" name="test_b"><error>E   ValueError: no</error></testcase>
</testsuite></testsuites>"""


def test_ranges_are_the_courses_bounds_and_no_pin():
    pins = colab.read_pins(ROOT / "requirements.txt")
    wanted = drift.ranges(pins)
    assert len(wanted) == len(pins) and [r for r in wanted if re.match(r"[\w.-]+==", r)] == [
        "trl==1.12.0"  # the last with a PPOTrainer; colab.ACCEPTED says so
    ]
    assert "torch<2.15" in wanted and "matplotlib" in wanted
    assert f"transformers{colab.ACCEPTED['transformers']}" in wanted


def test_everything_that_a_lesson_wants_is_installed_and_an_extra_may_fail(monkeypatch, capsys):
    asked = []

    def run(command, check):
        asked.append(command)
        failed = any(part.startswith("lm-eval") for part in command)
        assert not (failed and check), "the drift run must not end for an extra"
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.setattr(drift.subprocess, "run", run)
    drift.install()
    words = {re.split(r"[<>=!~]", part)[0] for command in asked for part in command}
    files = ("requirements.txt", "requirements-unsloth.txt", *drift.EXTRAS)
    assert {n for file in files for n in colab.read_pins(ROOT / file)} <= words
    assert "requirements-tune.txt could not be installed" in capsys.readouterr().out


def test_what_moved_is_what_differs():
    before = {"a": "1", "b": "1", "c": "1"}
    assert drift.moved(before, {"a": "1", "b": "2", "d": "1"}) == [("b", "1", "2"), ("c", "1", "")]


def test_failures_are_told_by_lesson_with_their_first_error(tmp_path):
    (tmp_path / "junit.xml").write_text(JUNIT)
    places = drift.outcome(tmp_path / "junit.xml")
    assert places == {
        "05_lora": (2, 1, "TypeError: unexpected keyword 'rank' \\| really"),
        "test_utils": (1, 0, ""),
        "test_memory": (1, 1, "ValueError: no"),
    }
    text = drift.write_report([("trl", "1", "2")], places, ["05"], tmp_path / "report.md")
    assert "| trl | 1 | 2 |" in text and "Only 05 ran" in text
    lines = text.splitlines()
    lesson = next(i for i, line in enumerate(lines) if line.startswith("| 05_lora | 2 | 1 |"))
    assert lines[lesson + 1].startswith("| test_memory | 1 | 1 |")
    assert "4 ran in 3 places; 2 places have failures" in text
    nothing = drift.write_report([], {"05_lora": (1, 0, "")}, [], tmp_path / "report.md")
    assert "nothing has moved" in nothing and "| none |" in nothing


def test_lessons_and_test_files_are_found_by_name():
    assert drift.chosen([]) == ["tests", "notebooks"]
    assert drift.chosen(["05", "test_utils"]) == ["notebooks/05_lora.ipynb", "tests/test_utils.py"]
    with pytest.raises(SystemExit, match="no lesson and no test file called 77"):
        drift.chosen(["77"])


def test_tests_about_pins_are_the_ones_left_out():
    text = (ROOT / "tests" / "test_setup_files.py").read_text(encoding="utf-8")
    for name in drift.ABOUT_PINS:
        assert f"def {name.split('::')[1]}(" in text
