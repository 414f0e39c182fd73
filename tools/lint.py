"""Anatomy and style of a lesson (CONTRIBUTING.md lists the rules).

Each fault is one sentence that says where and what to do.
"""

import copy
import pathlib
import re
import statistics

import nbformat
import yaml

from tools import badges
from tools.pages import (
    FOLDED,
    FOLDS,
    TITLE,
    Problem,
    all_faults,
    essence,
    normalise,
    output_text,
    tags,
)
from utils import ROOT

UNCOMPARED = ROOT / "tests" / "uncompared_cells.yml"
WIDE_CELLS = ROOT / "tests" / "wide_cells.yml"
TAGS = ("setup", "exercise", "recap")
LONGEST_CELL, LONGEST_FOLDED, MEDIAN_CELL, WORDS, BYTES, COMPARED = 25, 45, 15, 120, 1_000_000, 0.8
WIDEST_LINE, WIDEST_ALLOWED = (
    100,
    110,
)  # the second for cells that tests/wide_cells.yml still allows
MARKS = re.compile(
    r"^\s*#+\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE
)
MARK_TAGS = {"nbval-ignore-output", "nbval-skip", "pytest-validate-ignore-output"}


def prose(markdown):
    """What is left to read: no code, formulas, tables, pictures, comments or addresses."""
    for pattern in (
        r"```.*?```",
        r"\$\$.*?\$\$",
        r"\$[^$\n]+\$",
        r"<!--.*?-->",
        r"`[^`\n]*`",
        r"!\[[^\]]*\]\([^)]*\)",
        r"(?m)^\s*\|.*$",
        r"\]\([^)]*\)",
    ):
        markdown = re.sub(pattern, " ", markdown, flags=re.DOTALL)
    return markdown


def words(markdown):
    """Number of words a reader reads at once; tables, code, formulas and folded answers not
    counted.
    """
    markdown = re.sub(r"(?s)</summary>.*?</details>", " ", markdown)
    return len(re.findall(r"[^\W_][\w'’.,-]*", prose(markdown)))


def first_line(cell):
    """First line of a cell that is neither empty nor a mark for nbval."""
    return next(
        (line.strip() for line in MARKS.sub("", cell.source).splitlines() if line.strip()), ""
    )


def is_uncompared(cell):
    """Does nbval skip this cell or leave its outputs uncompared?"""
    return bool(MARKS.search(cell.source) or tags(cell) & MARK_TAGS)


def anatomy(notebook, number):
    """Faults of title, tags and figures."""
    title = (notebook.cells[0].source.splitlines() or [""])[0]
    if not re.match(rf"# {number} · \S", title):
        yield f"the first cell should begin with '# {number} · Title'; it begins with {title!r}"
    if not badges.title_and_question(notebook)[1]:
        yield "the first cell should hold the lesson's question in bold, as **…?**"
    there = set().union(*map(tags, notebook.cells))
    for tag in TAGS:
        if tag not in there:
            yield f"no cell is tagged {tag}"
    if not any(
        "image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])
    ):
        yield "there is no figure in the stored outputs"


def widest(cell):
    """The longest line of a cell; empty for a set-up cell (the same in all lessons) and a recap."""
    exempt = tags(cell) & {"setup", "recap"}
    return "" if exempt else max(cell.source.splitlines(), key=len, default="")


def wide_cells(notebook):
    """How many code cells have a line of more than WIDEST_LINE characters."""
    code = (c for c in notebook.cells if c.cell_type == "code")
    return sum(len(widest(cell)) > WIDEST_LINE for cell in code)


def style(notebook, wide_allowed=0):
    """Faults of length and wording. Up to `wide_allowed` cells may have lines of 101 to 110."""
    lengths = []
    limit = WIDEST_ALLOWED if wide_cells(notebook) <= wide_allowed else WIDEST_LINE
    for position, cell in enumerate(notebook.cells, 1):
        where = f"cell {position} ({first_line(cell)[:50]})"
        if cell.cell_type == "code":
            folded = FOLDED in tags(cell)
            length = sum(bool(line.strip()) for line in cell.source.splitlines())
            lengths += [] if folded else [length]
            longest = LONGEST_FOLDED if folded else LONGEST_CELL
            if length > longest:
                yield f"{where} has {length} lines; {longest} are allowed"
            line = widest(cell)
            if len(line) > limit:
                yield (
                    f"{where} has a line of {len(line)} characters, which a reader has to scroll; "
                    f"{WIDEST_LINE} are allowed: {line.strip()[:40]}"
                )
            if cell.source.rstrip().endswith(";"):
                yield (
                    f"{where} ends in ';', which hides a value from a reader but not from nbval; "
                    "write `_ = ...`"
                )
            yield from folding(cell, where)
            continue
        if words(cell.source) > WORDS:
            yield (
                f"{where} has {words(cell.source)} words; {WORDS} are allowed, "
                "tables and formulas not counted"
            )
        if "!" in prose(cell.source):
            yield f"{where} has an exclamation mark"
    if lengths and statistics.median(lengths) > MEDIAN_CELL:
        yield (
            f"half of the code cells have more than {MEDIAN_CELL} lines "
            f"(median {statistics.median(lengths):g})"
        )


