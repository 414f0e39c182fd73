"""Instruction data: Alpaca's template, the end of the answer, rows checked before they train, rows
as TRL wants them.

    load(split) -> check_rows(rows, tokenizer, max_length) -> kept -> for_trl(kept, tokenizer)
    a file      -> check_file(path, tokenizer, max_length) -> report.save_rejected(path)

Prompt and answer meet as in `### Response:` + ` Paris`. Stanford's template ends with the colon and
leaves open what follows. The published Mistral notebook puts a newline there, this course a space,
on every base: " Paris" is the token that a base has seen in running text, "\\nParis" is other
tokens (in Mistral's own vocabulary three instead of one). On pocket-s, 150 steps, exact answers on
validation rows: .45 with the space, .12 with the newline, .13 with nothing between (one run each).
Mistral's tokenizer cuts at the colon either way, so the border between prompt and answer is exact.
"""

import random

from . import DATA, reading
from .reading import Unreadable

FIELDS, EXTRA = ("instruction", "input", "output"), ("kind",)
# The two variants of Stanford Alpaca's prompt, word for word (github.com/tatsu-lab/stanford_alpaca,
# train.py).
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
MARKERS = ("### Instruction:", "### Input:", "### Response:")
ALPACA, REVISION, HELD_OUT = "yahma/alpaca-cleaned", "12567cabf869d7c92e573c7c783905fc160e9639", 500


def prompt(row):
    """The prompt of a row, from "Below is" to "### Response:"; a row whose input is missing or
    blank gets the short variant.
    """
    has_input = (row.get("input") or "").strip()
    return (
        WITH_INPUT.format(**row)
        if has_input
        else WITHOUT_INPUT.format(instruction=row["instruction"])
    )


def answer(row):
    """The answer as it follows the prompt, `spaced`. No end-of-text yet."""
    return spaced(row["output"])


def spaced(text):
    """The text with one space before it, or as it is if it begins with white space: indentation is
    part of an answer.
    """
    return text if text[:1].isspace() else " " + text


def examples(rows):
    """The rows with `prompt` and `answer`, as `utils.evaluation` and `utils.training` read them;
    the other columns stay.
    """
    return [{**row, "prompt": prompt(row), "answer": answer(row)} for row in rows]


def for_trl(rows, tokenizer):
    """[{"prompt", "completion"}] for SFTTrainer, which takes the loss on the completion only. It
    ends in the end-of-text token.
    """
    if not rows:
        raise reading.NoRowKept(
            "There is no row to train on. The report of check_rows or check_file says why none "
            "was kept."
        )
    return [
        {"prompt": prompt(row), "completion": answer(row) + tokenizer.eos_token} for row in rows
    ]


def as_alpaca(converted, row, schema):
    """A row of any known schema as instruction, input and output, which the template above wants.

    A system text stands before the instruction. Of a conversation the last answer is the output;
    the turns before it stand in the instruction, each under its heading. Tools are a
    `reading.Fault`: Alpaca's template has no place for them.
    """
    whole = schema.name == "Alpaca rows" and set(FIELDS) <= set(row) <= set(FIELDS + EXTRA)
    if whole and row["input"] is not None:
        return row
    messages = converted["messages"]
    if "tools" in converted or any(m["role"] == "tool" or "tool_calls" in m for m in messages):
        raise reading.Fault("it calls tools, for which Alpaca's template has no place")
    system = "".join(m["content"] + "\n\n" for m in messages if m["role"] == "system")
    *asked, last = (m for m in messages if m["role"] != "system")
    made = {"instruction": "", "input": "", "output": last["content"]}
    if "context" in schema.columns:
        found = reading.parts(row, schema)
        made["input"], asked[-1] = found["context"], {**asked[-1], "content": found["question"]}
    made["instruction"] = system + asked[0]["content"]
    for turn in asked[1:]:
        said = turn["content"]
        said = MARKERS[0] + "\n" + said if turn["role"] == "user" else MARKERS[2] + spaced(said)
        made["instruction"] += "\n\n" + said
    return {**made, **{name: row[name] for name in EXTRA if name in row}}


def check_rows(rows, tokenizer, max_length, held_out=()):
    """Report on rows of any known schema: what can train within `max_length` tokens, and why the
    rest cannot.

    Prompt, answer, BOS and EOS count. The kept rows have instruction, input and output. Nothing is
    repaired and nothing is dropped unsaid: kept + rejected = read. `held_out` are test rows, whose
    questions no training row may ask. UnknownSchema (a ValueError) says what was found if the rows
    are of no known schema.
    """
    report = reading.check(
        rows,
        tokenizer,
        max_length,
        held_out=held_out,
        shape=as_alpaca,
        render=lambda row: prompt(row) + answer(row) + tokenizer.eos_token,
        marks=MARKERS,
    )
    if report.schema and "messages" in report.schema.columns and report.kept:
        turns = sum(MARKERS[2] in row["instruction"] for row in report.kept)
        if turns:
            report.notes.append(
                f"several answers in {reading.count(turns, 'conversation')}: the last is "
                "trained, the others stand in its prompt"
            )
    return report


def check_file(path, tokenizer, max_length, held_out=()):
    """`check_rows` on a file in any container that `reading.read` knows; a piece that cannot be
    read is a rejected row.
    """
    return check_rows(reading.read(path), tokenizer, max_length, held_out)


def read(path, strict=True):
    """The rows of a file as they are, by `reading.read`. ValueError names file, place and remedy.

    With strict=False a piece that cannot be read comes as `Unreadable`, in its place among the
    rows.
    """
    rows = reading.read(path)
    broken = next((row for row in rows if isinstance(row, Unreadable)), None)
    if strict and broken:
        raise ValueError(f"{rows.name}, {broken.reason}")
    return list(rows)


def load(split, base=None):
    """Rows of a split (train, validation, test): the pocket world's, or cleaned Alpaca for a base
    that is large enough for it.

    Alpaca has one split. A shuffle with a fixed seed puts 500 rows into validation, 500 into test
    and the rest into train.
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
            f"The data set {ALPACA} could not be fetched: {str(error).splitlines()[0]}\nWithout "
            "a network, use "
            'BASE = "pocket", whose rows are in the repository.'
        ) from error
    random.Random(3407).shuffle(rows)
    cut = {
        "validation": (0, HELD_OUT),
        "test": (HELD_OUT, 2 * HELD_OUT),
        "train": (2 * HELD_OUT, None),
    }[split]
    return rows[slice(*cut)]
