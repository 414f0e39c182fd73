"""Badges, set-up cells, cost lines and the README's table.

All are made from pyproject.toml's repository and data/results/timings.json.

python -m tools.badges                     rewrite them
python -m tools.badges --repository o/n    change the repository first (`make badges REPO=o/n`)
python -m tools.badges --revision v0.1.0   change the branch or tag (`make badges REVISION=v0.1.0`)
"""

import argparse
import copy
import json
import pathlib
import re
import sys
import tomllib

import nbformat
import yaml

from tools.pages import essence, normalise
from utils import ROOT
from utils.colab import SETUP_CELL, course_version

NOTEBOOKS = ROOT / "notebooks"
COURSE = ROOT / "docs" / "course.yml"
TIMINGS = ROOT / "data" / "results" / "timings.json"
# The line of badges of a lesson; it begins with Colab's.
ROW = re.compile(r"(?m)^\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\).*$")
SITE = re.compile(r"https://[\w.-]+\.github\.io/[\w.-]+/")
CODE = re.compile(r"(repository-code: ).*")
CLONE = re.compile(r"(git clone )https://github\.com/\S+")
OPEN = re.compile(r"(<!-- open -->\n).*?(<!-- /open -->)", re.DOTALL)
NEEDS = re.compile(r"(<!-- needs -->\n).*?(<!-- /needs -->)", re.DOTALL)
COST = re.compile(r"(?m)^.*<!-- cost -->.*$")
TABLE = re.compile(r"(<!-- lessons -->\n).*?(<!-- /lessons -->)", re.DOTALL)


def setting(name, root=ROOT):
    """A value of pyproject.toml's [tool.course]."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tool"]["course"][name]


def repository(root=ROOT):
    """GitHub's owner/name."""
    return setting("repository", root)


def revision(root=ROOT):
    """The branch or tag that badges open and set-up cells clone."""
    return setting("revision", root)


def write_setting(name, value, root=ROOT):
    """Write another value into pyproject.toml's [tool.course]."""
    path = root / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(rf'(?m)^{name} = ".*"', f'{name} = "{value}"', text), encoding="utf-8")


def set_repository(name, root=ROOT):
    """Set another owner/name. ValueError if it does not look like one."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(
            f"{name!r} is not a repository's name. Say it as on GitHub: REPO=owner/name."
        )
    write_setting("repository", name, root)


def set_revision(name, root=ROOT):
    """Set another branch or tag. ValueError if git would not take the name."""
    if not re.fullmatch(r"(?!-)[\w./-]+(?<![./])", name) or ".." in name:
        raise ValueError(f"{name!r} is not a branch or tag. For example: REVISION=v0.1.0.")
    write_setting("revision", name, root)


def lesson_paths(folder=NOTEBOOKS):
    """The numbered notebooks in order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def launches(filename, repo, at=None):
    """[(place, badge's picture, address)] where a lesson opens. Codespaces opens them all.

    `at` is the branch or tag; without it, pyproject.toml's.
    """
    at = at or revision()
    file = f"{repo}/blob/{at}/notebooks/{filename}"
    return [
        (
            "Colab",
            "https://colab.research.google.com/assets/colab-badge.svg",
            f"https://colab.research.google.com/github/{file}",
        ),
        (
            "Kaggle",
            "https://kaggle.com/static/images/open-in-kaggle.svg",
            f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}",
        ),
        (
            "Binder",
            "https://mybinder.org/badge_logo.svg",
            f"https://mybinder.org/v2/gh/{repo}/{at}?urlpath=lab/tree/notebooks/{filename}",
        ),
        (
            "Codespaces",
            "https://github.com/codespaces/badge.svg",
            f"https://codespaces.new/{repo}{'' if at == 'main' else f'/tree/{at}'}?quickstart=1",
        ),
    ]


def badge(filename, repo, place="Colab", at=None):
    """Markdown of one of a notebook's badges, such as Colab's."""
    name, picture, address = next(one for one in launches(filename, repo, at) if one[0] == place)
    return f"[![Open in {name}]({picture})]({address})"


def row(filename, repo, at=None):
    """Markdown of a notebook's line of badges."""
    places = (place for place, _, _ in launches(filename, repo, at))
    return " ".join(badge(filename, repo, place, at) for place in places)


def setup_cell(repo, at=None):
    """A lesson's set-up cell: it clones the revision `at`, and names the course's version."""
    return SETUP_CELL.format(repository=repo, revision=at or revision(), version=course_version())


def site_address(repo):
    """Where GitHub Pages shows the repository's site."""
    owner, name = repo.split("/")
    return f"https://{owner}.github.io/{name}/"


def timings():
    """{lesson number: {seconds, peak_mib, ...}} as measured by `tools.notebooks execute`."""
    return json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.exists() else {}


def cost(number, measured):
    """(CPU time, T4 time, peak memory) as text; "not measured" where there is no measurement.

    The T4's is empty then: no table shows a column of things that were not measured.
    """
    of = measured.get(number, {})
    return (
        f"{of['seconds']:.0f} s" if "seconds" in of else "not measured",
        f"{of['t4_minutes']:g} min" if "t4_minutes" in of else "",
        f"{of['peak_mib'] / 1024:.1f} GiB" if "peak_mib" in of else "not measured",
    )


