"""The index from symptom to cell: docs/symptoms.yml, made into lesson 20's table and a page.

python -m tools.symptoms            write the table into lesson 20 again, and say what has moved

A place in the file names a lesson and a few words that stand in exactly one of its cells. Cell ids
and positions change when a lesson is edited; words that a reader is sent to rarely do, and a test
says so when they do.
"""

import re
import sys

import nbformat
import yaml

from tools import badges
from tools.pages import Problem, normalise, tags
from utils import ROOT

SYMPTOMS = ROOT / "docs" / "symptoms.yml"
# The headings in lesson 20 below which one looks into case 1, and into the others.
WORKED, CASES = "Break it: a case worked through", "Twelve cases"
TAG = "symptoms"  # of lesson 20's cells that hold a table
LESSON = "20"


def groups(path=SYMPTOMS):
    """docs/symptoms.yml: [{"group", "symptoms": [{"symptom", "look", "places", "case"}]}]."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def anchor(heading):
    """The place of a heading as JupyterLab names it: spaces become dashes, the rest stays."""
    return heading.strip().replace(" ", "-")


def flat(text):
    """The text with every white space as one space."""
    return " ".join(text.split())


class Places:
    """Finds cells by their words; reads each lesson once."""

    def __init__(self, folder=badges.NOTEBOOKS):
        self.paths = {int(path.name[:2]): path for path in badges.lesson_paths(folder)}
        self.read = {}

    def sections(self, lesson):
        """[(heading above or in the cell, the cell's words)] of a lesson."""
        if lesson not in self.read:
            found, heading = [], ""
            for cell in nbformat.read(self.paths[lesson], 4).cells:
                words = flat(cell.source)
                if cell.cell_type == "markdown":
                    named = re.findall(r"^#{1,6} (.+)$", cell.source, re.MULTILINE)
                    found.append((named or [heading], words, cell.source))
                    heading = named[-1] if named else heading
                else:
                    found.append(([heading], words, cell.source))
            self.read[lesson] = found
        return self.read[lesson]

    def find(self, place):
        """(path, heading) of a place, or None if its lesson does not exist yet."""
        lesson, words = place["lesson"], flat(place["cell"])
        if lesson not in self.paths:
            return None
        there = [one for one in self.sections(lesson) if words in one[1]]
        if len(there) != 1:
            raise Problem(
                f"docs/symptoms.yml: {len(there)} cells of lesson {lesson:02d} hold the words "
                f"“{words}”; exactly one should. Choose words of the cell that is meant."
            )
        headings, _, source = there[0]
        before = flat(source.replace("\r", "")).find(words)
        heading = headings[0]
        for one in headings:  # the last heading before the words, in a cell that holds several
            at = flat(source).find(flat(f"# {one}"))
            if 0 <= at <= before + len(words):
                heading = one
        return self.paths[lesson], heading


def table(group, places, folder=""):
    """Markdown of one group: symptom, first look, links to the cells."""
    rows = ["| symptom | look first | cells to read |", "|---|---|---|"]
    for one in group["symptoms"]:
        links = []
        for place in one["places"]:
            if found := places.find(place):
                path, heading = found
                target = f"{folder}{path.name}#{anchor(heading)}"
                links.append(f"[{path.name[:2]} · {heading}]({target})")
        if case := one.get("case"):
            said = f"20 · case {case}" if folder else f"case {case} below"
            clinic = f"{folder}{places.paths[20].name}" if folder else ""  # else the same page
            links.append(f"[{said}]({clinic}#{anchor(WORKED if case == 1 else CASES)})")
        if links:
            rows.append(f"| {one['symptom']} | {one['look']} | {'; '.join(links)} |")
    return "\n".join(rows)


def cell_text(group, places):
    """The whole source of lesson 20's cell for a group."""
    return f"### {group['group']}\n\n{table(group, places)}"


def page():
    """The index as a page of the site."""
    places = Places()
    text = [
        "# What do you see?\n\nFrom a symptom to the cell that shows its cause and its repair.\n",
    ]
    text += [f"## {g['group']}\n\n{table(g, places, 'notebooks/')}\n" for g in groups()]
    return "\n".join(text)


def rewrite(folder=badges.NOTEBOOKS):
    """Put the tables into lesson 20; True if anything changed. Nothing to do without the lesson."""
    path = next(folder.glob(f"{LESSON}_*.ipynb"), None)
    if path is None:
        return False
    notebook, places, made = nbformat.read(path, 4), Places(folder), iter(groups())
    changed = False
    for cell in notebook.cells:
        if TAG in tags(cell):
            text = cell_text(next(made), places)
            changed |= cell.source != text
            cell.source = text
    if changed:
        path.write_text(nbformat.writes(normalise(notebook)) + "\n", encoding="utf-8")
    return changed


def main():
    try:
        print("lesson 20's index is written" if rewrite() else "it says so already")
    except Problem as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
