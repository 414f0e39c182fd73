"""Run lesson 16 with your model and your file; the executed page is the report.

    python -m tools.tune MODEL=… FILE=… [STEPS=200 RANK=16 …]

`make tune MODEL=… FILE=…` calls it with --make: the settings are then what make was told. What
cannot work is refused in a sentence before a kernel starts: a file that is not there, rows that are
not understood or too few, a setting that the lesson does not have, a value of the wrong kind.
"""

import ast
import importlib.util
import json
import logging
import math
import os
import pathlib
import re
import sys

import nbformat

from utils import ROOT, reading

LESSON = "16_your_model_your_file.ipynb"
# What `make` is told and the lesson is not.
OF_MAKE = {"PYTHON", "VENV", "WORKERS", "FLAGS", "BASE", "THREADS", "TORCH", "LESSON", "NUMERICS"}
FORMS, TRACKERS = ("auto", "chat", "pairs"), ("tensorboard", "none")
FEWEST = 10  # rows; the lesson's last section asks for fifty
YES, NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


class Refused(Exception):
    """One sentence: why nothing was run."""


def settings(path):
    """{name: default} of the cell tagged `parameters`."""
    for cell in nbformat.read(path, 4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            break
    else:
        raise Refused(f"{path.name} has no cell tagged parameters.")
    found = {}
    for node in ast.parse(cell.source).body:
        names, value = node.targets[0], ast.literal_eval(node.value)
        if isinstance(names, ast.Tuple):
            found |= {name.id: part for name, part in zip(names.elts, value)}
        else:
            found[names.id] = value
    return found


def value_of(name, text, default):
    """The text of the command line as a value of the default's kind."""
    if isinstance(default, str):
        return text
    if isinstance(default, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(default, bool):
        if text.lower() in YES + NO:
            return text.lower() in YES
        raise Refused(f"{name} is {text!r}; say {name}=yes or {name}=no.")
    least = "0 or above" if name == "SEED" else "above 0"
    try:
        value = ast.literal_eval(text)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or value < 0 or (value == 0 and name != "SEED"):
            raise ValueError
    except (ValueError, SyntaxError):
        raise Refused(f"{name} is {text!r}; it must be a number {least}.") from None
    if name == "LEARNING_RATE":
        if value >= 1:
            raise Refused(f"{name} is {text!r}; LoRA's learning rates lie between 1e-5 and 1e-2.")
        return float(value)
    if value != int(value):
        raise Refused(f"{name} is {text!r}; it must be a whole number.")
    return int(value)


def told_to_make(environment):
    """["FILE=…", …]: make's own settings, whatever characters stand in them.

    MAKEFLAGS holds their names, and each value stands in the environment as it was typed.
    """
    names = re.findall(r"(?<!\S)([A-Za-z_]\w*):*=", environment.get("MAKEFLAGS", ""))
    return [f"{name}={environment.get(name, '')}" for name in dict.fromkeys(names)]


def chosen(words, defaults):
    """{name: value} of what the command line sets, each known and of the right kind."""
    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name in OF_MAKE:
            continue
        if not equals:
            raise Refused(f"{word!r} is no setting. Say for example FILE={word}.")
        if name not in defaults:
            raise Refused(f"There is no setting {name}. The settings: {', '.join(defaults)}.")
        found[name] = value_of(name, text, defaults[name])
    return found


def check(given):
    """The same with absolute paths; Refused where the file or the model cannot be used."""
    given = dict(given)
    if not given.get("FILE"):
        raise Refused("Say which file: make tune MODEL=… FILE=…")
    for name in ("FILE", "KEEP", "FOLDER"):
        if given.get(name):
            given[name] = str(pathlib.Path(given[name]).expanduser().absolute())
    for name, known in (("FORMAT", FORMS), ("TRACK", TRACKERS)):
        if given.get(name, known[0]) not in known:
            raise Refused(f"{name} is {given[name]!r}; it can be {', '.join(known)}.")
    if given.get("FOLDER"):
        make_folder(given["FOLDER"])
    check_rows(given)
    if given.get("KEEP"):
        check_kept(pathlib.Path(given["KEEP"]))
    if given.get("MODEL") == "":
        raise Refused("MODEL is empty; say a folder or an id such as owner/name.")
    if model := given.get("MODEL"):
        place = pathlib.Path(model).expanduser()
        if place.is_dir():
            if not (place / "config.json").exists():
                raise Refused(f"The folder {model} holds no config.json, so it is no model.")
            given["MODEL"] = str(place.absolute())
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
            raise Refused(f"{model} is neither a folder here nor an id such as owner/name.")
    return given


def make_folder(path):
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"Nothing can be written to {path}: {error.strerror}.") from None


def check_rows(given):
    """Refused where the rows of FILE are not what the lesson trains on."""
    try:
        rows = reading.read(given["FILE"])
        schema = reading.recognise(rows)
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None
    form, name = given.get("FORMAT", "auto"), pathlib.Path(given["FILE"]).name
    if schema.kind == "pairs" and form == "auto":
        raise Refused(
            f"{name} holds preference pairs. Lesson 14 trains on both answers of a pair; to train "
            "on the chosen answers alone, say FORMAT=pairs."
        )
    if form not in ("auto", schema.kind):
        raise Refused(f"FORMAT is {form!r}, and {name} was taken for {schema.name}.")
    if len(rows) < FEWEST:
        raise Refused(
            f"{name} has {reading.count(len(rows), 'row')}. That is too few to train on and to "
            f"test on; bring {FEWEST} or more, better 50."
        )
    if group := given.get("GROUP"):
        columns = list(dict.fromkeys(c for row in rows if isinstance(row, dict) for c in row))
        if group not in columns:
            raise Refused(
                f"GROUP is {group!r}, and {name} has no such column. It has: {', '.join(columns)}."
            )


def check_kept(path):
    """Refused where KEEP is no file of questions with choices."""
    if not path.is_file():
        raise Refused(f"There is no file {path}, which KEEP names.")
    try:
        first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        good = 0 <= first["answer"] < len(first["choices"]) and first["question"]
    except (ValueError, LookupError, TypeError):
        good = False
    if not good:
        raise Refused(
            f"{path.name}, which KEEP names, must be JSON lines with question, choices and answer, "
            "the number of the right choice from 0."
        )


def run(words, to=None):
    """Run the lesson; returns the report's path."""
    source = ROOT / "notebooks" / LESSON
    given = check(chosen(words, settings(source)))
    if importlib.util.find_spec("papermill") is None:
        raise Refused("papermill is not installed: pip install -r requirements-tune.txt")
    import papermill
    from papermill.exceptions import PapermillExecutionError

    # it does not see names that are set two in a line, and says they are unknown
    logging.getLogger("papermill").setLevel(logging.ERROR)

    model = pathlib.Path(given.get("MODEL", "pocket")).name
    name = f"{model}-{pathlib.Path(given['FILE']).name.split('.')[0]}"
    given.setdefault("FOLDER", str((to or ROOT / "build" / "runs") / name))
    report = pathlib.Path(given["FOLDER"] + ".ipynb")
    make_folder(given["FOLDER"])
    os.environ.setdefault("PEFT_COURSE_QUIET", "1")
    try:
        papermill.execute_notebook(
            str(source),
            str(report),
            given,
            cwd=str(source.parent),
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=40"],  # nothing of the kernel's own on the screen
        )
    except PapermillExecutionError as error:
        raise Refused(
            f"The run stopped with {error.ename}: {error.evalue}\nThe page up to there: {report}"
        ) from None
    return report


def main():
    try:
        words = sys.argv[1:]
        report = run(told_to_make(os.environ) if words == ["--make"] else words)
    except Refused as refused:
        sys.exit(str(refused))
    print(f"The report: {report}")


if __name__ == "__main__":
    main()
