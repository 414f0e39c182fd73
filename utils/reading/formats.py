"""Rows of a text: JSON in its forms, Python's notation of it, and tables with any delimiter."""

import ast
import collections
import csv
import io
import json
import re

from .report import Rows, Unreadable, UnreadableFile, count, listed, shorten
from .schemas import guess

BROKEN = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of a byte that is not UTF-8


class _Doubled(dict):
    """A JSON object in which a key stands twice; a plain dict would keep only the last value."""


def _object(pairs):
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    counts = collections.Counter(key for key, _ in pairs)
    made = _Doubled(made)
    made.twice = next(key for key, n in counts.items() if n > 1)
    made.pairs = pairs
    return made


def _loads(text):
    return json.loads(text, object_pairs_hook=_object)


def _doubled(value):
    """The key that stands twice somewhere in a parsed value, or None."""
    if isinstance(value, _Doubled):
        return value.twice
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((key for part in parts if (key := _doubled(part)) is not None), None)


def is_json_text(text):
    """Is the whole text one JSON string, or lines of JSON strings, that hold JSON again?"""
    first = text.lstrip().split("\n", 1)[0].strip().rstrip(",")
    try:
        return isinstance(json.loads(json.loads(first)), (dict, list))
    except (ValueError, TypeError, RecursionError):
        return False


def json_rows(text, name, asked):
    lines = [(n, s) for n, s in enumerate(re.split("\r\n|\n|\r", text), 1) if s.strip()]
    error = None
    if not BROKEN.search(text):
        try:
            whole = _loads(text)
        except (ValueError, RecursionError) as found:
            error = found
        else:
            return _unwrapped(whole, name, asked)
    first_parses = _parsed_line(*lines[0])[0]
    if not first_parses and error is not None:
        if stream := _stream(text):
            return Rows(_rows(stream), name, "JSON objects one behind another")
        if (rows := _python(text, lines, name, asked)) is not None:
            return rows
    if not first_parses and (
        text.lstrip()[0] == "[" or not any(_parsed_line(*l)[0] for l in lines)
    ):
        wanted = (
            "one list of objects" if text.lstrip()[0] == "[" else "one whole JSON object a line"
        )
        if error is None:
            at = next(n for n, s in lines if BROKEN.search(s))
            raise UnreadableFile(f"{name}, line {at}: {broken_byte(text)}.")
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        said = getattr(error, "msg", "nested too deeply")
        raise UnreadableFile(
            f"{name}, line {line}: not valid JSON, column {column} ({said}). The file must be "
            f"{wanted}."
        )
    rows, commas = [], 0
    for number, line in lines:
        fine, value = _parsed_line(number, line)
        if not fine and line.rstrip().endswith(","):
            again = _parsed_line(number, line.rstrip()[:-1])
            if again[0]:
                (fine, value), commas = again, commas + 1
        rows.append(value)
    notes = [f"a comma at the end of {count(commas, 'line')} is passed over"] if commas else []
    return Rows(_rows(rows), name, "JSON lines", notes)


def _parsed_line(number, line):
    """(is it a row?, the row or `Unreadable`) of one line of a JSON-lines file."""

    def no(reason, kind):
        shown = _shown(line).strip()
        return False, Unreadable(shown, f"line {number}: {reason}", kind)

    if BROKEN.search(line):
        return no(broken_byte(line) + ". Save the file again as UTF-8.", "not UTF-8")
    if line.startswith("\ufeff"):
        return no(
            "a byte-order mark in the middle of the file (two files joined?). Delete it.", "mark"
        )
    try:
        value = _loads(line)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            where = f"not valid JSON, column {error.colno} ({error.msg})"
        else:
            where = f"not valid JSON ({shorten(str(error), 60)})"
        return no(where + ". Each line must be one whole JSON object.", "not valid JSON")
    return True, value


def broken_byte(text):
    return f"the byte 0x{ord(BROKEN.search(text)[0]) - 0xDC00:02x} is not UTF-8"


def _stream(text):
    """[objects] of a text that is nothing but JSON objects one behind another, or []."""
    decoder, at, found = json.JSONDecoder(object_pairs_hook=_object), 0, []
    text = text.strip()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, (dict, list)):
            return []
        found.append(value)
        at = re.compile(r"[\s,]*").match(text, at).end()
    return found


