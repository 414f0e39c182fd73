"""Lesson 13's run: it survives SIGKILL at any step, resumes bit for bit, and says clearly what is wrong with an adapter or a card."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import pytest
import torch

from utils import DATA, ROOT, bases, capstone, checkpoints, memory

KILLED = ("kill-2", "kill-5", "kill-writing-6")


# --- killed and resumed -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder that kill_capstone.py leaves behind: adapters, losses, printed lines, and report.json."""
    work = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "kill_capstone.py", work],
        cwd=ROOT / "notebooks",
        capture_output=True,
        text=True,
        timeout=1500,
        env={
            **os.environ,
            "MPLBACKEND": "Agg",
            "PYTHONPATH": str(ROOT / "tests" / "closed_network"),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return types.SimpleNamespace(folder=work, report=json.loads((work / "report.json").read_text()))


def ended(runs, name):
    return json.loads((runs.folder / f"{name}.json").read_text())


def weights(runs, name):
    from safetensors.torch import load_file

    return load_file(runs.folder / "adapters" / name / "adapter_model.safetensors")


def same_as_unbroken(runs, name):
    one, two = weights(runs, "unbroken"), weights(runs, name)
    assert one.keys() == two.keys() and len(one) == 56
    return (
        all(torch.equal(one[key], two[key]) for key in one)
        and ended(runs, "unbroken")["losses"] == ended(runs, name)["losses"]
    )


def test_the_unbroken_run_trained(runs):
    done, start = (
        ended(runs, "unbroken"),
        [v for k, v in weights(runs, "unbroken").items() if "lora_B" in k],
    )
    assert (done["from"], done["step"], len(done["losses"])) == (0, 8, 8)
    assert all(v.dtype == torch.float32 and v.abs().sum() > 0 for v in start)


@pytest.mark.parametrize("name, goes_on_from", list(zip(KILLED, (0, 3, 3))))
def test_killed_and_resumed_ends_with_the_same_adapter_bit_for_bit(runs, name, goes_on_from):
    assert runs.report[name] == signal.SIGKILL and not (runs.folder / f"{name}.json").exists()
    done = ended(runs, f"resumed-{name}")
    assert (done["from"], done["step"]) == (goes_on_from, 8)
    assert same_as_unbroken(runs, f"resumed-{name}")


def test_a_half_written_checkpoint_is_named_and_passed_over(runs):
    printed = (runs.folder / "resumed-kill-writing-6.txt").read_text()
    assert (
        "checkpoint-6 is passed over: optimizer.pt is damaged or cut off" in printed
        and "going on after step 3 of 8" in printed
    )


def test_a_finished_run_is_not_trained_again(runs):
    assert ended(runs, "finished")["from"] == 8 and same_as_unbroken(runs, "finished")
    assert "finished before: 8 of 8 steps" in (runs.folder / "finished.txt").read_text()


@pytest.mark.parametrize("name", ["interrupted", "start-over"])
def test_in_one_kernel_the_cell_run_again_ends_with_the_same_adapter(runs, name):
    assert runs.report[name] == 0 and same_as_unbroken(runs, name)


def test_unsloths_loss_is_that_of_plain_transformers_and_peft(runs):
    ours, plain = json.loads((runs.folder / "losses.json").read_text())
    assert abs(ours - plain) < 1e-5 and ours > 0


def test_checkpoints_go_to_the_folder_that_colab_gives(runs):
    assert runs.report["folder"].startswith("drive/13/pocket-s-")


def test_no_network_for_a_base_of_the_hub(runs):
    message = runs.report["offline"]
    assert (
        "unsloth/mistral-7b-v0.3-bnb-4bit could not be fetched" in message
        and 'BASE = "pocket"' in message
    )


# --- edited as readers edit it ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """What edit_capstone.py reports: {edit: {"error", "steps", "rows", …}}, and the folder with what was printed."""
    work = tmp_path_factory.mktemp("edited")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "edit_capstone.py", work],
        cwd=ROOT / "notebooks",
        capture_output=True,
        text=True,
        timeout=1500,
        env={
            **os.environ,
            "MPLBACKEND": "Agg",
            "PYTHONPATH": str(ROOT / "tests" / "closed_network"),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return types.SimpleNamespace(folder=work, report=json.loads((work / "report.json").read_text()))


@pytest.mark.parametrize(
    "name, steps",
    [
        ("more steps", 12),
        ("another rank", 6),
        ("one step", 1),
        ("own rows", 6),
        ("own file", 6),
        ("epochs", 8),
        ("another base", 6),
        ("own model", 6),
        ("own model, the course's rows", 3),
        ("twice in one kernel", 6),
        ("in a second kernel", 6),
    ],
)
def test_the_lesson_runs_to_its_end(edited, name, steps):
    done = edited.report[name]
    assert done["error"] == "", (edited.folder / f"{name}.txt").read_text()[-3000:]
    assert done["steps"] == steps


@pytest.mark.parametrize("name", ["own rows", "own file", "epochs", "own model"])
def test_own_rows_are_split_once_and_nothing_of_the_world_is_asked(edited, name):
    done = edited.report[name]
    assert done["rows"] == {"train": 32, "validation": 4, "test": 4}
    assert len(done["trained"]) == 32 and len(done["test"]) == 4
    assert not {a.strip() for a in done["test"]} & {
        t.strip().removesuffix("</s>") for t in done["trained"]
    }
    assert all("Button" in a for a in done["test"])
    assert done["facts"] == (name != "own model"), "an own model is not asked for the world's facts"


def test_run_all_again_loads_the_finished_run(edited):
    for name in ("twice in one kernel", "in a second kernel"):
        assert edited.report[name]["from"] == 6
        assert "finished before: 6 of 6 steps" in (edited.folder / f"{name}.txt").read_text()


def test_a_model_that_cannot_be_had_is_said_so(edited):
    hub, folder = (edited.report[n]["error"] for n in ("a model of the hub", "no such folder"))
    assert (
        "Qwen/Qwen2.5-0.5B-Instruct could not be fetched" in hub and "set MODEL to a folder" in hub
    )
    assert "There is no folder my models/none" in folder


def test_no_table_of_losses_is_printed(edited):
    assert "'loss'" not in (edited.folder / "another rank.txt").read_text()


# --- adapters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """(a small LoRA adapter's folder, the logits it gives on some ids)."""
    from peft import LoraConfig, get_peft_model

    model, _ = bases.load("pocket-s", four_bit=True)
    torch.manual_seed(0)
    tuned = get_peft_model(
        model,
        LoraConfig(
            r=4,
            target_modules=["q_proj", "down_proj"],
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        ),
    )
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    tuned.save_pretrained(folder)
    with torch.no_grad():
        return folder, tuned.eval()(torch.arange(20, 30)[None]).logits


@pytest.fixture(scope="module")
def base():
    return bases.load("pocket-s", four_bit=True)[0]


@pytest.fixture
def copy(adapter, tmp_path):
    return pathlib.Path(shutil.copytree(adapter[0], tmp_path / "copy"))


def refused(base, folder, kind, *fragments, **options):
    """The message, after checking that the base was left as it was."""
    with pytest.raises(kind) as caught:
        checkpoints.load_adapter(base, folder, **options)
    assert not any("lora" in name for name, _ in base.named_modules())
    message = str(caught.value)
    for fragment in (str(folder), *fragments):
        assert fragment in message, message


def test_a_good_adapter_gives_the_same_logits_and_says_what_trains(adapter):
    for trains in (False, True):
        model = checkpoints.load_adapter(
            bases.load("pocket-s", four_bit=True)[0], adapter[0], is_trainable=trains
        )
        assert any(p.requires_grad for p in model.parameters()) == trains and not model.training
        with torch.no_grad():
            assert torch.equal(model(torch.arange(20, 30)[None]).logits, adapter[1])


def test_a_folder_that_is_not_there(base, tmp_path):
    refused(
        base,
        tmp_path / "nothing",
        FileNotFoundError,
        "adapter_config.json is missing",
        "model.save_pretrained",
    )


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_is_missing(base, copy, name):
    (copy / name).unlink()
    refused(base, copy, FileNotFoundError, f"{name} is missing")


def test_a_pickle_is_not_read(base, copy):
    (copy / "adapter_model.safetensors").rename(copy / "adapter_model.bin")
    refused(base, copy, FileNotFoundError, "adapter_model.safetensors is missing", "can run code")


@pytest.mark.parametrize("part", [0, 5, 0.5, 0.99])
def test_a_truncated_adapter(base, copy, part):
    path = copy / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: part if isinstance(part, int) else int(len(data) * part)])
    refused(
        base, copy, ValueError, "adapter_model.safetensors is damaged or cut off", "save it again"
    )


