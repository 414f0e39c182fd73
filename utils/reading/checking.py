"""The check of a file or of rows: kept + rejected = read."""

import collections
import json
import pathlib
import re
from dataclasses import replace

from .files import read
from .messages import asked_in_input, question_and_answer, to_messages, trees_of
from .report import Fault, Reason, Report, UnknownSchema, count, listed
from .schemas import MISSING, SAYS, SPEAKS, both_in_one, cell, listed_value, recognise
from .texts import TEMPLATE, forbidden, near, special_tokens, squeezed


def check(
    source,
    tokenizer=None,
    max_length=None,
    *,
    held_out=(),
    kind="chat",
    shape=None,
    render=None,
    marks=(),
    convert=to_messages,
):
    """Report on a file (its path) or on rows: which can train, as `messages`, and why the others
    cannot. kept + rejected = read.

    With a tokenizer, text with its special tokens is rejected, and with `max_length` a row of more
    tokens (by the tokenizer's chat template, or by `render(kept row)`, which gives the text to be
    tokenised). `held_out` are rows that are kept for testing, in any known schema: a training row
    with the same question is rejected. kind="pairs" is for preference pairs. `shape(converted,
    original, schema)` gives the kept row another form. UnreadableFile and UnknownSchema are raised
    for a file as a whole. `report.need_rows()` stops with a sentence if no row is kept.
    """
    rows = read(source) if isinstance(source, (str, pathlib.Path)) else source
    rows = rows if isinstance(rows, list) else list(rows)
    if not len(rows):
        return Report([], [], name=getattr(rows, "name", ""))
    schema = recognise(rows)
    name, container = getattr(rows, "name", ""), getattr(rows, "container", "")
    notes = list(getattr(rows, "notes", []))
    if schema.name == "OASST messages":
        made = trees_of(rows)
        notes.append(
            f"{len(rows):,} messages form {len(made):,} trees; of each the best-ranked path is "
            "taken"
        )
        rows = made
        schema = replace(schema, name="OASST trees", columns={"tree": None}, count=len(made))
    elif schema.name == "OASST trees":
        notes.append("of each tree the best-ranked path is taken")
    if schema.kind != kind:
        other = (
            "preference pairs (lesson 14)"
            if schema.kind == "pairs"
            else "questions with one answer each"
        )
        wanted = (
            "preference pairs with prompt, chosen and rejected"
            if kind == "pairs"
            else "questions with one answer each"
        )
        raise UnknownSchema(
            f"{name or 'The data'}: {schema}. These are {other}, and {wanted} are needed here."
        )
    special = special_tokens(tokenizer) if tokenizer is not None else ()
    reasons, made, kept, templates = {}, {}, {}, []
    for number, row in enumerate(rows, 1):
        try:
            one = convert(row, schema)
            if reason := _forbidden_in(one, row, schema, special, marks):
                raise Fault(reason, reason.kind)
            made[number] = one
            kept[number] = shape(one, row, schema) if shape else one
        except Fault as fault:
            reasons[number] = fault.reason
            continue
        texts = question_and_answer(one)
        if not special and any(TEMPLATE.search(text) for text in texts):
            templates.append(number)
    _reject_repeats(made, reasons, notes)
    if len(held_out):
        _reject_leaks(made, reasons, held_out, convert)
    kept = {n: row for n, row in kept.items() if n not in reasons}
    if max_length is not None and kept:
        for number, length in _lengths(kept, tokenizer, render):
            if length > max_length:
                reasons[number] = Reason(
                    f"{length:,} tokens, longer than {max_length:,}: it would lose the end of "
                    "its answer",
                    "too long",
                )
    if templates:
        notes.append(
            f"marks of a chat template stand in {count(len(templates), 'row')}, such as row "
            f"{templates[0]}: "
            "was a template applied already?"
        )
    numbers = [n for n in kept if n not in reasons]
    answers = [question_and_answer(made[n])[1] for n in numbers]
    if unfinished := sum(answer != answer.rstrip() for answer in answers):
        notes.append(
            f"white space ends the answer of {count(unfinished, 'row')}; it is trained as it stands"
        )
    if moved := sum(bool(asked_in_input(rows[n - 1], schema)) for n in numbers):
        notes.append(
            f"{schema.columns['question']!r} is empty in {count(moved, 'row')}, and the question "
            f"is taken from {schema.columns['context']!r}"
        )
    fields = _message_fields(rows, schema)
    if fields:
        notes.append(f"fields of messages that are not used: {listed(fields)}")
    rejected = sorted(reasons.items())
    return Report(
        [kept[n] for n in numbers],
        rejected,
        [rows[n - 1] for n, _ in rejected],
        name,
        schema,
        notes,
        numbers,
        container,
    )


