"""The site: what staging makes of a lesson, a build with no warning, the pages in a browser."""

import json
import os
import subprocess

import nbformat
import pytest
import yaml
from test_notebooks import REPO, code, good

from tools import badges, pages
from tools.site import browse, stage
from tools.site.__main__ import broken_links
from utils import ROOT, colab

PYTHON = ROOT / ".venv-site" / "bin" / "python"
TERMS = stage.Terms(stage.glossary())


def staged(notebook, folder):
    """The notebook as the site gets it; `folder` stands for notebooks/."""
    return stage.page(notebook, folder / "98_tiny.ipynb", REPO, TERMS)


# ---- staging ----


def test_the_first_mention_of_a_term_is_linked_and_no_other():
    seen = set()
    text = TERMS.link("LoRA has a rank. LoRA's ranks.", seen)
    assert text == "{term}`LoRA <LoRA>` has a {term}`rank <rank>`. LoRA's ranks."
    assert TERMS.link("The rank again.", seen) == "The rank again."


@pytest.mark.parametrize(
    "text",
    [
        "`rank`",
        "# The rank",
        "$rank$",
        "[rank](05_lora.ipynb)",
        "![rank](a.png)",
        "```\nrank\n```",
        "<b title='rank'>",
        "https://x.org/rank",
        "rank.py",
        "rank-wise",
        "<details><summary>A smaller rank?\nThe rank.</summary>",
        "QLoRAs",
    ],
)
def test_code_formulas_links_and_headings_hold_no_terms(text):
    assert TERMS.link(text, set()) == text


def test_an_answer_in_a_fold_is_linked_and_its_question_is_not():
    question = "<details><summary>Why not rank 1?</summary>"
    text = TERMS.link(f"{question}\n\nThe rank is low.\n\n</details>", set())
    assert text == f"{question}\n\nThe {{term}}`rank <rank>` is low.\n\n</details>"


def test_a_word_of_another_meaning_is_not_linked():
    """Lesson 19 calls a process's number its rank, lesson 18 a password a token."""
    assert TERMS.foreign(19) == {"rank"} and TERMS.foreign(18) == {"token"}
    assert TERMS.link("Each has a rank.", TERMS.foreign(19)) == "Each has a rank."


def test_links_go_to_pages_or_to_github(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("utils/colab.py", "notebooks/05_lora.ipynb", "exercises/x.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = (
        "[a](../utils/colab.py) [b](05_lora.ipynb) [c](../docs/claims.md) [d](https://x.org) "
        "[e](../exercises) [f](gone.md) [g](#Break-it:-more) [h](05_lora.ipynb#Try-it)"
    )
    at, github = badges.revision(), f"https://github.com/{REPO}"
    assert stage.point(text, folder, REPO) == (
        f"[a]({github}/blob/{at}/utils/colab.py) [b](05_lora.ipynb) "
        f"[c](../claims.md) [d](https://x.org) [e]({github}/tree/{at}/exercises) "
        "[f](gone.md) [g](#break-it-more) [h](05_lora.ipynb#try-it)"
    )


def test_a_staged_lesson_has_folds_alt_texts_and_no_outside_pictures(tmp_path):
    notebook = good()
    notebook.cells.insert(2, nbformat.v4.new_markdown_cell("## What is forgotten"))
    notebook.cells[4].source = "# @title Figure: the losses\nprint(1)"
    notebook.cells[4].metadata.tags = ["hide-input"]
    made = staged(pages.normalise(notebook), tmp_path)
    assert "![" not in made.cells[0].source
    for name, _, address in badges.launches("98_tiny.ipynb", REPO):
        assert f"[{name}]({address})" in made.cells[0].source
    assert "hide-input" in made.cells[1].metadata.tags
    assert made.cells[3].metadata.mystnb["image"]["alt"].endswith("“What is forgotten”")
    assert made.cells[4].source == "print(1)"
    assert made.cells[4].metadata.mystnb["code_prompt_show"] == "Code: the losses"


@pytest.mark.parametrize(
    "source, says",
    [
        ("# @title Draw the losses\nplot()", "Figure: losses"),
        ("# @title Three searches\nplot()", "Three searches"),
        ('figures.axes(title="Loss on the answers")', "Figure: Loss on the answers"),
        ('figures.axes(title=f"Loss of {name}")', "Figure of the section “Training”"),
        ("plot()", "Figure of the section “Training”"),
    ],
)
def test_a_figure_has_words(source, says):
    assert stage.figure_text(code(source), "Training") == says


def test_a_fine_figure_is_shown_in_its_size():
    """Figures have twice the pixels that they are shown with, on the site as in JupyterLab."""
    cell = code("plot()")
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "iVBOR"})]
    assert stage.shown_width(cell) == {}
    cell.outputs[0].metadata = {"image/png": {"width": 427, "height": 144}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 98 · A"), cell])
    stored = pages.normalise(notebook).cells[1]
    assert stored.outputs[0].metadata == {
        "image/png": {"alt": "Figure of the section “98 · A”", "width": 427, "height": 144}
    }
    assert stage.shown_width(stored) == {"width": "427px"}


def test_a_table_gets_a_head_with_scopes():
    html = '<table><tr><th style="x">a</th></tr><tr><td>1</td></tr></table>'
    assert stage.heads(html) == (
        '<table><thead><tr><th scope="col" style="x">a</th></tr></thead><tr><td>1</td></tr></table>'
    )
    done = "<table><thead><tr><th>a</th></tr></thead></table>"
    assert stage.heads(done).count("<thead>") == 1 and 'scope="col"' in stage.heads(done)


def test_a_number_with_its_spread_or_unit_is_not_broken():
    html = "<td>0.97 ± 0.02</td><td>+0.01 (-0.06 to 0.08)</td><td>3 runs to 5 ms, 5 %</td>"
    assert stage.unbroken(html).replace("\N{NO-BREAK SPACE}", "_") == (
        "<td>0.97_±_0.02</td><td>+0.01 (-0.06_to_0.08)</td><td>3 runs to 5_ms, 5_%</td>"
    )


# ---- the course as a whole ----


def test_every_lesson_is_in_one_part_and_every_need_has_lessons_of_the_design():
    there = stage.lessons(ROOT / "notebooks")
    assert [n for _, numbers in stage.parts(there) for n in numbers] == sorted(there)
    with pytest.raises(ValueError, match=r"docs/course\.yml puts lessons"):
        stage.parts({**there, 99: None})
    for need in stage.course()["needs"]:
        assert set(need) == {"need", "lessons"}, f"a comma in a need wants quotes: {need}"
        assert need["lessons"] and set(need["lessons"]) <= set(range(21)), need
    answered = {n for _, numbers in stage.needs(there) for n in numbers}
    named = {n for need in stage.course()["needs"] for n in need["lessons"]}
    assert answered == named & set(there)


def test_glossary_names_each_word_once_and_explains_in_sentences():
    entries = yaml.safe_load(stage.GLOSSARY.read_text(encoding="utf-8"))
    words = [w.lower() for e in entries for w in (e["term"], *e.get("also", ()))]
    assert sorted(words) == sorted(set(words))
    for entry in entries:
        assert set(entry) <= {"term", "also", "means", "lesson", "not_in"}
        assert entry["means"][0].isupper() and entry["means"].rstrip().endswith("."), entry["term"]
        longest = max(len(s.split()) for s in entry["means"].split(". "))
        assert longest <= 25, f"{entry['term']}: a sentence of {longest} words"


def test_the_extra_and_the_file_agree():
    pins = colab.read_pins(ROOT / "requirements-site.txt")
    shared = set(pins) & set(colab.read_pins(ROOT / "constraints.txt"))
    assert not shared, f"{shared} stand in constraints.txt already, which make site uses"


# ---- links ----


def test_broken_links_and_outside_files_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        "<a href='b.html#there'>1</a><a href='b.html#gone'>2</a><a href='c.html'>3</a>"
        "<img src='https://x.org/p.png'><a href='https://x.org'>4</a><a href='#me' id='me'>5</a>"
    )
    (tmp_path / "b.html").write_text("<h1 id='there'>b</h1>")
    assert broken_links(tmp_path) == [
        "a.html fetches https://x.org/p.png from elsewhere",
        "a.html links to b.html#gone, and there is no such place on that page",
        "a.html links to c.html, which does not exist",
    ]