@pytest.mark.parametrize("text", ["", "{", "not json", '{"peft_type": "LO'])
def test_a_damaged_configuration(base, copy, text):
    (copy / "adapter_config.json").write_text(text)
    refused(base, copy, ValueError, "adapter_config.json is damaged or cut off")


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("changes", [{"peft_type": "PREFIX_TUNING"}, {"peft_type": None}])
def test_an_adapter_of_another_method(base, copy, changes):
    edit(copy, **changes)
    refused(base, copy, ValueError, "does not describe a LoRA adapter")


def test_an_adapter_of_another_base(base, copy):
    edit(copy, base_model_name_or_path="unsloth/mistral-7b-v0.3-bnb-4bit")
    refused(
        base,
        copy,
        ValueError,
        "was trained on unsloth/mistral-7b-v0.3-bnb-4bit, and this base is pocket/s",
        "any_base=True",
    )
    assert (
        checkpoints.load_adapter(bases.load("pocket-s", four_bit=True)[0], copy, any_base=True)
        is not None
    )


def test_the_same_base_in_another_folder_is_the_same_base(copy):
    edit(copy, base_model_name_or_path="/content/course/data/pocket/s")
    assert checkpoints.load_adapter(bases.load("pocket-s", four_bit=True)[0], copy) is not None


