"""Copies of the lessons as the site's source. Nothing is executed, and no notebook is touched."""

import json
import re
import shutil

import nbformat
import yaml

from tools import badges, symptoms
from tools.pages import FOLDED, TITLE, figure_text, tags
from utils import ROOT

COURSE, GLOSSARY = ROOT / "docs" / "course.yml", ROOT / "docs" / "glossary.yml"
README_LINKS = {"../docs/claims.md": "../claims.md", "../README.md": "../index.md"}
# No mention of a term is looked for in code, formulas, links, pictures, HTML and headings. A line
# that begins with <details or <summary is HTML up to the next empty line, so no link works in it.
PROTECTED = re.compile(
    r"^ {0,3}</?(?:details|summary)\b.*?(?=\n[ \t]*\n|\Z)"
    r"|```.*?```|~~~.*?~~~|\$\$.*?\$\$|\$[^$\n]+\$|`[^`]*`|!?\[[^\]]*\]\([^)]*\)|<!--.*?-->|<[^>]*>"
    r"|^#{1,6} .*?$|^ {4}.*?$|https?://\S+",
    re.DOTALL | re.MULTILINE,
)


class Terms:
    """The glossary's terms, to be linked at their first mention on a page."""

    def __init__(self, entries):
        self.of = {}  # a word as pages write it, in lower case: the term it belongs to
        self.not_in = {entry["term"]: entry.get("not_in", ()) for entry in entries}
        for entry in entries:
            for word in (entry["term"], *entry.get("also", ())):
                self.of[word.lower()] = entry["term"]
        longest_first = sorted(self.of, key=len, reverse=True)
        words = "|".join(re.escape(word) for word in longest_first)
        self.pattern = re.compile(rf"(?<![\w/.-])({words})(?![\w-]|\.\w)", re.IGNORECASE)

    def foreign(self, number):
        """Terms that are not linked in lesson `number`: their words mean something else there."""
        return {term for term, lessons in self.not_in.items() if number in lessons}

    def link(self, markdown, seen):
        """The text with links at terms that are not in `seen` yet; those linked are added to it."""

        def one(match):
            term = self.of[match[1].lower()]
            if term in seen:
                return match[0]
            seen.add(term)
            return f"{{term}}`{match[1]} <{term}>`"

        parts, at = [], 0
        for kept in PROTECTED.finditer(markdown):
            parts += [self.pattern.sub(one, markdown[at : kept.start()]), kept[0]]
            at = kept.end()
        return "".join([*parts, self.pattern.sub(one, markdown[at:])])


def course():
    """docs/course.yml: parts and needs."""
    return yaml.safe_load(COURSE.read_text(encoding="utf-8"))


def glossary():
    """docs/glossary.yml: a list of {term, also, means, lesson, not_in}."""
    return yaml.safe_load(GLOSSARY.read_text(encoding="utf-8"))


def lessons(folder):
    """{number: (path, title, question)} of the lessons there are."""
    return {
        int(path.name[:2]): (path, *badges.title_and_question(nbformat.read(path, 4)))
        for path in badges.lesson_paths(folder)
    }


def parts(there):
    """[(part, [number, ...])] for the parts that have a lesson. Every lesson is in exactly one."""
    found = [
        (part, [n for n in there if part["lessons"][0] <= n <= part["lessons"][1]])
        for part in course()["parts"]
    ]
    placed = sorted(n for _, numbers in found for n in numbers)
    if placed != sorted(there):
        raise ValueError(
            f"docs/course.yml puts lessons {placed} into parts; there are {sorted(there)}"
        )
    return [(part, numbers) for part, numbers in found if numbers]


def needs(there):
    """[(need, [number, ...])] for the needs that some existing lesson answers."""
    found = [(n["need"], [x for x in n["lessons"] if x in there]) for n in course()["needs"]]
    return [(need, numbers) for need, numbers in found if numbers]


def slug(anchor):
    """A heading's place as the site names it, from JupyterLab's ("Break-it:-another" there)."""
    return re.sub(r"[^\w-]", "", anchor.lower())


