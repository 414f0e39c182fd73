"""The comparer of outputs fails where it must: words, numbers, order, missing and extra outputs."""

import os
import subprocess
import sys

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests import comparing
from tools import badges
from utils import ROOT

LESSONS = badges.lesson_paths()


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def result(**forms):
    return new_output("execute_result", {k.replace("_", "/"): v for k, v in forms.items()})


def picture():
    return new_output("display_data", {"image/png": "iVBOR", "text/plain": "<Figure size 9x2>"})


def error(name="ValueError", value="no"):
    return new_output("error", ename=name, evalue=value, traceback=[])


def table(*rows):
    """A table as utils.tables.Table shows it: the first row is the header."""
    lines = "".join(
        "<tr>" + "".join(f"<{tag} style='a'>{cell}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th"] + ["td"] * len(rows), rows)
    )
    return result(text_plain="not compared", text_html=f"<table>{lines}</table>")


def differ(stored, new, rules=comparing.DEFAULT):
    return comparing.differences([stream(stored)], [stream(new)], rules)


# ---- numbers and words ----

AGREE = {
    "a share": ("score 0.97", "score 0.95"),
    "shares around zero": ("gap -0.01 ± 0.02", "gap +0.01 ± 0.00"),
    "a written sign": ("gap -0.00", "gap 0.00"),
    "a typographical minus": ("gap −0.30", "gap -0.31"),
    "a share that reaches one": ("kept 1.000", "kept 0.984"),
    "percentages": ("99% before, 5.2 % after", "97% before, 4.8 % after"),
    "a loss over one": ("loss 12.99 to 0.19", "loss 12.40 to 0.20"),
    "a thousands separator and a point": ("perplexity 216,469.8", "perplexity 221,000.1"),
    "the last digit": ("KL 1.2", "KL 1.3"),
    "the same power of ten": ("agree within 1e-5", "agree within 1e-05"),
    "widths of columns": ("a    b\n0.999  2\n", "a  b\n1.000    2\n"),
    "a line broken elsewhere": ("at most 0.99 of\n  all", "at most 1.00\n  of all"),
    "the same learning rate": ("at rate 0.003", "at rate 0.0030"),
}
DIFFER = {
    "a share": ("score 0.97", "score 0.94", "0.97 and 0.94 differ by 0.03; 0.02 is allowed"),
    "a percentage": ("99% right", "96% right", "99% and 96% differ by 3; 2 is allowed"),
    "a larger number": ("loss 12.99", "loss 12.30", "5 % of the larger"),
    "a sign": ("gap +0.30", "gap -0.30", "differ by 0.60"),
    "a count": ("41 tensors", "42 tensors", "without a point"),
    "a count of parameters": ("108,544 train", "108,545 train", "without a point"),
    "a power of ten": ("agree within 1e-5", "agree within 1e-4", "1e-5 and 1e-4"),
    "a learning rate": ("at rate 0.003", "at rate 0.001", "a learning rate is a setting"),
    "a named rate": ("lr=0.003 won", "lr=0.001 won", "a learning rate is a setting"),
    "a word": ("the base says 0.97", "the model says 0.97", "'base' became 'model'"),
    "punctuation": ("0.97, 0.98", "0.97; 0.98", "',' became ';'"),
    "order": ("a 0.1\nb 0.1", "b 0.1\na 0.1", "'a' became 'b'"),
    "a missing line": ("a 0.1\nb 0.1", "a 0.1", "'b' became nothing"),
    "an extra line": ("a 0.1", "a 0.1\nb 0.1", "nothing became 'b'"),
    "a number instead of a word": ("score nan", "score 0.5", "'nan' became '0.5'"),
    "a unit": ("5 of 9", "5% of 9", "'5' became '5%'"),
    "a number in a word": ("Mistral-7B", "Mistral-8B", "became"),
    "a version": ("torch 2.13.0", "torch 2.13.1", "became"),
    "a split word": ("fine tuning", "finetuning", "became"),
}


@pytest.mark.parametrize("case", AGREE)
def test_agrees(case):
    stored, new = AGREE[case]
    assert differ(stored, new) == differ(new, stored) == []


@pytest.mark.parametrize("case", DIFFER)
def test_differs(case):
    stored, new, says = DIFFER[case]
    (paragraph,) = differ(stored, new)
    assert says in paragraph
    assert (
        f"stored: {stored.splitlines()[0]}" in paragraph
        or "(nothing more)" in paragraph
        or case == "a missing line"
    )
    assert differ(new, stored)


def test_every_number_outside_is_listed_and_said_where_it_stands():
    found = differ("a 0.10\nb 0.20\nc 0.30\n", "a 0.50\nb 0.20\nc 0.90\n")
    assert [p.splitlines()[1:] for p in found] == [
        ["  stored: a 0.10", "  new:    a 0.50"],
        ["  stored: c 0.30", "  new:    c 0.90"],
    ]