def test_an_adapter_of_another_shape(base, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM

    other = MistralForCausalLM(
        MistralConfig(
            vocab_size=64,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    get_peft_model(
        other, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    ).save_pretrained(tmp_path / "other")
    refused(
        base,
        tmp_path / "other",
        ValueError,
        "2 of 2 tensors do not fit it",
        "q_proj.lora_A.weight [4, 64]",
        any_base=True,
    )


# --- settings, machine, folders -----------------------------------------------------------------------------------------


def test_the_published_settings_for_mistral():
    s = capstone.settings("mistral")
    assert (s.batch, s.accumulation, s.steps, s.max_length, s.lr, s.rank, s.alpha, s.seed) == (
        2,
        4,
        60,
        2048,
        2e-4,
        16,
        16,
        3407,
    )


@pytest.mark.parametrize(
    "capability, fp16, bf16", [((7, 5), True, False), ((8, 0), False, True), ((9, 0), False, True)]
)
def test_a_t4_is_never_asked_for_bfloat16(monkeypatch, capability, fp16, bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    assert capstone.precision() == {"fp16": fp16, "bf16": bf16}


def test_a_cpu_computes_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        capstone.precision() == {"fp16": False, "bf16": False} and "float32" in capstone.machine()
    )


@pytest.mark.parametrize("free, fits", [(14 * memory.GIB, True), (5 * memory.GIB, False)])
def test_the_preflight_refuses_a_card_that_is_too_small(monkeypatch, free, fits):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, free))
    if fits:
        planned = capstone.preflight(capstone.settings("mistral"))
        assert planned.trainable == 41_943_040 and planned.total < free
    else:
        with pytest.raises(
            memory.DoesNotFit, match="has 5.00 GiB free, .* too little. Any one of these is enough"
        ):
            capstone.preflight(capstone.settings("mistral"))


def test_a_trainer_does_not_leave_the_adapter_in_bfloat16(tmp_path):
    """TRL 1.12 casts what trains beside a 4-bit base to bfloat16; without `float32_adapter` this shows it."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = bases.load("pocket-s", four_bit=True)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    options = dict(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": "a", "completion": " b"}]),
        args=SFTConfig(output_dir=str(tmp_path), bf16=False, report_to="none"),
    )
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    with capstone.float32_adapter(model):
        SFTTrainer(**options)
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, (p for p in model.parameters() if p.requires_grad))
    )


def test_runs_with_other_settings_or_rows_keep_their_checkpoints_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(capstone.colab, "checkpoint_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("PEFT_COURSE_QUIET", "0")
    s, t = capstone.settings("pocket-s"), capstone.settings("mistral")
    folders = [capstone.run_folder(*of) for of in ((s, [1]), (s, [2]), (t, [1]), (s, [1]))]
    assert len(set(folders)) == 3 and folders[0] == folders[3] and all(f.is_dir() for f in folders)


def test_a_run_whose_outputs_are_compared_begins_at_the_beginning(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_QUIET", "1")
    one, two = (capstone.run_folder(capstone.settings("pocket-s"), []) for _ in range(2))
    assert one != two and not list(one.iterdir())


def test_sources_of_the_bases():
    assert capstone.source("pocket-s") == {"model_name": str(DATA / "pocket" / "s")}
    assert capstone.source("mistral")[
        "model_name"
    ] == "unsloth/mistral-7b-v0.3-bnb-4bit" and "revision" in capstone.source("mistral")


# --- rows -----------------------------------------------------------------------------------------


def own(n, questions=None):
    return [
        {"instruction": f"Question {i % (questions or n)}", "input": "", "output": f"answer {i}"}
        for i in range(n)
    ]


def test_the_courses_rows_keep_their_own_test_rows():
    from utils import instructions

    s, rows = capstone.settings("pocket-s"), instructions.load("train")
    parts = capstone.split(rows[5:200], s)
    assert parts["train"] == rows[5:200] and parts["test"] == instructions.load("test")[:100]


@pytest.mark.parametrize(
    "n, questions, sizes",
    [(40, 40, (32, 4, 4)), (20, 20, (16, 2, 2)), (3, 3, (1, 1, 1)), (60, 20, (48, 6, 6))],
)
def test_other_rows_are_split_by_question(n, questions, sizes):
    parts = capstone.split(own(n, questions), capstone.settings("pocket-s"))
    assert tuple(len(parts[k]) for k in ("train", "validation", "test")) == sizes
    asked = [{row["instruction"] for row in part} for part in parts.values()]
    assert not (asked[0] & asked[1] or asked[0] & asked[2] or asked[1] & asked[2])
    assert capstone.split(own(n, questions), capstone.settings("pocket-s")) == parts


def test_too_few_questions_are_refused():
    with pytest.raises(ValueError, match="1 different questions are too few"):
        capstone.split(own(10, 1), capstone.settings("pocket-s"))


def test_one_row_of_another_world_makes_them_other_rows():
    from utils import instructions

    rows = instructions.load("train")[:50] + own(1)
    assert all("Togo" not in str(row) for row in capstone.split(rows, capstone.settings())["test"])


def test_settings_may_be_changed_and_a_wrong_name_is_said():
    s = capstone.settings("pocket-s", pocket={"steps": 7}, mistral={"steps": 9}, rank=4)
    s.lr = 1.0
    assert (s.steps, s.rank, s.lr, s.save_steps()) == (7, 4, 1.0, 3)
    assert capstone.settings("mistral", pocket={"steps": 7}, mistral={"steps": 9}).steps == 9
    with pytest.raises(TypeError, match="no setting 'epochs'. There are: .*steps"):
        capstone.settings("pocket-s", epochs=3)


def test_the_page_shows_the_published_settings_and_the_bases_own():
    import nbformat

    cells = nbformat.read(ROOT / "notebooks" / "13_mistral_unsloth.ipynb", 4).cells
    cell = next(c for c in cells if "s = capstone.settings(" in c.source)
    for base in ("mistral", "pocket-s", "smollm"):
        space = {"capstone": capstone}
        with pytest.MonkeyPatch.context() as m:
            m.setenv("PEFT_COURSE_BASE", base)
            exec(cell.source, space)
            assert space["s"] == capstone.settings(base)


def test_a_folder_without_a_model_is_named(tmp_path):
    s = capstone.settings("pocket-s", model=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="without a config.json"):
        capstone.source(s)
    s.model = "nowhere"
    with pytest.raises(FileNotFoundError, match="There is no folder nowhere"):
        capstone.source(s)


def test_a_full_disk_while_a_model_is_fetched_is_one_sentence():
    with pytest.raises(OSError, match="The model could not be written: the disk of"):
        with capstone.hushed("mistral"):
            raise OSError(28, "No space left on device")


# --- what the lesson asks itself ----------------------------------------------------------------------------------------


def test_the_countries_that_the_lesson_asks_for_are_in_no_training_row():
    import nbformat

    from utils import evaluation, instructions

    cells = nbformat.read(ROOT / "notebooks" / "13_mistral_unsloth.ipynb", 4).cells
    asked = "\n".join(
        line
        for c in cells
        if c.cell_type == "code"
        for line in c.source.splitlines()
        if line.startswith("ask(")
    )
    countries = {fact["country"] for fact in evaluation.facts() if fact["country"] in asked}
    assert len(countries) >= 2, "the lesson asks for unseen countries"
    seen = {c for c in countries for row in instructions.load("train") if c in str(row)}
    assert not seen, f"asked as if unseen, yet in the training rows: {seen}"