def point(markdown, folder, repo):
    """The text with its links led to the site's pages, or to GitHub for files not on the site."""

    def one(match):
        target, _, anchor = match[2].partition("#")
        if not target:  # a place on the same page
            return f"](#{slug(anchor)})"
        if target.endswith(".ipynb") and anchor:
            return f"]({target}#{slug(anchor)})"
        if target in README_LINKS:
            return f"]({README_LINKS[target]}{'#' + anchor if anchor else ''})"
        path = (folder / target).resolve()
        if target.endswith(".ipynb") and path.parent == folder or not path.exists():
            return match[0]  # a page, or a broken link that the build is to complain about
        kind = "tree" if path.is_dir() else "blob"
        inside = path.relative_to(folder.parent).as_posix()
        return f"](https://github.com/{repo}/{kind}/{badges.revision()}/{inside})"

    return re.sub(r"(\]\()(?!https?://|mailto:)([^)\s]+)\)", one, markdown)


def launch_line(filename, repo):
    """Where a lesson can be opened, as text: a badge would come from somebody else's server."""
    places = badges.launches(filename, repo)
    return "Open in " + " · ".join(f"[{name}]({address})" for name, _, address in places)


def heads(html):
    """An HTML table whose first row of headings is a `thead`, with a scope for screen readers."""
    html = re.sub(r"<th(?=[ >])(?![^>]*scope)", '<th scope="col"', html)
    if "<thead" in html:
        return html
    first = r"(<table[^>]*>)(<tr>(?:<th[^>]*>(?:(?!</th>).)*</th>)+</tr>)"
    return re.sub(first, r"\1<thead>\2</thead>", html, flags=re.DOTALL)


def unbroken(html):
    """A table in which 0.97 ± 0.02, an interval, or a number with its unit stays on one line."""
    number = r"[-+−]?\d[\d.,]*×?"
    html = re.sub(
        rf"({number}) (±|to) (?={number})", "\\1\N{NO-BREAK SPACE}\\2\N{NO-BREAK SPACE}", html
    )
    return re.sub(r"(\d) (?=(?:s|ms|MB|GB|GiB|MiB|%|tokens/s)\b|%)", "\\1\N{NO-BREAK SPACE}", html)


def shown_width(cell):
    """{"width": "400px"} if the cell's first figure has more pixels than it is to be shown with."""
    for output in cell.outputs:
        if width := output.get("metadata", {}).get("image/png", {}).get("width"):
            return {"width": f"{width}px"}
    return {}


def page(notebook, path, repo, terms):
    """A lesson as the site shows it, in place: links, folds, alt texts, heads of tables, terms."""
    seen, heading = terms.foreign(int(path.name[:2])), ""
    notebook.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            if cell is notebook.cells[0]:
                line = launch_line(path.name, repo)
                cell.source = badges.ROW.sub(lambda _, line=line: line, cell.source, count=1)
            cell.source = terms.link(point(cell.source, path.parent, repo), seen)
            found = re.findall(r"^#{1,6} (.+)$", cell.source, re.MULTILINE)
            heading = found[-1].strip() if found else heading
            continue
        shown = cell.metadata.setdefault("mystnb", {})
        if any("image/png" in o.get("data", {}) for o in cell.outputs):
            shown["image"] = {"alt": figure_text(cell, heading), **shown_width(cell)}
        if "setup" in tags(cell):
            cell.metadata.tags = [*cell.metadata.tags, FOLDED]
            shown["code_prompt_show"] = "Set-up"
        elif FOLDED in tags(cell) and TITLE.match(cell.source):
            title, _, cell.source = cell.source.partition("\n")
            shown["code_prompt_show"] = (
                "Code: " + re.sub(r"#\s?@title (Figure: )?", "", title).strip()
            )
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = unbroken(heads(output.data["text/html"]))
    return notebook


def lesson_link(number, there):
    """[05 LoRA](notebooks/05_lora.ipynb), with a space that does not break after the number."""
    path, title, _ = there[number]
    return f"[{number:02d}\N{NO-BREAK SPACE}{title}](notebooks/{path.name})"


def paragraph(text, beginning):
    """The one paragraph of `text` that begins with these words."""
    found = [one for one in text.split("\n\n") if one.startswith(beginning)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} paragraphs begin with “{beginning}”; the site needs one")
    return found[0]