# ---- the whole ----

needs_sphinx = pytest.mark.skipif(
    not PYTHON.exists(), reason="no .venv-site here; `make site` makes it"
)
QUESTION = """## A question

<details>
<summary>What is $r$?</summary>

The rank of $BA$, at most

$$r \\le \\min(m, n)$$

| a | b |
|---|---|
| 1 | 2 |

</details>
"""


def run(*arguments, **environment):
    """The site's Python, its output and status."""
    return subprocess.run(
        [str(PYTHON), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once from the stored notebooks."""
    to = tmp_path_factory.mktemp("site")
    done = run("-m", "tools.site", "--to", str(to))
    assert done.returncode == 0, done.stdout + done.stderr
    return to / "html"


@needs_sphinx
def test_site_builds_without_a_warning_and_holds_every_lesson(site):
    for path in badges.lesson_paths():
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "colab.research.google.com/github" in page and "details" in page
        assert "glossary.html#term-" in page, f"{path.stem} mentions no term of the glossary"
    index = (site / "index.html").read_text(encoding="utf-8")
    for part, _ in stage.parts(stage.lessons(ROOT / "notebooks")):
        assert part["title"] in index
    assert (site / "claims.html").exists() and (site / "searchindex.js").exists()


@needs_sphinx
def test_a_broken_link_or_picture_stops_the_build(tmp_path):
    """On a copy of the staged source with one lesson: Sphinx warns, and a warning is a failure."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "index.md").write_text("# T\n\n[a](gone.md) ![p](gone.png)\n")
    done = run(
        *["-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-c", "tools/site"],
        *["-d", str(tmp_path / "trees"), str(source), str(tmp_path / "html")],
        COURSE_STATIC=str(source),
    )
    assert done.returncode and "gone.md" in done.stderr and "gone.png" in done.stderr


@needs_sphinx
def test_questions_are_folded_with_formulas_and_tables_inside(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    notebook = staged(good(), tmp_path)
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# T"),
        nbformat.v4.new_markdown_cell(QUESTION),
    ]
    (source / "index.ipynb").write_text(json.dumps(notebook))
    done = run(
        *["-m", "sphinx", "-b", "html", "-W", "-q", "-c", "tools/site"],
        *["-d", str(tmp_path / "trees"), str(source), str(tmp_path / "html")],
        COURSE_STATIC=str(source),
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    inside = page[page.index("<details>") : page.index("</details>")]
    assert "<table" in inside and "math" in inside and "<summary>" in inside


@needs_sphinx
@pytest.mark.skipif(
    not browse.chromium(),
    reason="no Chromium here; install one, or name it in PEFT_COURSE_CHROMIUM",
)
def test_site_in_a_browser(site):
    """Search, folds, themes, formulas, widths and contrast, at 1280 and 400 pixels."""
    done = run("-m", "tools.site.browse", "--site", str(site))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


def test_serving_is_on_this_machine_alone(tmp_path):
    server, address = browse.serve(tmp_path)
    assert address.startswith("http://127.0.0.1:") and server.server_address[0] == "127.0.0.1"
    server.shutdown()