def dress(notebook, filename, repo, measured, at=None):
    """Put badges, cost line, set-up cell and metadata into a notebook (in place) and return it."""
    number = filename[:2]
    first = notebook.cells[0]
    first.source = ROW.sub(lambda _: row(filename, repo, at), first.source)
    if not ROW.search(first.source):
        title, _, rest = first.source.partition("\n")
        first.source = f"{title}\n\n{row(filename, repo, at)}\n{rest}".rstrip()
    cpu, t4, peak = cost(number, measured)
    t4 = f" · T4 {t4}" if t4 else ""
    line = f"**Cost:** CPU (one core) {cpu}{t4} · peak memory {peak} <!-- cost -->"
    first.source = (
        COST.sub(lambda _: line, first.source)
        if COST.search(first.source)
        else f"{first.source}\n\n{line}"
    )
    for cell in notebook.cells:
        if "setup" in cell.metadata.get("tags", []):
            cell.source = setup_cell(repo, at)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.colab = {"name": filename}
    if number == "13":
        notebook.metadata.colab["gpuType"] = "T4"
        notebook.metadata.accelerator = "GPU"
    return notebook


def title_and_question(notebook):
    """("LoRA", "Is the update low-rank?") from a first cell "# 05 · LoRA".

    The question is its first bold sentence.
    """
    source = notebook.cells[0].source
    title = re.sub(r"^#\s*(\d\d\s*[·.:]?\s*)?", "", (source.splitlines() or [""])[0]).strip()
    question = re.search(r"\*\*([^*]+\?)\*\*", source)
    return title, question.group(1).strip() if question else ""


def table(repo, measured, folder=NOTEBOOKS, at=None):
    """The README's table of lessons, one row a notebook."""
    paths = lesson_paths(folder)
    on_t4 = any(cost(path.name[:2], measured)[1] for path in paths)
    head = ["lesson", "its question", "open", "CPU", *(["T4"] if on_t4 else [])]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for path in paths:
        title, question = title_and_question(nbformat.read(path, 4))
        cpu, t4, _ = cost(path.name[:2], measured)
        link = f"[{path.name[:2]} {title}](notebooks/{path.name})"
        cells = [link, question, badge(path.name, repo, at=at), cpu, *([t4] if on_t4 else [])]
        rows.append(f"| {' | '.join(cells)} |")
    seconds = [measured.get(path.name[:2], {}).get("seconds", 0) for path in paths]
    if paths and all(seconds):
        whole = [f"all {len(paths)}, one after the other", "", "", f"{sum(seconds) / 60:.0f} min"]
        rows.append(f"| {' | '.join(whole + [''] * on_t4)} |")
    if not on_t4:
        rows.append("\nNo time on a T4 has been measured yet; lesson 13 is made for one.")
    return "\n".join(rows) + "\n"


def needs_table(folder=NOTEBOOKS):
    """The README's table of needs and the lessons that answer them, from docs/course.yml."""
    there = {int(path.name[:2]): path for path in lesson_paths(folder)}
    rows = ["| I want to … | lessons |", "|---|---|"]
    for one in yaml.safe_load(COURSE.read_text(encoding="utf-8"))["needs"]:
        links = [f"[{n:02d}](notebooks/{there[n].name})" for n in one["lessons"] if n in there]
        if links:
            rows.append(f"| {one['need'][0].lower()}{one['need'][1:]} | {', '.join(links)} |")
    return "\n".join(rows) + "\n"


def readme(text, repo, measured, folder, at=None):
    """The README's text with what is made by this tool made anew."""
    first = lesson_paths(folder)[0].name if lesson_paths(folder) else "00_start_here.ipynb"
    made = {
        TABLE: table(repo, measured, folder, at),
        NEEDS: needs_table(folder),
        OPEN: row(first, repo, at) + "\n",
    }
    for place, new in made.items():
        text = place.sub(lambda m, new=new: m[1] + new + m[2], text)
    text = SITE.sub(site_address(repo), text)
    return CLONE.sub(rf"\1https://github.com/{repo}", text)


def write_if_changed(path, text):
    """Leave a file alone that already says so; True if it was written."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def rewrite(root=ROOT):
    """Rewrite all notebooks (badges, costs, set-up cells, metadata) and the README.

    Returns the paths that changed.

    A notebook that a reader has opened and saved says the same as before and is left alone.
    """
    repo, at, measured, changed = repository(root), revision(root), timings(), []
    for path in lesson_paths(root / "notebooks"):
        stored = nbformat.read(path, 4)
        notebook = normalise(dress(copy.deepcopy(stored), path.name, repo, measured, at))
        if essence(notebook) != essence(stored):
            path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
            changed.append(path)
    page = root / "README.md"
    if page.exists():
        text = readme(page.read_text(encoding="utf-8"), repo, measured, root / "notebooks", at)
        if write_if_changed(page, text):
            changed.append(page)
    citation = root / "CITATION.cff"
    if citation.exists():
        text = SITE.sub(site_address(repo), citation.read_text(encoding="utf-8"))
        text = CODE.sub(rf'\1"https://github.com/{repo}"', text)
        if write_if_changed(citation, text):
            changed.append(citation)
    return changed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", help="GitHub's owner/name")
    parser.add_argument("--revision", help="the branch or tag that badges open")
    arguments = parser.parse_args()
    try:
        if arguments.repository:
            set_repository(arguments.repository)
        if arguments.revision:
            set_revision(arguments.revision)
    except ValueError as error:
        sys.exit(str(error))
    changed = rewrite()
    print(
        "\n".join(f"rewrote {pathlib.Path(p).relative_to(ROOT)}" for p in changed)
        or "everything says so already"
    )


if __name__ == "__main__":
    main()
