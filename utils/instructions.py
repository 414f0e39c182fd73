"""Instruction data: Alpaca's template, the end of the answer, rows checked before they train, rows as TRL wants them.

    load(split) -> check_rows(rows, tokenizer, max_length)     -> report.kept -> for_trl(rows, tokenizer)
    a file      -> check_file(path, tokenizer, max_length)     -> report.save_rejected(path)

Prompt and answer meet as in `### Response:` + ` Paris`. Stanford's template ends with the colon and leaves open what follows. The
published Mistral notebook puts a newline there, this course a space, on every base: " Paris" is the token that a base has seen
in running text, "\\nParis" is other tokens (in Mistral's own vocabulary three instead of one). On pocket-s, 150 steps, exact
answers on validation rows: .45 with the space, .12 with the newline, .13 with nothing between (one run each). Mistral's
tokenizer cuts at the colon either way, so the border between prompt and answer is exact.
"""

import json
import pathlib
import random
import re
from dataclasses import dataclass, field, replace

from . import DATA

FIELDS, EXTRA = ("instruction", "input", "output"), ("kind",)
# The two variants of Stanford Alpaca's prompt, word for word (github.com/tatsu-lab/stanford_alpaca, train.py).
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
MARKERS = ("### Instruction:", "### Input:", "### Response:")
ALPACA, REVISION, HELD_OUT = "yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639", 500


def prompt(row):
    """The prompt of a row, from "Below is" to "### Response:"; a row whose input is missing or blank gets the short variant."""
    has_input = (row.get("input") or "").strip()
    return (
        WITH_INPUT.format(**row)
        if has_input
        else WITHOUT_INPUT.format(instruction=row["instruction"])
    )


def answer(row):
    """The answer as it follows the prompt: one space, then the output without white space around it. No end-of-text yet."""
    return " " + row["output"].strip()


def examples(rows):
    """The rows with `prompt` and `answer`, as `utils.evaluation` and `utils.training` read them; the other columns stay."""
    return [{**row, "prompt": prompt(row), "answer": answer(row)} for row in rows]


def for_trl(rows, tokenizer):
    """[{"prompt", "completion"}] for SFTTrainer, which takes the loss on the completion only. It ends in the end-of-text token."""
    return [
        {"prompt": prompt(row), "completion": answer(row) + tokenizer.eos_token} for row in rows
    ]


@dataclass(frozen=True)
class Unreadable:
    """A line of a file that holds no JSON object's text; it stands among the rows so that the report can count it."""

    text: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What `check_rows` found: `kept` rows and `rejected` as (row number from 1, reason); together they are all that was read.

    `originals` are the rejected rows as they were read, in the order of `rejected`; `name` is the file's, if there is one.
    """

    kept: list
    rejected: list
    originals: list = field(default_factory=list)
    name: str = ""

    @property
    def read(self):
        return len(self.kept) + len(self.rejected)

    def __str__(self):
        lines = [
            f"{self.name + ': ' if self.name else ''}{self.read:,} rows read, {len(self.kept):,} kept, {len(self.rejected):,} rejected"
        ]
        lines += [f"  row {number}: {reason}" for number, reason in self.rejected[:20]]
        lines += (
            [f"  and {len(self.rejected) - 20:,} more in `rejected`"]
            if len(self.rejected) > 20
            else []
        )
        mend = f"Mend these rows in {self.name} and check it again; until then, training goes on without them."
        return "\n".join(lines + ([mend] if self.name and self.rejected else []))

    def save_rejected(self, path):
        """Write the rejected rows as JSON lines {"row", "reason", "original"}; nothing that was read is lost. Returns the path."""
        lines = [
            json.dumps(
                {
                    "row": number,
                    "reason": reason,
                    "original": original.text if isinstance(original, Unreadable) else original,
                }
            )
            for (number, reason), original in zip(self.rejected, self.originals)
        ]
        pathlib.Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return pathlib.Path(path)


MANGLED = re.compile(
    "[\u00c2\u00c3\u00e2\u00f0][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]+"
)


def mangled(text):
    """What of a text shows that its bytes were once read in the wrong encoding: (the bad piece, what it was, or ""), or None."""
    if found := re.search("[\ufffd\ufeff\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        return found[0], ""
    for found in MANGLED.finditer(text):
        for codec in ("cp1252", "latin-1"):
            try:
                return found[0], found[0].encode(codec).decode("utf-8")
            except UnicodeError:
                pass
    return None


def fault(row, special=()):
    """Why a single row cannot train, or "". `special` holds the tokenizer's own tokens, which no text may contain."""
    if isinstance(row, Unreadable):
        return row.reason
    if not isinstance(row, dict):
        return f"a {type(row).__name__} where an object with {', '.join(FIELDS)} belongs"
    missing, extra = (
        [f for f in FIELDS if f not in row],
        [f for f in row if f not in FIELDS + EXTRA],
    )
    if missing or extra:
        return "; ".join(
            [f"the field {f!r} is missing" for f in missing]
            + [f"the field {f!r} is unknown" for f in extra]
        )
    for field in FIELDS:
        text = row[field]
        if not isinstance(text, str):
            return f"{field!r} is {'null' if text is None else 'of type ' + type(text).__name__}, and must be text"
        if not text.strip() and field != "input":
            return f"{field!r} is empty" if not text else f"{field!r} holds nothing but white space"
        if found := next((m for m in MARKERS if m in text), None):
            return f"{field!r} contains {found!r}, a marker of the template"
        if found := next((t for t in special if t in text), None):
            return f"{field!r} contains {found!r}, a special token of the tokenizer"
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return f"{field!r} contains half of a character (a lone surrogate), which no tokenizer can read"
        if found := mangled(text):
            was = (
                f", {found[1]!r} read in the wrong encoding"
                if found[1]
                else ", which text in the right encoding does not hold"
            )
            return f"{field!r} contains {ascii(found[0])}{was}"
    return ""


