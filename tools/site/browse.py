"""Read the built site in a real browser, as a person would.

python -m tools.site.browse [--pictures FOLDER]

Needs the site's environment and a Chromium: PEFT_COURSE_CHROMIUM, Debian's or Playwright's own.
At 1280 and 400 pixels, light and dark: nothing is fetched from elsewhere, nothing is wider than the
page, formulas are drawn, the search finds a lesson, a fold opens, the theme switches. Every page is
looked at for figures out of shape and for markup that was not made into a page.
`--pictures docs` makes the README's two pictures anew.
"""

import argparse
import functools
import http.server
import os
import pathlib
import shutil
import sys
import threading

from utils import ROOT

SIZES = {"wide": (1280, 900), "narrow": (400, 800)}
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCROLLS = "table, pre, .highlight, .cell_output, mjx-container, .math, [class*=scrollable]"
WIDER = """scrolls => {
  const most = document.documentElement.clientWidth, found = [];
  for (const e of document.querySelectorAll('.bd-article *')) {
    const box = e.getBoundingClientRect();
    if (box.width && box.right > most + 1 && !e.closest(scrolls)) found.push(e.outerHTML);
  }
  return [document.documentElement.scrollWidth - most, found.slice(0, 3).map(e => e.slice(0, 90))];
}"""


# Figures that lost their shape, and markup left in the text (not in code and not in outputs).
LEFT_OVER = r"""() => {
  const found = [], article = document.querySelector('.bd-article');
  if (!article) return found;  // the search's own page
  for (const e of article.querySelectorAll('img')) {
    const box = e.getBoundingClientRect();
    const shape = box.width / box.height / (e.naturalWidth / e.naturalHeight);
    if (box.height && Math.abs(shape - 1) > 0.03) found.push(`out of shape: ${e.alt}`);
  }
  const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  for (let t; (t = texts.nextNode()); ) {
    if (t.parentElement.closest('pre, code, script, style, mjx-container, .cell_output')) continue;
    if (/\{term\}|\*\*|\]\(|\$[^$\s][^$]*\$|<\/?[a-z]+[ >]|`/.test(t.data))
      found.push(t.data.trim().slice(0, 90));
  }
  return found;
}"""
# Where the entry of this page is in the menu of lessons, and the height of the window.
MENU = """() => {
  const at = document.querySelector('.bd-links .current.active > a').getBoundingClientRect();
  return [at.top, at.bottom, innerHeight];
}"""


# The lowest contrast of text in outputs' tables, and the text that has it.
CONTRAST = """() => {
  const channels = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => channels(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const under = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor, [, , , a = 1] = channels(c);
      if (a > 0.5) return c;
    }
    return 'rgb(255, 255, 255)';
  };
  let worst = [21, ''];
  for (const e of document.querySelectorAll('div.cell_output :is(td, th)')) {
    if (!e.textContent.trim()) continue;
    const a = light(getComputedStyle(e).color), b = light(under(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.textContent.slice(0, 40)];
  }
  return worst;
}"""


def chromium():
    """Path of a Chromium on this machine, or None."""
    given = os.environ.get("PEFT_COURSE_CHROMIUM")
    return given or next(filter(None, map(shutil.which, NAMES)), None)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """A server that says nothing."""


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, address):
        """A browser that leaves a page before all of it was sent is no error."""


def serve(folder):
    """A server of `folder` on a free port of this machine; (server, address)."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def check(holds, what):
    """Raise AssertionError with what was looked for."""
    if not holds:
        raise AssertionError(what)


def theme(page):
    """The theme that the page shows now: light or dark."""
    return page.evaluate("document.documentElement.dataset.theme")


def fits(page, where):
    """Nothing but tables, code and formulas, which scroll in themselves, is wider than the page."""
    more, elements = page.evaluate(WIDER, SCROLLS)
    check(more <= 1 and not elements, f"{where}: {more} pixels too wide; {elements}")


def read_lesson(page, address, where, lesson):
    """Open a lesson: formulas are drawn, figures have a text, folds are closed and open."""
    page.goto(f"{address}/notebooks/{lesson}.html")
    page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
    page.evaluate("MathJax.startup.promise")
    check(page.locator("mjx-container svg").count() > 0, f"{where}: no formula was drawn")
    check(page.locator("mjx-merror").count() == 0, f"{where}: a formula cannot be drawn")
    pictures = page.locator("div.cell_output img")
    texts = [pictures.nth(i).get_attribute("alt") for i in range(pictures.count())]
    check(texts and all(texts), f"{where}: a figure has no text: {texts}")
    fold = page.locator("details.hide").first
    code = fold.locator("pre").first
    check(not code.is_visible(), f"{where}: the set-up cell is not folded")
    fold.locator("summary").click()
    code.wait_for(state="visible")
    page.wait_for_timeout(700)  # it fades in
    fits(page, where)
    ratio, text = page.evaluate(CONTRAST)
    check(ratio >= 4.5, f"{where}: {text!r} has a contrast of {ratio:.1f}; 4.5 can be read")


def every_page(page, address, where, folder):
    """Each page fits, its figures have their shape, and no markup is left in its text."""
    for path in sorted(p for p in folder.rglob("*.html") if "_static" not in p.parts):
        name = path.relative_to(folder).as_posix()
        page.goto(f"{address}/{name}")
        page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => 1)")
        fits(page, f"{where}, {name}")
        found = page.evaluate(LEFT_OVER)
        check(not found, f"{where}, {name}: {found}")


def menu(page, address, where):
    """The last lesson's entry is seen in the menu, though the menu began at its top."""
    page.goto(f"{address}/index.html")
    page.goto(page.locator(".bd-links a[href*='notebooks/']").last.evaluate("e => e.href"))
    page.wait_for_load_state("load")
    if page.locator(".primary-toggle:visible").count() and "narrow" in where:
        page.locator(".primary-toggle:visible").first.click()
    page.wait_for_timeout(700)  # it slides in
    top, bottom, height = page.evaluate(MENU)
    check(0 <= top and bottom <= height, f"{where}: the menu hides this page: {top}, {bottom}")


