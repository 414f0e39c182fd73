"""Lesson 13 as readers edit it. `test_capstone.py` runs this file once and reads what it leaves
behind.

    python tests/edit_capstone.py FOLDER

Unsloth is imported once. Every edit below is then a fork of that state, in which all cells of the
lesson run from top to bottom, and the first error ends the run. Few steps are trained: what is
tested is that the lesson runs to its end, not what it learns.
"""

import contextlib
import json
import os
import pathlib
import sys
import traceback

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
WORK = pathlib.Path(sys.argv[1])
for name in ("PEFT_COURSE_QUIET", "PEFT_COURSE_BASE", "PEFT_COURSE_TESTS"):
    os.environ.pop(name, None)  # as a reader's kernel is
os.environ["TQDM_DISABLE"] = "1"

# A child of a process whose OpenMP has started several threads waits for ever.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

from utils import colab, evaluation, instructions  # noqa: E402

CELLS = [
    c
    for c in nbformat.read(ROOT / "notebooks" / "13_mistral_unsloth.ipynb", 4).cells
    if c.cell_type == "code"
]
SETTINGS = next(n for n, c in enumerate(CELLS) if "capstone.settings(" in c.source)
FACTS = evaluation.facts()[:8]
colab.checkpoint_folder = lambda name: WORK / "drive" / name
evaluation.facts = lambda: FACTS
ALL_ROWS = instructions.load
instructions.load = lambda split, base=None: ALL_ROWS(split, base)[:60]
colab.choose("pocket")
space = {"__name__": "__main__", "display": lambda x: None}
for cell in CELLS[:SETTINGS]:
    exec(compile(cell.source, "cell", "exec"), space)
report = {}


def run_all(edits, also, take_home):
    """All cells in `space`, with `edits` {text: other text}; `also` runs after the settings."""
    used = set()
    for n, cell in enumerate(CELLS):
        source = cell.source
        for old, new in edits.items():
            used |= {old} if old in source else set()
            source = source.replace(old, new)
        if "take-home" in cell.metadata.get("tags", []) and not take_home:
            continue
        exec(compile(source, f"code cell {n}", "exec"), space)
        if n == SETTINGS:
            exec(also, space)
    assert used == set(edits), f"no cell holds {set(edits) - used}"


def run(name, edits=None, also="s.steps = 6", times=1, take_home=False):
    """Fork and run all cells, so many times in one kernel; what was printed goes to `name`.txt."""
    pid = os.fork()
    if not pid:
        with (
            open(WORK / f"{name}.txt", "w", encoding="utf-8", buffering=1) as out,
            contextlib.redirect_stdout(out),
        ):
            told = {"error": ""}
            try:
                for _ in range(times):
                    run_all(edits or {}, also, take_home)
                told["steps"] = space["trainer"].state.global_step
                told["from"] = space["went_on_from"]
                told["facts"] = "facts" in space["after"]
                told["rows"] = {k: len(v) for k, v in space["rows"].items()}
                told["trained"] = [r["completion"] for r in space["data"]]
                told["test"] = [r["answer"] for r in space["test"]]
            except BaseException as error:
                told["error"] = f"{type(error).__name__}: {error}"
                traceback.print_exc(file=out)
        (WORK / f"{name}.json").write_text(json.dumps(told))
        os._exit(0)
    os.waitpid(pid, 0)
    report[name] = json.loads((WORK / f"{name}.json").read_text())


def own_model(folder):
    """A small random Qwen2 with the pocket tokenizer, saved as a folder."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from utils import bases

    tokenizer = bases.load_tokenizer("pocket-xs")
    torch.manual_seed(0)
    sizes = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    heads = dict(num_attention_heads=2, num_key_value_heads=1, vocab_size=len(tokenizer))
    ends = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    Qwen2ForCausalLM(Qwen2Config(**sizes, **heads, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


pid = os.fork()
if not pid:
    own_model(WORK / "my-model")
    os._exit(0)
os.waitpid(pid, 0)

MINE = ROOT / "tests" / "cases" / "kettle.jsonl"
LOAD = 'train_rows = instructions.load("train")'
run("more steps", also="s.steps = 12; s.test_rows = 20", take_home=True)
run("another rank", also="import dataclasses; s = dataclasses.replace(s, steps=6, rank=8, alpha=8)")
run("one step", also="s.steps = 1; s.test_rows = 10")
run("own rows", {LOAD: f'train_rows = instructions.read("{MINE}")'})
run("own file", {"ROWS = None ": f'ROWS = "{MINE}" '})
run(
    "epochs", {"max_steps=s.steps,": "num_train_epochs=2,", "ROWS = None ": f'ROWS = "{MINE}" '}, ""
)
run("another base", {'BASE = "pocket"': 'BASE = "pocket-xs"'}, "s.steps = 6; s.test_rows = 20")
own = {"MODEL = None ": f'MODEL = "{WORK / "my-model"}" '}
run("own model", {**own, "ROWS = None ": f'ROWS = "{MINE}" '})
run("own model, the course's rows", own, "s.steps = 3; s.test_rows = 10")
run("a model of the hub", {"MODEL = None ": 'MODEL = "Qwen/Qwen2.5-0.5B-Instruct" '})
run("no such folder", {"MODEL = None ": 'MODEL = "my models/none" '})
run("twice in one kernel", also="s.steps = 6; s.test_rows = 20", times=2)
run("in a second kernel", also="s.steps = 6; s.test_rows = 20")
(WORK / "report.json").write_text(json.dumps(report))
