"""What a stored notebook holds.

Its outputs' faults, its one form on disk, and what an editor may change without harm. Both
tools/notebooks.py (makes and runs lessons) and tools/lint.py (checks them) build on this module;
it imports neither.
"""

import copy
import hashlib
import re

import nbformat

FAULTS = {
    "a progress bar": re.compile(r"\d%\||\bit/s\b|\r(?!\n)|s/it\b"),
    "a warning": re.compile(r"\b\w*Warning\b: |^WARNING\b", re.MULTILINE),
    "an absolute path": re.compile(
        r"(?<![\w.:/])/(?:home|root|Users|tmp|work|content|usr|opt|var|private|mnt)/[\w.-]+"
        r"|\b[A-Z]:\\\\"
    ),
}
FOLDED = "hide-input"  # the tag of a cell whose code is not what the lesson teaches
# nbval's marks, as a comment; kept as a tag, so that no reader wonders about them.
MARK = re.compile(r"^\s*#+\s*(?:NBVAL_(IGNORE_OUTPUT|SKIP))[ \t]*\n?", re.MULTILINE)
TITLE = re.compile(r"#\s?@title \S")  # its first line; Colab shows it in place of the code
FOLDS = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # JupyterLab's and Colab's marks
# What JupyterLab writes when a reader opens, folds or scrolls a cell and saves. It says nothing
# about the lesson, so neither lint nor tests look at it; `execute` and `from-py` remove it.
EDITORS_OWN = {
    "collapsed",
    "editable",
    "jp-MarkdownHeadingCollapsed",
    "jupyter",
    "scrolled",
    "slideshow",
    "trusted",
}


class Problem(Exception):
    """Something the author or reader can put right; printed as one message with no traceback."""


def tags(cell):
    """The cell's tags as a set."""
    return set(cell.metadata.get("tags", []))


def output_text(output):
    """The text of one stored output, whatever its kind; pictures give an empty string."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    if any(kind.startswith("image/") for kind in output.data):
        return ""
    return "\n".join(
        output.data.get(kind, "") for kind in ("text/plain", "text/html", "text/markdown")
    )


def output_faults(cell):
    """What must not be in a code cell's stored outputs, as sentences."""
    faults = []
    for output in cell.outputs:
        text = re.sub(r"\x1b\[[0-9;]*m", "", output_text(output))
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            faults.append(f"raised {output.ename}: {output.evalue}")
        elif output.output_type == "stream" and output.name == "stderr":
            faults.append(f"wrote to stderr: {text.strip()[:400]}")
        elif output.output_type in ("display_data", "execute_result") and any(
            "widget" in kind for kind in output.data
        ):
            faults.append("shows a widget (a progress bar?); nothing of it would be left on a page")
        for what, pattern in FAULTS.items():
            if found := pattern.search(text):
                line = text[text.rfind("\n", 0, found.start()) + 1 :].splitlines()[0]
                faults.append(f"shows {what}: {line.strip()[:200]}")
    return faults


def all_faults(notebook):
    """`output_faults` of every code cell, each with the cell's number and first line.

    The number counts code cells from 0, as nbval does.
    """
    code = [c for c in notebook.cells if c.cell_type == "code"]
    found = []
    for number, cell in enumerate(code):
        first = cell.source.strip().splitlines()[0][:60] if cell.source.strip() else "empty"
        found += [f"code cell {number} ({first}) {fault}" for fault in output_faults(cell)]
    return found


def tag_marks(cell):
    """Turn a mark for nbval that stands in a code cell's text into the tag that says the same."""
    for mark in MARK.findall(cell.source):
        name = "nbval-" + mark.lower().replace("_", "-")
        if name not in tags(cell):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), name]
    cell.source = MARK.sub("", cell.source)


def cell_metadata(cell):
    """The only metadata a cell keeps: its tags, and for a folded code cell the marks that fold it.

    The tag `hide-input` alone decides: it folds the cell on the site, `jupyter.source_hidden` in
    JupyterLab, `cellView` in Colab.
    """
    kept = {"tags": list(cell.metadata["tags"])} if cell.metadata.get("tags") else {}
    if cell.cell_type == "code" and FOLDED in tags(cell):
        kept |= copy.deepcopy(FOLDS)
    return nbformat.from_dict(kept)


def figure_text(cell, heading):
    """What a figure shows, in words: its cell's title, the figure's own title, or the section."""
    if found := re.match(r"#\s?@title (.+)", cell.source):
        return re.sub(r"^Draw (the |a )?", "Figure: ", found[1].strip())
    if found := re.search(r"title\s*=\s*f?\"([^\"{}\\]+)\"", cell.source):
        return f"Figure: {found[1]}"
    return f"Figure of the section “{heading}”"


def normalise(notebook):
    """One form for one run, in place: stable ids, no widget state, no time stamps, folds by tag.

    Pictures get a text for those who cannot see them (nbconvert and the site use it) and keep the
    size at which they are shown. The same run gives the same file.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    seen, heading = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"^#{1,6} (.+)$", cell.source, re.MULTILINE)
            heading = found[-1].strip() if found else heading
        else:
            tag_marks(cell)
        cell.metadata = cell_metadata(cell)
        line = next((l.strip() for l in cell.source.splitlines() if l.strip()), "")
        name = hashlib.sha1(f"{cell.cell_type}:{line}".encode()).hexdigest()[:8]
        seen[name] = seen.get(name, 0) + 1
        cell.id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                size = output.get("metadata", {}).get("image/png", {})
                size = {k: size[k] for k in ("width", "height") if k in size}
                alt = figure_text(cell, heading)
                output.metadata = nbformat.from_dict({"image/png": {"alt": alt, **size}})
    return notebook


def essence(notebook):
    """A copy without what an editor writes of its own when a reader opens and saves a lesson.

    Two notebooks with equal essence are the same lesson: cells, ids, tags, outputs, Colab's
    marks. Left out are the editor's view (`EDITORS_OWN`), the Python it found (`language_info`),
    the kernel's display name and the format's minor version.
    """
    kept = copy.deepcopy(notebook)
    kept.pop("nbformat_minor", None)
    kept.metadata.pop("language_info", None)
    kept.metadata.get("kernelspec", {}).pop("display_name", None)
    for cell in kept.cells:
        for name in EDITORS_OWN & set(cell.metadata):
            del cell.metadata[name]
    return kept