def readme_picture(page, where, to):
    """The README's picture of this size and theme: the second figure, or the second table."""
    shown = page.locator("div.cell_output " + ("table" if "narrow" in where else "img")).nth(1)
    shown.evaluate("e => e.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)
    page.screenshot(path=to)


def search(page, address, where, word, lesson):
    """The search finds a lesson by a word of it."""
    page.goto(f"{address}/search.html?q={word}")
    hit = page.locator(f"#search-results a[href*='{lesson}']").first
    hit.wait_for(timeout=15_000)
    hit.click()
    page.wait_for_url(f"**/{lesson}.html*")
    check(lesson in page.url, f"{where}: the search for {word} leads to {page.url}")


def switch(page, where):
    """The menu of themes does what it says, and the page changes its colour with it."""
    colours = {}
    for wanted in ("light", "dark"):
        page.locator(".theme-switch-button:visible").first.click()
        page.locator(f".theme-change-button[data-mode={wanted}]:visible").click()
        page.wait_for_function(f"document.documentElement.dataset.theme === '{wanted}'")
        page.wait_for_timeout(400)  # the colour fades in
        colours[wanted] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    check(colours["light"] != colours["dark"], f"{where}: one colour in both themes: {colours}")


# Lessons to read, each with a word to search for; the first whose outputs are stored is taken.
READ = {"05_lora": "merging", "04_adapters": "bottleneck", "07_prefix_tuning": "prefix"}


def to_read(folder):
    """(lesson, word): a lesson with figures on its page, and a word by which to find it."""
    for lesson, word in READ.items():
        page = folder / "notebooks" / f"{lesson}.html"
        if page.exists() and "_images/" in page.read_text(encoding="utf-8"):
            return lesson, word
    raise AssertionError(f"none of {', '.join(READ)} has a figure on its page")


def browse(folder, pictures=None):
    """Every check at every size in light and dark; AssertionError says what failed where."""
    from playwright.sync_api import sync_playwright

    lesson, word = to_read(folder)

    server, address = serve(folder)
    asked, errors = [], []
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                where = f"{size}, {scheme}"
                view = started.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = view.new_page()
                page.on("request", lambda r: asked.append(r.url))
                page.on("pageerror", lambda e, where=where: errors.append(f"{where}: {e}"))
                page.goto(f"{address}/index.html")
                check(theme(page) == scheme, f"{where}: the page is {theme(page)}")
                fits(page, f"{where}, first page")
                read_lesson(page, address, where, lesson)
                if pictures and where in ("wide, light", "narrow, dark"):
                    page.goto(f"{address}/notebooks/{lesson}.html")
                    readme_picture(page, where, pictures / f"site_{size}_{scheme}.png")
                if scheme == "light":
                    every_page(page, address, where, folder)
                menu(page, address, where)
                search(page, address, where, word, lesson)
                switch(page, where)
                view.close()
        started.close()
    server.shutdown()
    outside = {url for url in asked if not url.startswith((address, "data:"))}
    check(not outside, f"asked for from elsewhere: {sorted(outside)}")
    check(not errors, f"errors in scripts: {errors}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", default=ROOT / "build" / "site" / "html", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path, help="make the README's pictures here")
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    try:
        browse(arguments.site, arguments.pictures)
    except AssertionError as problem:
        sys.exit(f"The site in a browser: {problem}")
    print(
        "The site was read at 1280 and 400 pixels, light and dark: search, folds, theme, formulas"
    )


if __name__ == "__main__":
    main()