# ---- outputs ----

SEVERAL = [stream("a 0.5\n"), picture(), table(("x",), ("0.5",))]
SPOILT = {
    "a missing output": SEVERAL[:2],
    "an extra output": [*SEVERAL, stream("careful", "stderr")],
    "another order": [SEVERAL[1], SEVERAL[0], SEVERAL[2]],
    "an error in place of an output": [*SEVERAL[:2], error()],
    "text in place of a table": [*SEVERAL[:2], result(text_plain="x 0.5")],
    "no output at all": [],
}


def test_the_same_outputs_agree():
    near = [stream("a 0.49\n"), picture(), table(("x",), ("0.51",))]
    assert comparing.differences(SEVERAL, near) == []


@pytest.mark.parametrize("case", SPOILT)
def test_number_order_and_kinds_of_outputs(case):
    (paragraph,) = comparing.differences(SEVERAL, SPOILT[case])
    assert "not of the same number, order and kinds" in paragraph and "stream stdout" in paragraph


def test_an_error_that_is_stored_must_come_again():
    assert comparing.differences([error()], [error()]) == []
    assert comparing.differences([error()], [error("KeyError")])
    assert comparing.differences([error()], [error(value="yes")])


HEAD = ("method", "rate", "score")
ROWS = [HEAD, ("LoRA", "0.003", "0.97 ± 0.01"), ("full", "0.001", "0.95 ± 0.02")]
FULL = "full", "0.001"
TABLES = {
    "a number": ([*ROWS[:2], (*FULL, "0.90 ± 0.02")], "in column 'score': 0.95 and 0.90"),
    "a word": ([*ROWS[:2], ("head", "0.001", "0.95 ± 0.02")], "in column 'method': 'full' became"),
    "a header": ([("method", "rate", "loss"), *ROWS[1:]], "'score' became 'loss'"),
    "a rate": ([*ROWS[:2], ("full", "0.003", "0.95 ± 0.02")], "a learning rate is a setting"),
    "an extra row": ([*ROWS, ("IA3", "0.1", "0.5")], "the table had 3 rows and has 4"),
    "a missing row": (ROWS[:2], "the table had 3 rows and has 2"),
    "order of rows": ([ROWS[0], ROWS[2], ROWS[1]], "'LoRA' became 'full'"),
    "a missing cell": ([*ROWS[:2], ROWS[2][:2]], "another number of cells"),
}


def test_a_table_agrees_by_its_cells_and_not_by_its_plain_text():
    new = table(*ROWS[:2], (*FULL, "0.96 ± 0.03"))
    new.data["text/plain"] = "another width"
    assert comparing.differences([table(*ROWS)], [new]) == []


@pytest.mark.parametrize("case", TABLES)
def test_a_table_differs(case):
    rows, says = TABLES[case]
    found = comparing.differences([table(*ROWS)], [table(*rows)])
    assert found and says in found[0]


def test_sanitizing_reaches_the_cells_of_a_table():
    stored, new = table(("x",), ("took 3.2 s",)), table(("x",), ("took 9.9 s",))
    assert comparing.differences([stored], [new])
    assert not comparing.differences([stored], [new], clean=lambda text: text[:5])


# ---- tests/tolerances.yml ----


def rules(**entry):
    return comparing.entry_rules({"reason": "a test", **entry}, "here")


def test_an_entry_widens_what_it_names_and_nothing_else():
    assert not differ("0.90, 90%", "0.86, 86%", rules(shares=0.05))
    assert differ("0.90", "0.84", rules(shares=0.05)) and differ("9.0", "8.0", rules(shares=0.05))
    assert not differ("9.0", "8.0", rules(relative="20%"))
    assert differ("0.90", "0.86", rules(relative="20%"))
    assert not differ("40 rows", "42 rows", rules(counts=2))
    assert differ("40 rows", "43 rows", rules(counts=2))
    assert not differ("27,000", "26,500", rules(counts="5%"))
    assert differ("27,000", "25,000", rules(counts="5%"))


def test_generated_text_is_left_out_by_column_and_by_beginning_of_a_line():
    live = rules(live=["tuned", "says:"])
    stored = table(("question", "tuned", "right"), ("Malta?", "Valletta", "yes"))
    other = table(("question", "tuned", "right"), ("Malta?", "Lusaka 7", "yes"))
    wrong = table(("question", "tuned", "right"), ("Malta?", "Lusaka 7", "no"))
    assert comparing.differences([stored], [other]) and comparing.differences(
        [stored], [wrong], live
    )
    assert comparing.differences([stored], [other], live) == []
    assert not differ("asked 1\nsays: Valletta.\n0.5", "asked 1\nsays: Lusaka 7\n0.5", live)
    assert differ("asked 1\nsays: Valletta.\n0.5", "asked 1\nsays: Valletta.\n0.9", live)
    assert differ("asked 1\nsays: Valletta.\n0.5", "asked 1\n0.5", live)


