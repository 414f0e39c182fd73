"""Rows as they were read, why some are rejected, and the report that counts them all."""

import json
import pathlib
import re
from dataclasses import dataclass, field


class Rows(list):
    """The rows of one file in their order (dicts, or `Unreadable`), with `name`, `container` and
    `notes` (sentences).
    """

    def __init__(self, rows=(), name="", container="", notes=()):
        super().__init__(rows)
        self.name, self.container, self.notes = name, container, list(notes)


@dataclass(frozen=True)
class Unreadable:
    """A piece of a file that holds no row; it stands among the rows so that the report can count
    it.
    """

    text: str
    reason: str
    kind: str = "unreadable"


class Reason(str):
    """Why a row is rejected. `kind` is the same for rows with the same fault, whatever the details
    are.
    """

    def __new__(cls, text, kind=""):
        made = super().__new__(cls, text)
        made.kind = kind or text
        return made


class Fault(ValueError):
    """One row cannot be used; `reason` says why."""

    def __init__(self, text, kind=""):
        super().__init__(text)
        self.reason = Reason(text, kind)


class UnreadableFile(ValueError):
    """The file as a whole holds no rows that can be read; the message says what it is and what to
    do.
    """


class UnknownSchema(ValueError):
    """The rows can be read, but not what they mean; the message says what was found and shows a
    conversion.
    """


class NoRowKept(ValueError):
    """No row is left to train on."""


@dataclass(frozen=True)
class Schema:
    """What the rows of a file are taken for: `name`, `kind` ("chat" or "pairs") and `count` rows
    that fit it.

    `columns` maps a part (question, context, answer, system, history, messages, tools, prompt,
    chosen, rejected) to the column it is read from; `unused` lists the other columns.
    """

    name: str
    kind: str
    columns: dict
    count: int = 0
    unused: tuple = ()

    def __str__(self):
        text = f"taken for: {self.name}, {count(self.count, 'row')}"
        if self.unused:
            text += f"; columns not used: {listed(self.unused, 8)}"
        return text


def listed(words, most=6):
    """'a, b, c and 4 more'."""
    words = [str(w) for w in words]
    shown = ", ".join(shorten(w, 30) for w in words[:most])
    return shown + (f" and {len(words) - most:,} more" if len(words) > most else "")


def count(number, word):
    """'1 row', '2,000 rows'."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def kind_of(value):
    """'a list', 'null', 'a number': what a value is, in JSON's words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true or false"
    names = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return names.get(type(value), f"of type {type(value).__name__}")


def shorten(text, width=160):
    """The text on one line, at most `width` characters, control characters by their escapes."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= width else text[: width - 1] + "…"


@dataclass(frozen=True)
class Report:
    """What `check` found: `kept` rows and `rejected` as (row number from 1, reason); together they
    are all that was read.

    `originals` are the rejected rows as they were read, in the order of `rejected`; `numbers` are
    the kept rows' numbers in the file. `schema` is what the rows were taken for, `notes` what one
    should look at although the rows are kept.
    """

    kept: list
    rejected: list
    originals: list = field(default_factory=list)
    name: str = ""
    schema: Schema | None = None
    notes: list = field(default_factory=list)
    numbers: list = field(default_factory=list)
    container: str = ""

    @property
    def read(self):
        return len(self.kept) + len(self.rejected)

    def groups(self):
        """[(reason of the first, [row numbers])]: rejected rows with the same fault together, the
        largest group first.
        """
        found = {}
        for number, reason in self.rejected:
            found.setdefault(getattr(reason, "kind", reason), []).append((number, reason))
        ordered = sorted(found.values(), key=lambda group: (-len(group), group[0][0]))
        return [(group[0][1], [number for number, _ in group]) for group in ordered]

    def __str__(self):
        name = f"{self.name}: " if self.name else ""
        sizes = f"{len(self.kept):,} kept, {len(self.rejected):,} rejected"
        lines = [f"{name}{count(self.read, 'row')} read, {sizes}"]
        if self.name and self.schema:
            source = f" ({self.container})" if self.container else ""
            lines.append(f"  {shorten(str(self.schema), 300)}{source}")
        groups = self.groups()
        for reason, numbers in groups[:12]:
            lines.append("  " + shorten(said_of(reason, numbers), 220))
        if len(groups) > 12:
            more = sum(len(numbers) for _, numbers in groups[12:])
            lines.append(
                f"  and {count(more, 'row')} for {count(len(groups) - 12, 'other reason')}"
            )
        lines += [f"  note: {shorten(note, 240)}" for note in self.notes[:6]]
        if self.rejected and not self.kept:
            lines.append("No row is kept, so there is nothing to train on.")
        elif self.rejected and self.name:
            lines.append(
                f"Mend these rows in {self.name} and check it again; until then, training goes "
                "on without them."
            )
        return "\n".join(lines)

    def need_rows(self):
        """This report, or NoRowKept with one sentence if there is nothing to train on."""
        if self.kept:
            return self
        of = f"{self.name or 'The data'}: none of the {self.read:,} rows can train"
        why = [f"; the most frequent reason: {said_of(*self.groups()[0])}"] if self.rejected else []
        raise NoRowKept(shorten("".join([of, *why]), 300) + ".")

    def save_rejected(self, path):
        """Write the rejected rows as JSON lines {"row", "reason", "original"}; nothing that was
        read is lost. Returns the path.
        """
        path = pathlib.Path(path)
        lines = []
        for (number, reason), original in zip(self.rejected, self.originals):
            original = original.text if isinstance(original, Unreadable) else original
            saved = {"row": number, "reason": str(reason), "original": original}
            line = json.dumps(saved, ensure_ascii=False, default=str)
            # these three are line ends for some readers of text
            lines.append(re.sub("[\x85\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", line) + "\n")
        path.write_bytes("".join(lines).encode("utf-8", "backslashreplace"))
        return path


def said_of(reason, numbers):
    """A group of rejected rows as one line: how many, which, and the reason of the first."""
    if len(numbers) == 1:
        return f"row {numbers[0]}: {reason}"
    shown = ", ".join(map(str, numbers[:3])) + (" …" if len(numbers) > 3 else "")
    same = "" if getattr(reason, "kind", reason) == reason else f" (row {numbers[0]})"
    return f"{len(numbers):,} rows ({shown}): {reason}{same}"
