"""Lesson 00: any question may be typed in, its table leads to lessons, its questions fold."""

import re

import nbformat
import pytest

from tools import badges
from utils import ROOT, bases

PATH = ROOT / "notebooks" / "00_start_here.ipynb"
NOTEBOOK = nbformat.read(PATH, 4)
TEXT = "\n".join(c.source for c in NOTEBOOK.cells if c.cell_type == "markdown")


@pytest.fixture(scope="module")
def ask():
    """The lesson's own function, on the smallest base."""
    (source,) = [c.source for c in NOTEBOOK.cells if c.source.startswith("def ask(")]
    model, tokenizer = bases.load("pocket-xs")
    space = {"model": model, "tokenizer": tokenizer}
    exec(compile(source, PATH.name, "exec"), space)
    return space["ask"]


@pytest.mark.parametrize(
    "question",
    [
        "",
        " ",
        "\n\n",
        "{}",
        "{question} %s \\",
        "Wie heißt die Hauptstadt?",
        "首都は？ 🙂",
        "why? " * 200,
    ],
    ids=["empty", "space", "lines", "braces", "escapes", "German", "Japanese", "long"],
)
def test_any_question_gets_an_answer(ask, question):
    assert isinstance(ask(question), str)


def test_the_end_of_the_prompt_matters_as_the_lesson_says(ask):
    assert ask("What is the capital of Germany?", end="\n") != ask(
        "What is the capital of Germany?"
    )


def test_every_lesson_is_in_the_table_and_every_link_leads_somewhere():
    table = TEXT[TEXT.index("## Which lesson next") :]
    lessons = badges.lesson_paths()
    linked = re.findall(r"\]\((\d\d_\w+\.ipynb)\)", TEXT)
    gone = sorted(set(linked) - {path.name for path in lessons})
    assert not gone, f"lesson 00 links to {gone}, which is not in notebooks/"
    missing = [p.name for p in lessons[1:] if f"{p.name[:2]} · " not in table]
    assert not missing, f"the table of lesson 00 does not name {missing}"


def test_five_questions_fold():
    folded = [c.source for c in NOTEBOOK.cells if "<details>" in c.source]
    assert len(folded) == 5
    for number, source in enumerate(folded, 1):
        assert source.startswith(f"<details><summary>{number}. ")
        assert re.search(r"</summary>\n\n.+\n\n</details>$", source.strip(), re.DOTALL)
