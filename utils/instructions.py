"""Instruction data: Alpaca's template, the end of the answer, rows checked before they train, rows as TRL wants them.

    read(path) or load(split) -> check_rows(rows, tokenizer, max_length) -> report.kept -> for_trl(rows, tokenizer)

Prompt and answer meet as in `### Response:` + ` Paris`. Stanford's template ends with the colon and leaves open what follows. The
published Mistral notebook puts a newline there, this course a space, on every base: " Paris" is the token that a base has seen
in running text, "\\nParis" is other tokens (in Mistral's own vocabulary three instead of one). On pocket-s, 150 steps, exact
answers on validation rows: .45 with the space, .12 with the newline, .13 with nothing between (one run each). Mistral's
tokenizer cuts at the colon either way, so the border between prompt and answer is exact.
"""
import json
import pathlib
import random
from dataclasses import dataclass

from . import DATA

FIELDS, EXTRA = ("instruction", "input", "output"), ("kind",)
# The two variants of Stanford Alpaca's prompt, word for word (github.com/tatsu-lab/stanford_alpaca, train.py).
WITH_INPUT = ("Below is an instruction that describes a task, paired with an input that provides further context. "
              "Write a response that appropriately completes the request.\n\n"
              "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:")
WITHOUT_INPUT = ("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
                 "### Instruction:\n{instruction}\n\n### Response:")
MARKERS = ("### Instruction:", "### Input:", "### Response:")
ALPACA, REVISION, HELD_OUT = "yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639", 500


def prompt(row):
    """The prompt of a row, from "Below is" to "### Response:"; a row whose input is missing or blank gets the short variant."""
    has_input = (row.get("input") or "").strip()
    return WITH_INPUT.format(**row) if has_input else WITHOUT_INPUT.format(instruction=row["instruction"])


def answer(row):
    """The answer as it follows the prompt: one space, then the output without white space around it. No end-of-text yet."""
    return " " + row["output"].strip()


def examples(rows):
    """The rows with `prompt` and `answer`, as `utils.evaluation` and `utils.training` read them; the other columns stay."""
    return [{**row, "prompt": prompt(row), "answer": answer(row)} for row in rows]


def for_trl(rows, tokenizer):
    """[{"prompt", "completion"}] for SFTTrainer, which takes the loss on the completion only. It ends in the end-of-text token."""
    return [{"prompt": prompt(row), "completion": answer(row) + tokenizer.eos_token} for row in rows]


@dataclass(frozen=True)
class Report:
    """What `check_rows` found: `kept` rows and `rejected` as (row number from 1, reason); together they are all that was read."""
    kept: list
    rejected: list

    @property
    def read(self):
        return len(self.kept) + len(self.rejected)

    def __str__(self):
        lines = [f"{self.read:,} rows read, {len(self.kept):,} kept, {len(self.rejected):,} rejected"]
        lines += [f"  row {number}: {reason}" for number, reason in self.rejected[:20]]
        return "\n".join(lines + ([f"  and {len(self.rejected) - 20:,} more in `rejected`"] if len(self.rejected) > 20 else []))


def fault(row, special=()):
    """Why a single row cannot train, or "". `special` holds the tokenizer's own tokens, which no text may contain."""
    if not isinstance(row, dict):
        return f"a {type(row).__name__} where an object with {', '.join(FIELDS)} belongs"
    missing, extra = [f for f in FIELDS if f not in row], [f for f in row if f not in FIELDS + EXTRA]
    if missing or extra:
        return "; ".join([f"the field {f!r} is missing" for f in missing] + [f"the field {f!r} is unknown" for f in extra])
    for field in FIELDS:
        text = row[field]
        if not isinstance(text, str):
            return f"{field!r} is {'null' if text is None else 'a ' + type(text).__name__}, and must be text"
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
    texts = [pair["prompt"] + pair["completion"] for pair in for_trl([rows[n - 1] for n in fit], tokenizer)]
    for number, ids in zip(fit, tokenizer(texts)["input_ids"] if texts else []):
        if len(ids) > max_length:
            reasons[number] = f"{len(ids):,} tokens, longer than {max_length:,}: it would lose the end of its answer"
    return Report([row for n, row in enumerate(rows, 1) if n not in reasons], sorted(reasons.items()))


def read(path):
    """The rows of a file, JSON (one list of objects) or JSON lines (one object a line). ValueError names file, line and remedy.

    What the objects hold is `check_rows`' business. A byte-order mark at the start is skipped, blank lines hold no row.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path.name} in {path.parent}. Upload it there, or mend the name.")
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(f"{path.name}, line 1: the file is UTF-16. Save it again as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[:error.start].count(b"\n") + 1
        raise ValueError(f"{path.name}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8. "
                         "Save the file again as UTF-8.") from None
    whole = text.lstrip().startswith("[")
    rows = []
    for number, line in [(0, text)] if whole else enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            wanted = "The file must be one list of objects." if whole else "Each line must be one whole JSON object."
            raise ValueError(f"{path.name}, line {number or error.lineno}: not valid JSON, column {error.colno} ({error.msg}). "
                             f"{wanted}") from None
    rows = rows[0] if whole else rows
    if not rows:
        raise ValueError(f"{path.name} holds no rows.")
    return rows


def load(split, base=None):
    """Rows of a split (train, validation, test): the pocket world's for a base in the repository, cleaned Alpaca for one of the hub.

    Alpaca has one split. A shuffle with a fixed seed puts 500 rows into validation, 500 into test and the rest into train.
    """
    from . import bases
    if split not in ("train", "validation", "test"):
        raise ValueError(f"There is no split {split!r}; there are train, validation, test.")
    if bases.chosen(base).folder is not None:
        return read(DATA / "tasks" / "instructions" / f"{split}.jsonl")
    from datasets import load_dataset
    try:
        rows = load_dataset(ALPACA, revision=REVISION, split="train").to_list()
    except (OSError, ValueError) as error:
        raise OSError(f"The data set {ALPACA} could not be fetched: {str(error).splitlines()[0]}\nWithout a network, use "
                      "BASE = \"pocket\", whose rows are in the repository.") from error
    random.Random(3407).shuffle(rows)
    cut = {"validation": (0, HELD_OUT), "test": (HELD_OUT, 2 * HELD_OUT), "train": (2 * HELD_OUT, None)}[split]
    return rows[slice(*cut)]