def _forbidden_in(one, row, schema, special, marks):
    """The first fault of the texts of a converted row, named by its column or its turn."""
    if "question" in schema.columns and isinstance(row, dict):
        for part in ("question", "context", "answer", "system"):
            column = schema.columns.get(part)
            text = cell(row, column) if column else None
            if isinstance(text, str) and (reason := forbidden(text, repr(column), special, marks)):
                return reason
    groups = (
        [("turn {}", one["messages"])]
        if "messages" in one
        else [
            ("turn {} of the prompt", one["prompt"]),
            ("'chosen'", one["chosen"]),
            ("'rejected'", one["rejected"]),
        ]
    )
    for where, turns in groups:
        for number, turn in enumerate(turns, 1):
            at = where.format(number)
            if reason := forbidden(turn["content"], at, special, marks):
                return reason
            for key in ("tool_calls", "reasoning_content"):
                if turn.get(key):
                    text = json.dumps(turn[key], ensure_ascii=False, default=str)
                    if reason := forbidden(text, at, special, marks):
                        return reason
    return ""


def _reject_repeats(made, reasons, notes):
    """Equal rows are rejected (all but the first); rows that are nearly equal are noted."""
    first, alike = {}, []
    numbers = [n for n in made if n not in reasons]
    for number in numbers:
        key = json.dumps(made[number], sort_keys=True, default=str)
        key = re.sub(r'(?<=")(?:\\[nrt]|\s)+|(?:\\[nrt]|\s)+(?=")', "", key)
        twin = first.setdefault(key, number)
        if twin != number:
            reasons[number] = Reason(f"the same as row {twin}", "the same as an earlier row")
    numbers = [n for n in numbers if n not in reasons]
    texts = [question_and_answer(made[n]) for n in numbers]
    answers = [squeezed(a) for _, a in texts]
    for index, other in near([q + "\n" + a for q, a in texts]).items():
        if answers[index] == answers[other] or _similar(answers[index], answers[other]):
            alike.append((numbers[index], numbers[other]))
    if alike:
        shown = ", ".join(f"row {a} and row {b}" for a, b in alike[:3])
        notes.append(
            f"nearly the same as an earlier row: {count(len(alike), 'row')} "
            f"({shown}{' …' if len(alike) > 3 else ''})"
        )


def _similar(one, other):
    one, other = set(one.split()), set(other.split())
    return len(one & other) >= 0.85 * len(one | other)


def _reject_leaks(made, reasons, held_out, convert):
    """A training row whose question stands among the rows that are held out is rejected."""
    schema, tested = recognise(held_out), []
    for row in held_out:
        try:
            tested.append(question_and_answer(convert(row, schema))[0])
        except Fault:
            tested.append("")
    numbers = [n for n in made if n not in reasons]
    texts = tested + [question_and_answer(made[n])[0] for n in numbers]
    exact = {}
    for index, text in enumerate(tested):
        exact.setdefault(squeezed(text), index)
    close = near(texts)
    for index, number in enumerate(numbers, len(tested)):
        other = exact.get(squeezed(texts[index]), close.get(index, index))
        if other < len(tested) and tested[other]:
            reasons[number] = Reason(
                f"its question is that of row {other + 1} of the held-out rows", "a held-out row"
            )


def _lengths(kept, tokenizer, render):
    """(row number, tokens) of kept rows: the text that `render` makes, or the tokenizer's chat
    template.
    """
    if tokenizer is None:
        raise ValueError("max_length needs the tokenizer: check(path, tokenizer, max_length).")
    if render is not None:
        ids = tokenizer([render(row) for row in kept.values()])["input_ids"]
        return [(n, len(i)) for n, i in zip(kept, ids)]
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "This tokenizer has no chat template: give render=, the text of a kept row."
        )
    made = []
    for number, row in kept.items():
        chats = (
            [row["messages"]]
            if "messages" in row
            else [row["prompt"] + row[side] for side in ("chosen", "rejected")]
        )
        texts = [
            tokenizer.apply_chat_template(c, tools=row.get("tools"), tokenize=False) for c in chats
        ]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        made.append((number, max(map(len, ids))))
    return made


def _message_fields(rows, schema):
    """Fields of messages, such as OpenAI's `weight`, that no part of this module uses."""
    column = schema.columns.get("messages", MISSING)
    if column is MISSING:
        return []
    used = {
        *SPEAKS,
        *SAYS,
        "tool_calls",
        "tool_call_id",
        "name",
        "function_call",
        "reasoning_content",
    }
    found = collections.Counter()
    for row in rows:
        turns = listed_value(cell(row, column) if isinstance(row, dict) and column else row)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, dict) and not both_in_one(turn):
                found.update(k for k, v in turn.items() if k not in used and v is not None)
    return list(found)
