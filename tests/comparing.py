"""How `make test` compares a notebook's new outputs with the stored ones.

Rounding differs between processors, so a number that was measured in a run is never the same to
the last digit. tests/conftest.py calls `install()`, and nbval then asks `differences` instead of
testing outputs for equality. In the stored and the new outputs of a cell

- the number of outputs, their order and their kinds (stream, result, picture, error) must be equal;
- words and punctuation must be equal; any white space counts as one space, because the widths of
  columns follow the numbers in them;
- numbers must stand in the same places, and `verdict` says how far two of them may be apart.

A table is compared cell by cell, as its HTML form has them; other outputs by their text. Pictures
are not compared. tests/tolerances.yml allows single cells more, with a reason each.
"""

import dataclasses
import html.parser
import itertools
import pathlib
import re
from decimal import Decimal

import yaml

TOLERANCES = pathlib.Path(__file__).parent / "tolerances.yml"
WIDEST_SHARE, WIDEST_RELATIVE = Decimal("0.15"), Decimal("0.5")  # what an entry may ask for
SHOWN = 12  # differing numbers shown for one output

# A number stands alone: "7B", "v0.3", "2.13.0" and "450x261" are words.
# Its sign may be "+", "-" or the typographical minus.
NUMBER = re.compile(
    r"(?<![\w.])"
    r"(?P<sign>(?<![)\]%])[+\-\u2212])?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?P<point>\.[0-9]+)?)"
    r"(?P<exponent>[eE][+-]?[0-9]+)?"
    r"(?P<percent>\s?%)?"
    r"(?!\w)(?!\.[0-9])"
)
# What stands before a learning rate: "lr=0.01", "learning rate 0.003", "at rate 0.003".
RATE = re.compile(r"(?im)(?:\blearning[ _]rates?|\blr|\bat rate|(?:^|, )rate)\s*[=:]?\s*\Z")
RATE_COLUMN = re.compile(r"(?i)(?:^|, |\b(?:learning|chosen|best|at) )(?:rates?|lr)\b")


@dataclasses.dataclass(frozen=True)
class Rules:
    """Tolerances of one cell. With `counts_relative`, `counts` is a share of the larger number."""

    shares: Decimal = Decimal("0.02")
    relative: Decimal = Decimal("0.05")
    counts: Decimal = Decimal(0)
    counts_relative: bool = False
    live: tuple = ()


DEFAULT = Rules()


# ---- numbers ----


@dataclasses.dataclass(frozen=True)
class Number:
    """A number as it was written; `percent`, `point` and `exponent` say what its text has."""

    text: str
    value: Decimal
    percent: bool
    point: bool
    exponent: bool
    is_rate: bool = False

    @property
    def last_digit(self):
        """One unit in the last digit after the point, or None for numbers written otherwise."""
        written = self.point and not self.exponent
        return Decimal(1).scaleb(self.value.as_tuple().exponent) if written else None


def number(match, is_rate=False):
    """The Number of a match of NUMBER."""
    sign = "-" if match["sign"] in ("-", "\u2212") else ""
    digits = match["digits"].replace(",", "") + (match["exponent"] or "")
    return Number(
        match[0].strip(),
        Decimal(sign + digits),
        bool(match["percent"]),
        bool(match["point"]),
        bool(match["exponent"]),
        is_rate,
    )


def verdict(stored, new, rules):
    """An empty text if two numbers are near enough, else by how much they differ, and the limit."""
    a, b = stored.value, new.value
    larger = max(abs(a), abs(b))
    plain = not (stored.exponent or new.exponent)
    if stored.is_rate and new.is_rate:
        allowed, why = Decimal(0), "a learning rate is a setting"
    elif stored.percent:
        allowed, why = 100 * rules.shares, "percentages, in points"
    elif plain and not (stored.point or new.point):
        allowed = rules.counts * (larger if rules.counts_relative else 1)
        why = "a whole number written without a point"
    elif plain and larger <= 1:
        allowed, why = rules.shares, "a number from -1 to 1"
    else:
        allowed, why = (
            rules.relative * larger,
            f"{(100 * rules.relative).normalize():f} % of the larger",
        )
    if not (stored.is_rate and new.is_rate):  # rounding alone can turn the last digit
        allowed = max(
            allowed, min((n.last_digit for n in (stored, new) if n.last_digit), default=Decimal(0))
        )
    if abs(a - b) <= allowed:
        return ""
    return (
        f"{stored.text} and {new.text} differ by {abs(a - b):f}; {allowed.normalize():f} is allowed"
        f" ({why})"
    )


def tokens(text, header=""):
    """[(Number or word, where it begins)]; words end at white space and at numbers."""
    found, end = [], 0
    for match in itertools.chain(NUMBER.finditer(text), [None]):
        between = text[end : match.start() if match else len(text)]
        found += [(w[0], end + w.start()) for w in re.finditer(r"\S+", between)]
        if match:
            rate = bool(RATE_COLUMN.search(header) or RATE.search(text, 0, match.start()))
            found.append((number(match, rate), match.start()))
            end = match.end()
    return found