def folding(cell, where):
    """A folded cell has a title, which is all that a reader sees of it; a title folds its cell."""
    titled = bool(TITLE.match(cell.source))
    if FOLDED in tags(cell) and not titled:
        yield (
            f"{where} is tagged {FOLDED}, so its code is folded away; say on its first line "
            "what it does: '# @title Draw the losses'"
        )
    if titled and FOLDED not in tags(cell):
        yield f"{where} begins with @title, which Colab folds; tag it {FOLDED}, or drop the title"
    if FOLDED in tags(cell) and cell.metadata.get("cellView") != FOLDS["cellView"]:
        yield (
            f"{where} is tagged {FOLDED} but not marked for Colab; "
            "run `python -m tools.notebooks execute` or from-py"
        )


def made_by_tools(notebook, filename, repo):
    """Faults of what `tools.badges` and `tools.notebooks` write.

    What JupyterLab adds when a reader opens and saves a lesson is no fault (`pages.essence`).
    """
    if badges.row(filename, repo) not in notebook.cells[0].source:
        yield (
            f"the badges do not lead to {repo}, notebooks/{filename}; run `python -m tools.badges`"
        )
    for cell in notebook.cells:
        if "setup" in tags(cell) and cell.source != badges.setup_cell(repo):
            yield (
                "the set-up cell differs from utils.colab.SETUP_CELL; run `python -m tools.badges`"
            )
    clean = essence(normalise(badges.dress(copy.deepcopy(notebook), filename, repo, {})))
    stored = essence(notebook)
    if clean.metadata != stored.metadata or any(
        (a.id, a.metadata) != (b.get("id"), b.metadata)
        for a, b in zip(clean.cells, stored.cells, strict=True)
    ):
        yield (
            "metadata or cell ids are not as the tools write them; "
            "run `python -m tools.notebooks execute`"
        )


def links(notebook, folder):
    """Faults of links to files: each must lead somewhere."""
    for position, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)\s#]+)", cell.source):
                if not (folder / target).exists():
                    yield f"cell {position} links to {target}, which does not exist"


def execution(notebook):
    """Faults of the stored run."""
    counts = [
        c.execution_count for c in notebook.cells if c.cell_type == "code" and c.source.strip()
    ]
    if counts != list(range(1, len(counts) + 1)):
        yield (
            f"the cells were not run once each from top to bottom (counts {counts}); "
            "run `python -m tools.notebooks execute`"
        )
    yield from all_faults(notebook)


def comparison(notebook, stem, listed):
    """Faults of what nbval compares.

    Every exception is listed with its reason, no entry is stale, at least 80 % are compared.
    """
    reasons = dict(listed.get(stem) or {})
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for cell in filter(is_uncompared, code):
        key = next((k for k in reasons if k == cell.id or first_line(cell).startswith(k)), None)
        if key is None or not str(reasons.pop(key) or "").strip():
            yield (
                f"the cell {first_line(cell)!r} is not compared, "
                f"and tests/uncompared_cells.yml gives no reason under {stem}"
            )
    for key in reasons:
        yield (
            f"tests/uncompared_cells.yml lists {key!r} under {stem}, "
            "but no uncompared cell is called so; remove the entry"
        )
    with_text = [c for c in code if any(output_text(o).strip() for o in c.outputs)]
    compared = [c for c in with_text if not is_uncompared(c)]
    if with_text and len(compared) < COMPARED * len(with_text):
        yield (
            f"{len(compared)} of {len(with_text)} code cells with text output are compared; "
            f"at least {COMPARED:.0%} must be"
        )


def read(path):
    """A notebook from its file; Problem says what is wrong with a file that is not one."""
    try:
        notebook = nbformat.read(path, 4)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError) as error:
        raise Problem(
            f"this is not a notebook that can be read ({type(error).__name__}: {error!s:.200}); "
            "bring it back with git, or make it again with from-py"
        ) from None
    if not notebook.cells:
        raise Problem("the notebook has no cells")
    return notebook


def listing(path):
    """What a YAML file of exceptions says, as a dictionary by lesson; empty without the file."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    except yaml.YAMLError as error:
        raise Problem(f"tests/{path.name} is not YAML: {error}") from None
    return found or {}


def faults(path, repo=None, listed=None, wide=None):
    """All faults of one notebook file, as sentences; an empty list if there are none.

    `listed` and `wide` stand for tests/uncompared_cells.yml and tests/wide_cells.yml.
    """
    path = pathlib.Path(path)
    try:
        notebook = read(path)
        listed = listing(UNCOMPARED) if listed is None else listed
        wide = listing(WIDE_CELLS) if wide is None else wide
    except Problem as problem:
        return [str(problem)]
    repo = badges.repository() if repo is None else repo
    found = [
        *anatomy(notebook, path.name[:2]),
        *style(notebook, wide.get(path.stem, 0)),
        *made_by_tools(notebook, path.name, repo),
        *links(notebook, path.parent),
        *execution(notebook),
        *comparison(notebook, path.stem, listed),
    ]
    if path.stat().st_size >= BYTES:
        found.append(
            f"the file has {path.stat().st_size / 1e6:.1f} MB; "
            f"{BYTES / 1e6:g} MB are allowed (smaller figures?)"
        )
    return found


def report(path):
    """Print that a lesson is in order, or raise Problem with its faults."""
    if found := faults(path):
        raise Problem("\n".join(f"{path.name}: {fault}" for fault in found))
    allowed, there = listing(WIDE_CELLS).get(path.stem, 0), wide_cells(read(path))
    hint = (
        f"; tests/wide_cells.yml allows {allowed}, lower it to {there}" if there < allowed else ""
    )
    print(f"{path.name}: in order{hint}")
