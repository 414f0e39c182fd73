"""Anatomy and style of a lesson (CONTRIBUTING.md lists the rules); each fault is one sentence that says where and what to do."""

import copy
import pathlib
import re
import statistics

import nbformat
import yaml

from tools import badges
from tools.notebooks import Problem, all_faults, find, normalise, output_text
from utils import ROOT
from utils.colab import SETUP_CELL

UNCOMPARED = ROOT / "tests" / "uncompared_cells.yml"
TAGS = ("setup", "exercise", "recap")
LONGEST_CELL, MEDIAN_CELL, WIDEST_LINE, WORDS, BYTES, COMPARED = 25, 10, 110, 120, 1_000_000, 0.8
MARKS = re.compile(
    r"^\s*#+\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE
)
MARK_TAGS = {"nbval-ignore-output", "nbval-skip", "pytest-validate-ignore-output"}


def tags(cell):
    """The cell's tags as a set."""
    return set(cell.metadata.get("tags", []))


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
    """Number of words a reader reads, tables, code and formulas not counted."""
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
    title = notebook.cells[0].source.splitlines()[0]
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


def style(notebook):
    """Faults of length and wording."""
    lengths = []
    for position, cell in enumerate(notebook.cells, 1):
        where = f"cell {position} ({first_line(cell)[:50]})"
        if cell.cell_type == "code":
            lengths.append(sum(bool(line.strip()) for line in cell.source.splitlines()))
            if lengths[-1] > LONGEST_CELL:
                yield f"{where} has {lengths[-1]} lines; {LONGEST_CELL} are allowed"
            widest = max(cell.source.splitlines(), key=len, default="")
            if len(widest) > WIDEST_LINE and not tags(cell) & {
                "setup",
                "recap",
            }:  # the same in all lessons; a text
                yield f"{where} has a line of {len(widest)} characters, which a reader has to scroll; {WIDEST_LINE} are allowed: {widest.strip()[:40]}"
            if cell.source.rstrip().endswith(";"):
                yield f"{where} ends in ';', which hides a value from a reader but not from nbval; write `_ = ...`"
            continue
        if words(cell.source) > WORDS:
            yield f"{where} has {words(cell.source)} words; {WORDS} are allowed, tables and formulas not counted"
        if "!" in prose(cell.source):
            yield f"{where} has an exclamation mark"
    if lengths and statistics.median(lengths) > MEDIAN_CELL:
        yield f"half of the code cells have more than {MEDIAN_CELL} lines (median {statistics.median(lengths):g})"


def made_by_tools(notebook, filename, repo):
    """Faults of what `tools.badges` and `tools.notebooks` write."""
    if badges.badge(filename, repo) not in notebook.cells[0].source:
        yield f"the badge does not lead to {repo}, notebooks/{filename}; run `python -m tools.badges`"
    for cell in notebook.cells:
        if "setup" in tags(cell) and cell.source != SETUP_CELL.format(repository=repo):
            yield "the set-up cell differs from utils.colab.SETUP_CELL; run `python -m tools.badges`"
    clean = normalise(badges.dress(copy.deepcopy(notebook), filename, repo, {}))
    if clean.metadata != notebook.metadata or any(
        (a.id, a.metadata) != (b.id, b.metadata) for a, b in zip(clean.cells, notebook.cells)
    ):
        yield "metadata or cell ids are not as the tools write them; run `python -m tools.notebooks execute`"


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
        yield f"the cells were not run once each from top to bottom (counts {counts}); run `python -m tools.notebooks execute`"
    yield from all_faults(notebook)


def comparison(notebook, stem, listed):
    """Faults of what nbval compares: every exception listed with its reason, no stale entry, at least 80 % compared."""
    reasons = dict(listed.get(stem) or {})
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for cell in filter(is_uncompared, code):
        key = next((k for k in reasons if k == cell.id or first_line(cell).startswith(k)), None)
        if key is None or not str(reasons.pop(key) or "").strip():
            yield f"the cell {first_line(cell)!r} is not compared, and tests/uncompared_cells.yml gives no reason under {stem}"
    for key in reasons:
        yield f"tests/uncompared_cells.yml lists {key!r} under {stem}, but no uncompared cell is called so; remove the entry"
    with_text = [c for c in code if any(output_text(o).strip() for o in c.outputs)]
    compared = [c for c in with_text if not is_uncompared(c)]
    if with_text and len(compared) < COMPARED * len(with_text):
        yield f"{len(compared)} of {len(with_text)} code cells with text output are compared; at least {COMPARED:.0%} must be"


def faults(path, repo=None, listed=None):
    """All faults of one notebook file, as sentences; an empty list if there are none."""
    path = pathlib.Path(path)
    notebook = nbformat.read(path, 4)
    repo = badges.repository() if repo is None else repo
    if listed is None:
        listed = yaml.safe_load(UNCOMPARED.read_text(encoding="utf-8")) or {}
    found = [
        *anatomy(notebook, path.name[:2]),
        *style(notebook),
        *made_by_tools(notebook, path.name, repo),
        *links(notebook, path.parent),
        *execution(notebook),
        *comparison(notebook, path.stem, listed),
    ]
    if path.stat().st_size >= BYTES:
        found.append(
            f"the file has {path.stat().st_size / 1e6:.1f} MB; {BYTES / 1e6:g} MB are allowed (smaller figures?)"
        )
    return found


def report(number):
    """Print that a lesson is in order, or raise Problem with its faults."""
    path = find(number)
    if found := faults(path):
        raise Problem("\n".join(f"{path.name}: {fault}" for fault in found))
    print(f"{path.name}: in order")