# ---- texts and tables ----


def line_at(text, position):
    """The line of a text in which a position lies."""
    if position is None:
        return "(nothing more)"
    return text[text.rfind("\n", 0, position) + 1 :].split("\n", 1)[0].strip()


def without_live(text, live):
    """The text with each line that begins with one of `live` cut off after this beginning."""
    lines = []
    for line in text.splitlines():
        start = next((name for name in live if line.strip().startswith(name)), None)
        lines.append(line if start is None else start)
    return "\n".join(lines)


def text_differences(stored, new, rules, header=""):
    """[(stored line, new line, what differs)] of two texts; after a differing word nothing more."""
    stored, new = without_live(stored, rules.live), without_live(new, rules.live)
    found = []
    pairs = itertools.zip_longest(
        tokens(stored, header), tokens(new, header), fillvalue=(None, None)
    )
    for (a, at_a), (b, at_b) in pairs:
        if isinstance(a, Number) and isinstance(b, Number) and a.percent == b.percent:
            sentence, words = verdict(a, b, rules), False
        else:
            sentence, words = "" if a == b else f"{shown(a)} became {shown(b)}", True
        if sentence:
            found.append((line_at(stored, at_a), line_at(new, at_b), sentence))
            if words:
                break
    return found


def shown(token):
    """A word or number in quotation marks, for a sentence."""
    if token is None:
        return "nothing"
    return repr(token.text if isinstance(token, Number) else token)


class Cells(html.parser.HTMLParser):
    """`rows` of an HTML text, as [(headers, cells)]; text outside tables is a row of one cell."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.headers, self.row, self.all_th, self.hidden = [], [], None, True, 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag in ("style", "script"):
            self.hidden += 1
        elif tag == "table":
            self.headers = []
        elif tag == "tr":
            self.row, self.all_th = [], True
        elif tag in ("th", "td") and self.row is not None:
            self.row.append("")
            self.all_th = self.all_th and tag == "th"

    def handle_endtag(self, tag):
        if tag in ("style", "script"):
            self.hidden -= 1
        elif tag == "tr" and self.row is not None:
            self.rows.append((self.headers, [" ".join(cell.split()) for cell in self.row]))
            if self.all_th:
                self.headers = self.rows[-1][1]
            self.row = None

    def handle_data(self, text):
        if self.hidden:
            return
        if self.row:
            self.row[-1] += text
        elif text.strip():
            self.rows.append(([], [" ".join(text.split())]))


def table_differences(stored, new, rules, clean):
    """[(stored row, new row, what differs)] of two HTML texts; `clean` rewrites each cell first."""
    a, b = Cells(stored).rows, Cells(new).rows
    found = []
    if len(a) != len(b):
        pairs = itertools.zip_longest((row for _, row in a), (row for _, row in b), fillvalue=[])
        x, y = next((p for p in pairs if p[0][:1] != p[1][:1]), ([], []))
        sentence = f"the table had {len(a)} rows and has {len(b)}; the first that differ:"
        return [("  ".join(x), "  ".join(y), sentence)]
    for (headers, left), (_, right) in zip(a, b):
        rows = "  ".join(left), "  ".join(right)
        if len(left) != len(right):
            found.append((*rows, "the row has another number of cells"))
            continue
        for place, (x, y) in enumerate(zip(left, right)):
            header = headers[place] if place < len(headers) else ""
            if header in rules.live:
                continue
            where = f"in column {header!r}: " if header else ""
            plain = dataclasses.replace(rules, live=())
            for *_, sentence in text_differences(clean(x), clean(y), plain, header):
                found.append((*rows, where + sentence))
    return found


# ---- outputs of a cell ----


def kind(output):
    """What an output is: its stream, or its type and the forms it was sent in."""
    if output.output_type == "stream":
        return f"stream {output.name}"
    forms = ", ".join(sorted(output.get("data", {})))
    return f"{output.output_type} ({forms})" if forms else output.output_type


def texts(output):
    """{form: text} of what is compared in an output; HTML replaces the plain text beside it."""
    if output.output_type == "stream":
        return {output.name: output.text}
    if output.output_type == "error":
        return {"error": f"{output.ename}: {output.evalue}"}
    found = {f: t for f, t in output.data.items() if f.startswith("text/")}
    if "text/html" in found:
        found.pop("text/plain", None)
    return found


def differences(stored, new, rules=DEFAULT, clean=str):
    """What differs between a cell's stored and new outputs, as paragraphs; [] if they agree.

    `stored` and `new` are lists of notebook outputs, streams joined; `clean` rewrites a text before
    it is compared (nbval's sanitizing). Of each output all numbers outside their tolerance are
    listed, at most SHOWN, and differing words up to the first.
    """
    kinds = [kind(o) for o in stored], [kind(o) for o in new]
    if kinds[0] != kinds[1]:
        lines = ["The outputs are not of the same number, order and kinds."]
        for word, outputs, names in zip(("stored:", "new:"), (stored, new), kinds):
            lines.append(f"  {word}" if names else f"  {word} no output")
            for name, output in zip(names, outputs):
                text = " / ".join(" ".join(t.split()) for t in texts(output).values())
                lines.append(f"    {name}: {text[:100]}")
        return ["\n".join(lines)]
    paragraphs = []
    for place, (a, b) in enumerate(zip(stored, new), 1):
        for form, text in texts(a).items():
            if form == "text/html":
                found = table_differences(text, texts(b)[form], rules, clean)
            else:
                found = text_differences(clean(text), clean(texts(b)[form]), rules)
            for old_line, new_line, sentence in found[:SHOWN]:
                paragraphs.append(
                    f"Output {place} ({form}): {sentence}\n"
                    f"  stored: {old_line}\n  new:    {new_line}"
                )
            if len(found) > SHOWN:
                paragraphs.append(f"Output {place} ({form}): {len(found) - SHOWN} more")
    return paragraphs


# ---- tests/tolerances.yml ----


def first_line(source):
    """First line of a cell that is neither empty nor a mark for nbval."""
    lines = (line.strip() for line in source.splitlines())
    return next((x for x in lines if x and not re.fullmatch(r"#+\s*NBVAL_\w+", x)), "")


def quantity(value, name, where):
    """(Decimal, was it written with %?) of 0.05, 3 or "20%"; ValueError says how to write it."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)( ?%)?", str(value).strip())
    relative = bool(match and match[2])
    possible = {"shares": not relative, "relative": relative, "counts": True}[name]
    if not match or not possible:
        example = {"shares": "0.05", "relative": "20%", "counts": "3 or 5%"}[name]
        raise ValueError(f"{where}: {name} is {value!r}; write it as {example}.")
    number = Decimal(match[1]) / (100 if relative else 1)
    widest = {"shares": WIDEST_SHARE, "relative": WIDEST_RELATIVE}.get(name)
    if widest is not None and number > widest:
        raise ValueError(
            f"{where}: {name} is {value}, and at most {widest:f} is accepted. "
            "Print what holds instead, or leave the cell uncompared with a reason."
        )
    return number, relative