def special_tokens(tokenizer):
    """The texts that the tokenizer reads as one special token each, such as "</s>"."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return sorted({str(t) for t in added if t.special} | set(tokenizer.all_special_tokens))


def check_rows(rows, tokenizer, max_length):
    """Report on rows: what can train within `max_length` tokens (prompt, answer, BOS and EOS counted), and why the rest cannot.

    Nothing is repaired and nothing dropped unsaid: kept + rejected = read.
    """
    special, reasons, first = special_tokens(tokenizer), {}, {}
    for number, row in enumerate(rows, 1):
        if reason := fault(row, special):
            reasons[number] = reason
            continue
        twin = first.setdefault(tuple(row[f].strip() for f in FIELDS), number)
        if twin != number:
            reasons[number] = f"the same as row {twin}"
    fit = [number for number in range(1, len(rows) + 1) if number not in reasons]
    texts = [
        pair["prompt"] + pair["completion"]
        for pair in for_trl([rows[n - 1] for n in fit], tokenizer)
    ]
    for number, ids in zip(fit, tokenizer(texts)["input_ids"] if texts else []):
        if len(ids) > max_length:
            reasons[number] = (
                f"{len(ids):,} tokens, longer than {max_length:,}: it would lose the end of its answer"
            )
    return Report(
        [row for n, row in enumerate(rows, 1) if n not in reasons],
        sorted(reasons.items()),
        [rows[n - 1] for n in sorted(reasons)],
    )


def check_file(path, tokenizer, max_length):
    """`check_rows` on a file. A line of a JSON-lines file that cannot be read is a rejected row, and the rest is still checked."""
    path = pathlib.Path(path)
    return replace(check_rows(read(path, strict=False), tokenizer, max_length), name=path.name)


def read(path, strict=True):
    """The rows of a file, JSON (one list of objects) or JSON lines (one object a line). ValueError names file, line and remedy.

    What the objects hold is `check_rows`' business. A byte-order mark at the start is skipped, blank lines hold no row. With
    strict=False a line that cannot be read comes as `Unreadable`, in its place among the rows.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file {path.name} in {path.parent}. Upload it there, or mend the name."
        )
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path.name}, line 1: the file is UTF-16. Save it again as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")
    whole = data.lstrip()[:1] == b"["
    rows = []
    for number, line in [(0, data)] if whole else enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line.decode("utf-8")))
        except ValueError as error:
            at, reason = unreadable(line, error, whole)
            if strict or whole:
                raise ValueError(f"{path.name}, line {number or at}: {reason}") from None
            rows.append(
                Unreadable(
                    line.decode("utf-8", "backslashreplace").strip(), f"line {number}: {reason}"
                )
            )
    rows = rows[0] if whole else rows
    if not rows:
        raise ValueError(f"{path.name} holds no rows.")
    return rows


def unreadable(line, error, whole):
    """(line within the text, reason and remedy) of an error of `json.loads` or of decoding."""
    if isinstance(error, UnicodeDecodeError):
        return line[: error.start].count(
            b"\n"
        ) + 1, f"the byte 0x{line[error.start]:02x} is not UTF-8. Save the file again as UTF-8."
    if not whole and line.startswith(b"\xef\xbb\xbf"):
        return 1, "a byte-order mark in the middle of the file (two files joined?). Delete it."
    wanted = (
        "The file must be one list of objects."
        if whole
        else "Each line must be one whole JSON object."
    )
    return error.lineno, f"not valid JSON, column {error.colno} ({error.msg}). {wanted}"


def load(split, base=None):
    """Rows of a split (train, validation, test): the pocket world's, or cleaned Alpaca for a base that is large enough for it.

    Alpaca has one split. A shuffle with a fixed seed puts 500 rows into validation, 500 into test and the rest into train.
    """
    from . import bases

    if split not in ("train", "validation", "test"):
        raise ValueError(f"There is no split {split!r}; there are train, validation, test.")
    if not bases.chosen(base).alpaca:
        return read(DATA / "tasks" / "instructions" / f"{split}.jsonl")
    from datasets import load_dataset

    try:
        rows = load_dataset(ALPACA, revision=REVISION, split="train").to_list()
    except (OSError, ValueError) as error:
        raise OSError(
            f"The data set {ALPACA} could not be fetched: {str(error).splitlines()[0]}\nWithout a network, use "
            'BASE = "pocket", whose rows are in the repository.'
        ) from error
    random.Random(3407).shuffle(rows)
    cut = {
        "validation": (0, HELD_OUT),
        "test": (HELD_OUT, 2 * HELD_OUT),
        "train": (2 * HELD_OUT, None),
    }[split]
    return rows[slice(*cut)]