def index(there, measured, repo):
    """The first page: what the course is and for whom, its lessons by part, and where to go on."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    about, whom, live = (
        paragraph(readme, words) for words in ("A course in", "It is for", "- **Live**")
    )
    first = lesson_link(min(there), there)
    text = [
        f"# Parameter-efficient fine-tuning, measured\n\n{about}\n\n{whom}\n\n"
        f"**Begin with {first}**, or look up [what you want to do](needs.md). You can read a "
        "lesson here with its outputs. To run it, follow a link under its title: Colab, Kaggle, "
        "Binder and Codespaces need nothing on your machine. "
        f"[The repository](https://github.com/{repo}) says how to install the course.\n\n"
        f"A number in a lesson is one of three kinds:\n\n{live}\n\n"
        "On these pages a live number comes from the run that is stored with the lesson.\n"
    ]
    for part, numbers in parts(there):
        rows = [
            f"| {lesson_link(n, there)} | {there[n][2]} | {badges.cost(f'{n:02d}', measured)[0]} |"
            for n in numbers
        ]
        head = "| lesson | its question | CPU, one core |\n|---|---|---|\n"
        text.append(f"## {part['title']}\n\n{part['about']}\n\n{head}" + "\n".join(rows) + "\n")
    text.append(
        "## And beside the lessons\n\n"
        "- [I want to …: needs and the lessons that answer them](needs.md)\n"
        "- [What do you see? From a symptom to the cell that shows its cause](symptoms.md)\n"
        "- [The article's claims, judged one by one](claims.md)\n- [Glossary](glossary.md)\n"
    )
    for part, numbers in parts(there):
        pages = "\n".join(f"notebooks/{there[n][0].stem}" for n in numbers)
        text.append(f"```{{toctree}}\n:hidden:\n:caption: {part['title']}\n\n{pages}\n```\n")
    text.append(
        "```{toctree}\n:hidden:\n:caption: Look things up\n\nneeds\nsymptoms\nglossary\n"
        "The article's claims <claims>\n```\n"
    )
    return "\n".join(text)


def needs_page(there):
    """Needs and the lessons that answer them."""
    rows = [
        f"| {need} | " + ", ".join(lesson_link(n, there) for n in numbers) + " |"
        for need, numbers in needs(there)
    ]
    return "# I want to …\n\n| need | lessons |\n|---|---|\n" + "\n".join(rows) + "\n"


def glossary_page(entries, there):
    """The glossary, each term with the lesson that explains it."""
    text = ["# Glossary\n\n:::{glossary}"]
    for entry in sorted(entries, key=lambda e: e["term"].lower()):
        number = entry.get("lesson")
        more = f" Lesson {lesson_link(number, there)} explains it." if number in there else ""
        text.append(f"{entry['term']}\n  {' '.join(entry['means'].split())}{more}\n")
    return "\n".join([*text, ":::"]) + "\n"


def claims_page(text, repo):
    """docs/claims.md one folder higher, its links with it."""
    text = text.replace("](../notebooks/", "](notebooks/")
    return re.sub(
        r"\]\(\.\./([^)]+)\)",
        lambda m: f"](https://github.com/{repo}/blob/{badges.revision()}/{m[1]})",
        text,
    )


def stage(target, root=ROOT):
    """Write the site's source into `target` (emptied before); returns the lessons' numbers."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "notebooks").mkdir(parents=True)
    repo, terms, there = badges.repository(root), Terms(glossary()), lessons(root / "notebooks")
    for path, _, _ in there.values():
        made = page(nbformat.read(path, 4), path, repo, terms)
        text = json.dumps(made, ensure_ascii=False)
        (target / "notebooks" / path.name).write_text(text, encoding="utf-8")
    claims = (root / "docs" / "claims.md").read_text(encoding="utf-8")
    for name, text in {
        "index.md": index(there, badges.timings(), repo),
        "needs.md": needs_page(there),
        "symptoms.md": point(symptoms.page(), root / "notebooks", repo),
        "glossary.md": glossary_page(glossary(), there),
        "claims.md": claims_page(claims, repo),
    }.items():
        (target / name).write_text(text, encoding="utf-8")
    return sorted(there)