@pytest.mark.parametrize(
    "entry, says",
    [
        ({"shares": 0.05}, "no reason"),
        ({"shares": 0.05, "reason": " "}, "no reason"),
        ({"reason": "because"}, "needs some of"),
        ({"tolerance": 0.05, "reason": "because"}, "needs some of"),
        ({"shares": "5%", "reason": "because"}, "write it as 0.05"),
        ({"relative": 0.05, "reason": "because"}, "write it as 20%"),
        ({"counts": -1, "reason": "because"}, "write it as 3 or 5%"),
        ({"shares": 0.5, "reason": "because"}, "at most 0.15 is accepted"),
        ({"live": "tuned", "reason": "because"}, "live is a list"),
    ],
)
def test_a_faulty_entry_is_one_sentence(entry, says, tmp_path):
    path = tmp_path / "tolerances.yml"
    path.write_text(yaml.safe_dump({"98_tiny": {"print": entry}}))
    with pytest.raises(ValueError, match="tolerances.yml, 98_tiny, 'print'") as raised:
        comparing.load(path)
    assert says in str(raised.value)


def tiny(*cells):
    """A notebook of (source, outputs) cells."""
    made = [
        new_code_cell(source, outputs=outputs, execution_count=count, id=f"c{count}")
        for count, (source, outputs) in enumerate(cells, 1)
    ]
    return new_notebook(cells=made)


def test_an_entry_names_exactly_one_cell_and_what_is_there():
    cells = ("print(1)", [stream("says: a")]), ("print(2)", [table(("tuned",), ("a",))])
    one, two = tiny(cells[0]), tiny(*cells)

    def faults(notebook, **entries):
        return list(comparing.stale("98_tiny", notebook, {"98_tiny": entries}))

    assert (
        faults(one, **{"print(": rules(live=["says:"])})
        == faults(two, c2=rules(live=["tuned"]))
        == []
    )
    assert "names 2 cells" in faults(two, **{"print(": rules(counts=1)})[0]
    assert "names 0 cells" in faults(one, **{"plot(": rules(counts=1)})[0]
    assert "no column and no line 'tuned'" in faults(one, **{"print(": rules(live=["tuned"])})[0]


def test_every_entry_of_the_course_is_needed_where_it_points():
    tolerances, notebooks = comparing.load(), {path.stem: path for path in LESSONS}
    assert set(tolerances) <= set(notebooks)
    found = [
        fault
        for lesson in tolerances
        for fault in comparing.stale(lesson, nbformat.read(notebooks[lesson], 4), tolerances)
    ]
    assert found == []


def test_every_stored_output_agrees_with_itself_and_not_without_its_last():
    for path in LESSONS:
        for cell in nbformat.read(path, 4).cells:
            if outputs := cell.get("outputs"):
                assert comparing.differences(outputs, outputs) == []
                assert comparing.differences(outputs, outputs[:-1])


# ---- nbval itself ----


def test_nbval_in_the_set_up_of_the_repository(tmp_path):
    """Numbers inside pass, others fail with a report; marks and sanitizing work as ever.

    The kernel sees PEFT_COURSE_TESTS, and the number of threads that was asked for.
    """
    source = "print('score 0.97, took 3.2 s')"
    names = "PEFT_COURSE_TESTS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"
    notebook = tiny(
        (source, [stream("score 0.96, took 81 s\n")]),
        (source, [stream("score 0.90, took 81 s\n")]),
        (f"# NBVAL_IGNORE_OUTPUT\n{source}", [stream("other words\n")]),
        (f"import os\nprint(*map(os.environ.get, {names}))", [stream("1 2 2\n")]),
        (source, []),
    )
    nbformat.write(notebook, tmp_path / "98_tiny.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    command += ["-c", "pyproject.toml", "--nbval"]
    command += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg", "tests/conftest.py"]
    done = subprocess.run(
        [*command, tmp_path / "98_tiny.ipynb"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 3 passed" in done.stdout, done.stdout + done.stderr
    for line in (
        source,
        "Output 1 (stdout): 0.90 and 0.97 differ by 0.07; 0.02 is allowed (a number from -1 to 1)",
        "  stored: score 0.90, took TIME",
        "  new:    score 0.97, took TIME",
        "  stored: no output",
    ):
        assert line in done.stdout.splitlines()
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert ["Cell 1" in failed[0], "Cell 4" in failed[1]] == [True, True]
