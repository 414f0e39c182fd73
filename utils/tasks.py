"""Task rows: data/tasks/<task>/<split>.jsonl with a prompt and an answer made from each row by the task's template."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from . import DATA, bases


@dataclass(frozen=True)
class Task:
    """How rows of one kind become prompt and answer. The answer begins with its space, the prompt ends without one."""

    name: str
    fields: tuple[str, ...]
    prompt: Callable[[dict], str]
    answer: Callable[[dict], str]


def entity_text(entities):
    """ "person: Anna Adler; place: Arden" for a list of {"type", "text"}."""
    return "; ".join(f"{e['type']}: {e['text']}" for e in entities)


def ask(instruction):
    """The short instruction template of the lessons before Alpaca's."""
    return f"### Instruction:\n{instruction}\n\n### Response:"


TASKS = {
    t.name: t
    for t in (
        Task(
            "sentiment",
            ("text", "label"),
            lambda r: f"Review: {r['text']}\nSentiment:",
            lambda r: f" {r['label']}",
        ),
        Task(
            "entities",
            ("text", "entities"),
            lambda r: f"Text: {r['text']}\nEntities:",
            lambda r: f" {entity_text(r['entities'])}",
        ),
        Task(
            "translation",
            ("source", "target"),
            lambda r: f"English: {r['source']}\nVelan:",
            lambda r: f" {r['target']}",
        ),
        Task(
            "facts",
            ("instruction", "answer"),
            lambda r: ask(r["instruction"]),
            lambda r: f" {r['answer']}",
        ),
        Task(
            "cloze",
            ("subject", "relation", "answer"),
            lambda r: f"{r['subject']}, {r['relation']}:",
            lambda r: f" {r['answer']}",
        ),
        Task(
            "data_to_text",
            ("data", "text"),
            lambda r: f"Data: {r['data']}\nText:",
            lambda r: f" {r['text']}",
        ),
        Task("style", ("text",), lambda r: "", lambda r: r["text"]),
        Task(
            "preferences",
            ("prompt", "chosen", "rejected"),
            lambda r: ask(r["prompt"]),
            lambda r: f" {r['chosen']}",
        ),
    )
}


def read_rows(path):
    """Rows (dicts) of a JSON-lines file. ValueError names file and line of a row that is not a JSON object."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path.name}, line {number}: not valid JSON ({error.msg}). Each line must be one JSON object."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"{path.name}, line {number}: a {type(row).__name__} where a JSON object belongs."
            )
        rows.append(row)
    return rows


def load(task, split="train", count=None):
    """Rows of a task's split (`train`, `validation`, `test`; data_to_text also `shifted`), each with `prompt` and `answer`.

    `count` keeps the first rows only; of held-out rows a large base gets as many as it can score (`bases.Base.affordable`).
    ValueError names the tasks or splits there are, or the row and field at fault.
    """
    if task not in TASKS:
        raise ValueError(f"There is no task {task!r}; there are {', '.join(TASKS)}.")
    path = DATA / "tasks" / task / f"{split}.jsonl"
    if not path.exists():
        raise ValueError(
            f"The task {task} has no split {split!r}; it has {', '.join(sorted(p.stem for p in path.parent.glob('*.jsonl')))}."
        )
    rows = apply_template(TASKS[task], read_rows(path)[:count], path.name)
    return rows if split == "train" else bases.chosen().affordable(rows)


def apply_template(task, rows, where="rows"):
    """Rows with `prompt` and `answer` added; ValueError for a missing field or an empty answer, by row number."""
    made = []
    for number, row in enumerate(rows, 1):
        missing = [f for f in task.fields if f not in row]
        if missing:
            raise ValueError(
                f"{where}, row {number}: the field {missing[0]!r} is missing; a {task.name} row has {', '.join(task.fields)}."
            )
        answer = task.answer(row)
        if not answer.strip():
            raise ValueError(
                f"{where}, row {number}: the answer is empty. Remove the row or fill in {task.fields[-1]!r}."
            )
        made.append({**row, "prompt": task.prompt(row), "answer": answer})
    return made
