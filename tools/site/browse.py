"""Read the built site in a real browser, as a person would.

python -m tools.site.browse [--pictures FOLDER]

Needs the site's environment and a Chromium: PEFT_COURSE_CHROMIUM, Debian's or Playwright's own.
At 1280 and 400 pixels, light and dark: nothing is fetched from elsewhere, nothing is wider than the
page, formulas are drawn, the search finds a lesson, a fold opens, the theme switches.
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


def serve(folder):
    """A server of `folder` on a free port of this machine; (server, address)."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
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


def browse(folder, pictures=None, lesson="05_lora", word="merging"):
    """Every check at every size in light and dark; AssertionError says what failed where."""
    from playwright.sync_api import sync_playwright

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
                page.on(
                    "request",
                    lambda r: (
                        None if r.url.startswith((address, "data:")) else outside.append(r.url)
                    ),
                )
                page.on("pageerror", lambda e, where=where: errors.append(f"{where}: {e}"))
                page.goto(f"{address}/index.html")
                check(theme(page) == scheme, f"{where}: the page is {theme(page)}")
                fits(page, f"{where}, first page")
                if pictures:
                    page.screenshot(path=pictures / f"site_index_{size}_{scheme}.png")
                read_lesson(page, address, where, lesson)
                if pictures:
                    page.screenshot(path=pictures / f"site_lesson_{size}_{scheme}.png")
                    page.locator("div.cell_output table").first.scroll_into_view_if_needed()
                    page.screenshot(path=pictures / f"site_table_{size}_{scheme}.png")
                for other in ("claims", "glossary", "needs"):
                    page.goto(f"{address}/{other}.html")
                    fits(page, f"{where}, {other}")
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
    parser.add_argument("--pictures", type=pathlib.Path, help="store what was seen in this folder")
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
