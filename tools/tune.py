"""Run lesson 16 with your model and your file; the executed page is the report.

    python -m tools.tune MODEL=… FILE=… [STEPS=200 RANK=16 …]

`make tune MODEL=… FILE=…` calls it with --make: the settings are then what make was told. What
cannot work is refused in a sentence before a kernel starts: a file that is not there or whose rows
are not understood, a setting that the lesson does not have, a value of the wrong kind.
"""

import ast
import importlib.util
import logging
import os
import pathlib
import re
import sys

import nbformat

from utils import ROOT, reading

LESSON = "16_your_model_your_file.ipynb"
# What `make` is told and the lesson is not.
OF_MAKE = {"PYTHON", "VENV", "WORKERS", "FLAGS", "BASE", "THREADS", "TORCH", "LESSON", "NUMERICS"}
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
    try:
        value = ast.literal_eval(text)
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or value < 0 or (value == 0 and name != "SEED"):
            raise ValueError
    except (ValueError, SyntaxError):
        raise Refused(f"{name} is {text!r}; it must be a number above 0.") from None
    if name != "LEARNING_RATE" and value != int(value):
        raise Refused(f"{name} is {text!r}; it must be a whole number.")
    return float(value) if name == "LEARNING_RATE" else int(value)


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
        if not equals or name not in defaults:
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
    try:
        reading.recognise(reading.read(given["FILE"]))
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None
    if given.get("KEEP") and not pathlib.Path(given["KEEP"]).exists():
        raise Refused(f"There is no file {given['KEEP']}, which KEEP names.")
    if model := given.get("MODEL"):
        place = pathlib.Path(model).expanduser()
        if place.is_dir():
            if not (place / "config.json").exists():
                raise Refused(f"The folder {model} holds no config.json, so it is no model.")
            given["MODEL"] = str(place.absolute())
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
            raise Refused(f"{model} is neither a folder here nor an id such as owner/name.")
    return given


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
    report = pathlib.Path(given["FOLDER"]).with_suffix(".ipynb")
    report.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("PEFT_COURSE_QUIET", "1")
    try:
        papermill.execute_notebook(
            str(source),
            str(report),
            given,
            cwd=str(source.parent),
            kernel_name="python3",
            progress_bar=False,
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