def _python(text, lines, name, asked):
    """Rows of a file in Python's notation ({'a': None}), or None. Only literals are read; nothing
    is run.
    """

    def literal(piece):
        try:
            value = ast.literal_eval(piece.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
        return value if isinstance(value, (dict, list, tuple)) else None

    whole = literal(text)
    if isinstance(whole, (list, dict)):
        rows = _unwrapped(whole, name, asked)
        rows.container = "almost JSON, read as Python's notation"
        return rows
    if literal(lines[0][1]) is None:
        return None
    rows = []
    for number, line in lines:
        value = literal(line.strip().rstrip(","))
        if value is None:
            value = _parsed_line(number, line)[1]
        rows.append(value)
    return Rows(_rows(rows), name, "almost JSON lines, read as Python's notation")


def _written(value):
    """JSON of a parsed value with every value of its doubled keys."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    pairs = getattr(value, "pairs", value.items())
    return "{" + ", ".join(f"{json.dumps(k)}: {_written(v)}" for k, v in pairs) + "}"


def _rows(values):
    """Rows of parsed values: a row with a doubled key is `Unreadable`, JSON inside a JSON string is
    parsed.
    """
    made = []
    for value in values:
        if isinstance(value, str) and value[:1] in ("{", "["):
            try:
                value = _loads(value)
            except (ValueError, RecursionError):
                pass
        value = _viewed(value)
        if (key := _doubled(value)) is not None:
            shown = _written(value)
            value = Unreadable(
                shown,
                f"the key {shorten(key, 40)!r} stands twice in one object, and only its last "
                "value could be read",
                "doubled key",
            )
        made.append(value)
    return made


def _viewed(value):
    """The row in what the Hub's viewer gives as {"row_idx": 0, "row": {...}}."""
    return value["row"] if isinstance(value, dict) and {"row_idx", "row"} <= set(value) else value


def _unwrapped(value, name, asked):
    """`Rows` of one parsed JSON value: the list itself, the list under a key, an object keyed by
    number, or by column.
    """
    for _ in range(2):
        if isinstance(value, str):  # JSON written twice
            value = _loads(value)
    if isinstance(value, list):
        return Rows(_rows(value), name, "one JSON list")
    if not isinstance(value, dict):
        raise UnreadableFile(f"{name} holds {shorten(json.dumps(value), 40)}, and no rows.")
    if asked["key"] is not None:
        if not isinstance(value.get(asked["key"]), (list, dict)):
            raise UnreadableFile(
                f"{name} has no rows under {asked['key']!r}; its keys are {listed(value)}."
            )
        rows = _unwrapped(value[asked["key"]], name, {**asked, "key": None})
        rows.container = f"a JSON object, its rows under {asked['key']!r}"
        return rows
    if _doubled(value) is None and guess(value) and not _by_column(value):
        return Rows([value], name, "one JSON object, one row")
    if columns := _by_column(value):
        return Rows(columns, name, "a JSON object of columns")
    if isinstance(value, _Doubled):
        raise UnreadableFile(f"{name}: the key {value.twice!r} stands twice in its outer object.")
    tables = {
        k: v
        for k, v in value.items()
        if isinstance(v, list) and v and isinstance(v[0], (dict, list))
    }
    if len(value) > 1 and (
        all(re.fullmatch(r"-?\d+", k) for k in value)
        or (not tables and all(isinstance(v, dict) for v in value.values()))
    ):
        numbered = all(re.fullmatch(r"-?\d+", k) for k in value)
        said = "keyed by number" if numbered else f"keyed by name ({listed(value, 2)})"
        return Rows(_rows(value.values()), name, f"a JSON object {said}")
    if len(value) == 1 and re.fullmatch(r"\d+", next(iter(value))):
        return Rows(_rows(value.values()), name, "a JSON object keyed by number")
    if len(tables) > 1:
        known = {k: v for k, v in tables.items() if any(guess(_viewed(row)) for row in v[:20])}
        tables = known or tables
    if len(tables) == 1:
        [(key, rows)] = tables.items()
        return Rows(_rows(rows), name, f"a JSON object, its rows under {key!r}")
    if len(tables) > 1:
        sizes = ", ".join(f"{k!r} ({len(v):,} rows)" for k, v in list(tables.items())[:6])
        raise UnreadableFile(
            f"{name} is a JSON object with several lists: {sizes}. Say which: read(..., "
            f"key={next(iter(tables))!r})."
        )
    if any(isinstance(v, dict) for v in value.values()) and len(value) <= 3:
        for key, part in value.items():  # {"result": {"data": [...]}}
            if isinstance(part, dict) and any(isinstance(v, (list, dict)) for v in part.values()):
                try:
                    rows = _unwrapped(part, name, asked)
                except UnreadableFile:
                    continue
                if len(rows) > 1 or guess(rows[0]):
                    rows.container += f", in {key!r}"
                    return rows
    return Rows([value], name, "one JSON object, one row")


def _by_column(value):
    """Rows of {"instruction": [..], "output": [..]}, of {"instruction": {"0": ..}, ..} and of
    pandas' split form, or None.
    """
    heads, cells = value.get("columns"), value.get("data")
    if isinstance(heads, list) and isinstance(cells, list):
        fit = all(isinstance(r, list) and len(r) == len(heads) for r in cells)
        return [dict(zip(heads, r)) for r in cells] if fit else None
    parts = list(value.values())
    if len(parts) < 2 or not guess({k: "" for k in value}):
        return None
    if all(isinstance(p, dict) and p and p.keys() == parts[0].keys() for p in parts):
        return [{k: v[i] for k, v in value.items()} for i in parts[0]]
    equal = all(isinstance(p, list) and p and len(p) == len(parts[0]) for p in parts)
    if equal and not any(isinstance(one, dict) for p in parts for one in p):
        return [dict(zip(value, cells)) for cells in zip(*parts)]
    return None


def csv_rows(text, name, asked):
    delimiter, quote, escape = asked["delimiter"], '"', None
    said = re.match(r"sep=(.)\r?\n", text)
    if said:  # a line that Excel writes and reads
        text, delimiter = text[said.end() :], delimiter or said[1]
    if delimiter is None:
        delimiter, quote, escape = _dialect(text)
    table = bool(re.search(r"\.[ct]sv\b", name, re.IGNORECASE))
    options = {
        "delimiter": delimiter or ",",
        "quotechar": quote,
        "escapechar": escape,
        "doublequote": True,
        "strict": True,
    }
    records = iter(list(_records(text, options)))  # read to its end: it holds csv's limit
    header = next(records, (1, []))[1]
    if isinstance(header, Unreadable):
        raise UnreadableFile(f"{name}: its first line is no header of a table: {header.reason}")
    header = [cell.strip().removeprefix("\ufeff") for cell in header]
    if len(header) < 2 and not table:
        lines = count(len(text.strip().splitlines()), "line")
        raise UnreadableFile(
            f"{name} is plain text ({lines}, the first "
            f"{shorten(text.strip().splitlines()[0], 40)!r}): neither JSON nor "
            "a table with a header. Give each row its question and its answer, as JSON lines or "
            "CSV."
        )
    if twice := [c for c, n in collections.Counter(c for c in header if c).items() if n > 1]:
        raise UnreadableFile(f"{name}: the column {twice[0]!r} stands twice in its header.")
    header = [cell or f"column {n}" for n, cell in enumerate(header, 1)]
    rows, empty = [], 0
    for line, cells in records:
        if isinstance(cells, Unreadable):
            rows.append(cells)
            continue
        extra = cells[len(header) :]
        if not any(cells):
            empty += 1
        elif len(cells) < len(header) or any(extra):
            joined = (delimiter or ",").join(cells)
            rows.append(
                Unreadable(
                    _shown(joined),
                    f"line {line}: {len(cells)} cells where the header has {len(header)}",
                    "cells",
                )
            )
        elif BROKEN.search("".join(cells)):
            joined = (delimiter or ",").join(cells)
            reason = f"line {line}: {broken_byte(joined)}. Save the file again as UTF-8."
            rows.append(Unreadable(_shown(joined), reason, "not UTF-8"))
        else:
            rows.append(dict(zip(header, cells)))
    words = {",": "CSV", "\t": "a table parted by tabs"}.get(
        delimiter or ",", f"CSV parted by {delimiter!r}"
    )
    notes = [f"empty rows of the table passed over: {empty:,}"] if empty else []
    return Rows(rows, name, words, notes)


def _shown(text):
    """The text with its bytes that are not UTF-8 written as \\x92."""
    return BROKEN.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def _dialect(text):
    """(delimiter or None, quote, escape) of a table: clevercsv on its first lines, or what makes a
    known header.
    """
    import clevercsv

    lines = io.StringIO(text, newline="").readlines()
    header = lines[0].strip()

    def known(character):
        cells = [c.strip().strip("\"'") for c in header.split(character)]
        return len(cells) > 1 and guess(dict.fromkeys(cells, "")) is not None

    sample, size = [], 0
    for line in lines[:100]:
        sample.append(line)
        size += len(line)
        if size > 20_000:
            break
    try:
        found = clevercsv.Sniffer().sniff(BROKEN.sub("?", "".join(sample)))
    except clevercsv.Error:
        found = None
    delimiter = found.delimiter if found else None
    if not (delimiter and known(delimiter)):
        delimiter = next((c for c in ",;\t|^~:\x1f" if known(c)), delimiter)
        found = found if found and delimiter == found.delimiter else None
    if delimiter and (delimiter.isalnum() or delimiter == " " or delimiter not in header):
        delimiter = next((c for c in ",;\t|" if c in header), None)
        found = None
    if not found:
        return delimiter, '"', None
    return delimiter, found.quotechar or '"', found.escapechar or None


def _records(text, options):
    """(line number, cells) of a table, or (line number, `Unreadable`) where quotes do not match;
    the next line is a new start.
    """
    lines = io.StringIO(text, newline="").readlines()
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, len(text) + 1))
    try:
        at = 0
        while at < len(lines):
            reader, base = csv.reader(iter(lines[at:]), **options), at
            while True:
                start = base + reader.line_num
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    whole = "unexpected end of data" in str(error)
                    end = start + 1 if whole else base + reader.line_num
                    reason = (
                        "a quotation mark opens and never closes"
                        if whole
                        else f"quotation marks do not match ({error})"
                    )
                    piece = _shown("".join(lines[start:end]).rstrip("\r\n"))
                    yield (
                        start + 1,
                        Unreadable(
                            piece,
                            f"line {start + 1}: {reason}. Double each mark inside a cell.",
                            "quotes",
                        ),
                    )
                    at = end
                    break
                if cells:
                    yield start + 1, cells
    finally:
        csv.field_size_limit(before)
