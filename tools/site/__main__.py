"""Build the site and check it, in the environment that `make site` makes.

python -m tools.site [--to build/site]
"""

import argparse
import html.parser
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.parse

from tools.site import stage
from utils import ROOT

HERE = pathlib.Path(__file__).parent
MOST_BYTES = 30_000_000
RELATIONS = (
    "canonical",
    "index",
    "search",
    "next",
    "prev",
)  # addresses that a browser does not fetch


class Page(html.parser.HTMLParser):
    """Links, anchors and outside files of one page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.outside = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        at = dict(attributes)
        self.anchors |= {at[k] for k in ("id", "name") if at.get(k)}
        source = at.get("src") or (at.get("href") if tag == "link" else None)
        only_named = tag == "link" and at.get("rel") in RELATIONS
        if source and source.startswith(("http:", "https:", "//")) and not only_named:
            self.outside.append(source)
        self.links += [at[k] for k in ("href", "src") if at.get(k)]


def broken_links(folder):
    """Links inside the site that lead nowhere, and files that pages fetch from elsewhere."""
    there = (p for p in sorted(folder.rglob("*.html")) if "_static" not in p.parts)  # templates
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in there}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder).as_posix()
        found += [f"{name} fetches {source} from elsewhere" for source in page.outside]
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
                target = target / "index.html" if target.is_dir() else target
            anchor = urllib.parse.unquote(parts.fragment)
            if not target.exists():
                found.append(f"{name} links to {link}, which does not exist")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{name} links to {link}, and there is no such place on that page")
    return found


def mathjax(target):
    """Put MathJax's one file into `target`, from the package that carries it: pages need no CDN."""
    import importlib.metadata

    files = importlib.metadata.files("django-static-mathjax") or []
    found = next(f for f in files if str(f).endswith("es5/tex-svg.js"))
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(found.locate(), target / "tex-svg.js")


def build(to):
    """Stage, build and check; returns (seconds, bytes, problems)."""
    began = time.perf_counter()
    source, pages = to / "source", to / "html"
    numbers = stage.stage(source)
    static = source / "_static"
    mathjax(static / "mathjax")
    for name in ("course.css", "course.js"):
        shutil.copy(HERE / name, static)
    shutil.rmtree(pages, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-c", str(HERE), "-d", str(to / "doctrees"), "-E", str(source), str(pages)]
    done = subprocess.run(command, env={**os.environ, "COURSE_STATIC": str(static)}, check=False)
    if done.returncode:
        return time.perf_counter() - began, 0, ["Sphinx stopped; what it says stands above"]
    (pages / ".nojekyll").touch()  # GitHub Pages leaves out folders that begin with _ without it
    problems = broken_links(pages)
    problems += [
        f"lesson {n:02d} has no page"
        for n in numbers
        if not list((pages / "notebooks").glob(f"{n:02d}_*.html"))
    ]
    size = sum(p.stat().st_size for p in pages.rglob("*") if p.is_file())
    if size > MOST_BYTES:
        problems.append(f"the site has {size / 1e6:.0f} MB; {MOST_BYTES / 1e6:g} MB are allowed")
    return time.perf_counter() - began, size, problems


def ask_outside(to):
    """Sphinx's linkcheck over the staged source; 1 if one does not answer."""
    source, report = to / "source", to / "links"
    stage.stage(source)
    (source / "_static").mkdir()
    command = [sys.executable, "-m", "sphinx", "-b", "linkcheck", "-q", "-c", str(HERE)]
    command += ["-d", str(to / "doctrees-links"), str(source), str(report)]
    environment = {**os.environ, "COURSE_STATIC": str(source / "_static")}
    subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
    said = (report / "output.txt").read_text(encoding="utf-8").splitlines()
    broken = [line for line in said if "[broken]" in line or "[timeout]" in line]
    print("\n".join(broken) or "every address outside the course answers")
    return 1 if broken else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", default="build/site", help="folder for the site")
    parser.add_argument("--links", action="store_true", help="only ask the addresses outside")
    arguments = parser.parse_args()
    to = (ROOT / arguments.to).resolve()
    if arguments.links:
        sys.exit(ask_outside(to))
    seconds, size, problems = build(to)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{seconds:.0f} s, {size / 1e6:.1f} MB, no warning, no broken link: {to / 'html'}")
    print(f"To look at it: python3 -m http.server --directory '{to / 'html'}'")


if __name__ == "__main__":
    main()