def entry_rules(entry, where):
    """Rules of one entry of tests/tolerances.yml; ValueError says what is wrong with it."""
    known = {"shares", "relative", "counts", "live", "reason"}
    if not isinstance(entry, dict) or not set(entry) <= known or not set(entry) - {"reason"}:
        raise ValueError(f"{where} needs some of shares, relative, counts, live; and a reason.")
    if not isinstance(entry.get("reason"), str) or not entry["reason"].strip():
        raise ValueError(f"{where} gives no reason.")
    live = entry.get("live", [])
    if not isinstance(live, list) or not all(isinstance(x, str) and x.strip() for x in live):
        raise ValueError(f"{where}: live is a list of column names and beginnings of lines.")
    values = {}
    for name in ("shares", "relative", "counts"):
        if name in entry:
            values[name], relative = quantity(entry[name], name, where)
            if name == "counts":
                values["counts_relative"] = relative
    return Rules(**values, live=tuple(live))


def load(path=TOLERANCES):
    """{lesson: {beginning of a cell's first line, or its id: Rules}} of a file."""
    lessons = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {
        lesson: {
            key: entry_rules(entry, f"{path.name}, {lesson}, {key!r}")
            for key, entry in (entries or {}).items()
        }
        for lesson, entries in lessons.items()
    }


def applies(key, cell):
    """Does an entry's key name this cell?"""
    return key == cell.get("id") or first_line(cell.source).startswith(key)


def rules_for(lesson, cell, tolerances):
    """The Rules of a cell of a lesson (its file's name without .ipynb)."""
    return next((r for k, r in tolerances.get(lesson, {}).items() if applies(k, cell)), DEFAULT)


def stale(lesson, notebook, tolerances):
    """Faults of a lesson's entries: each names exactly one cell, which has what is called live."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for key, rules in tolerances.get(lesson, {}).items():
        named = [c for c in code if applies(key, c)]
        if len(named) != 1:
            yield f"{lesson}: {key!r} names {len(named)} cells; it must name exactly one"
            continue
        headers, lines = set(), []
        for text in (t for o in named[0].outputs for t in texts(o).items()):
            if text[0] == "text/html":
                headers |= {h for row_headers, _ in Cells(text[1]).rows for h in row_headers}
            else:
                lines += [line.strip() for line in text[1].splitlines()]
        for name in rules.live:
            if name not in headers and not any(line.startswith(name) for line in lines):
                yield f"{lesson}: {key!r} has no column and no line {name!r}; remove it from live"


# ---- nbval ----


def install(path=TOLERANCES):
    """Let nbval compare outputs by `differences`, with the tolerances of a file."""
    from nbval import plugin

    tolerances = load(path)

    def compare_outputs(self, test, ref, skip_compare=None):
        """Is there no difference? If there is, it is kept for nbval's report."""
        rules = rules_for(self.parent.path.stem, self.cell, tolerances)
        self.comparison_traceback = differences(ref, test, rules, self.sanitize)
        return not self.comparison_traceback

    plugin.IPyNbCell.compare_outputs = compare_outputs
