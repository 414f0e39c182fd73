"""Checkpoints and adapters.

Other settings are refused by name, nothing is deleted unsaid, and whatever peft saves is loaded.
"""

import json
import os
import pathlib
import shutil

import pytest
import torch

from utils import bases, checkpoints, instructions, modules

ROWS = 64


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_QUIET", "1")
    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket-xs")


@pytest.fixture(scope="module")
def rows():
    from datasets import Dataset

    tokenizer = bases.load_tokenizer("pocket-xs")
    return Dataset.from_list(instructions.for_trl(instructions.load("train")[:ROWS], tokenizer))


def trainer_for(data, folder, rank=8, alpha=16, targets=modules.ALL_LINEAR, lora=None, **changes):
    """A trainer of pocket-xs on `data`, whose checkpoints go to folder/run.

    `changes` are arguments of SFTConfig.
    """
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    config = dict(r=rank, lora_alpha=alpha, target_modules=list(targets), **(lora or {}))
    model = pocket()
    if rank:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    settings = dict(
        output_dir=str(folder / "run"),
        max_steps=20,
        save_steps=5,
        save_total_limit=2,
        learning_rate=5e-3,
        per_device_train_batch_size=4,
        lr_scheduler_type="linear",
        warmup_steps=2,
        logging_steps=1,
        report_to="none",
        bf16=False,
        disable_tqdm=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        seed=0,
    )
    return SFTTrainer(
        model=model,
        processing_class=bases.load_tokenizer("pocket-xs"),
        train_dataset=data,
        args=SFTConfig(**{**settings, **changes}),
    )


@pytest.fixture
def make(rows, tmp_path):
    """make(data=…, rank=…, alpha=…, …) -> a trainer whose checkpoints go to tmp_path/run."""
    return lambda data=rows, **changes: trainer_for(data, tmp_path, **changes)


def stopped(trainer, at):
    """Train, and press the stop button at the end of a step."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == at:
                raise KeyboardInterrupt

    trainer.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        checkpoints.train(trainer)


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def there(folder):
    return sorted(p.name for p in folder.glob("checkpoint-*"))


def aside(folder):
    return sorted(p.name for p in (folder / "passed-over").glob("*"))


# --- a run resumed with other settings ------------------------------------------------------------

CHANGES = {
    "learning rate 0.005 (now 0.0001)": dict(learning_rate=1e-4),
    "schedule linear (now constant)": dict(lr_scheduler_type="constant"),
    "warm-up steps 2 (now 0)": dict(warmup_steps=0),
    "batch 4 (now 2)": dict(per_device_train_batch_size=2),
    "accumulation 1 (now 2)": dict(gradient_accumulation_steps=2),
    "rank 8 (now 4)": dict(rank=4),
    "alpha 16 (now 64)": dict(alpha=64),
    "target modules ": dict(targets=["q_proj", "v_proj"]),
    "use dora False (now True)": dict(lora=dict(use_dora=True)),
    "lora dropout 0 (now 0.1)": dict(lora=dict(lora_dropout=0.1)),
    "steps 20 (now 40)": dict(max_steps=40),
    "steps 20 (now 10)": dict(max_steps=10),
    "steps 20 (now 16)": dict(max_steps=-1, num_train_epochs=1),
    "seed 0 (now 1)": dict(seed=1),
    "weight decay 0 (now 0.1)": dict(weight_decay=0.1),
}


@pytest.fixture(scope="module")
def begun(rows, tmp_path_factory):
    """A run of 20 steps, stopped at step 12."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("PEFT_COURSE_QUIET", "1")
        stopped(trainer_for(rows, folder), 12)
    return folder / "run"


@pytest.mark.parametrize("said, changes", CHANGES.items())
def test_other_settings_are_refused_by_name_and_nothing_is_lost(
    begun, make, tmp_path, said, changes
):
    shutil.copytree(begun, tmp_path / "run")
    with pytest.raises(ValueError, match="with other settings") as caught:
        checkpoints.train(make(**changes))
    message = str(caught.value)
    assert said in message and "start_over=True" in message and str(tmp_path / "run") in message
    assert there(tmp_path / "run") == ["checkpoint-10", "checkpoint-5"]


def test_every_difference_is_named(begun, make, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    with pytest.raises(ValueError) as caught:
        checkpoints.train(make(learning_rate=1e-4, alpha=32, per_device_train_batch_size=8))
    assert all(
        said in str(caught.value) for said in ("learning rate 0.005", "alpha 16", "batch 4 (now 8)")
    )


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda r: r.select(range(40)), "rows 64 (now 40)"),
        (lambda r: r.select(range(63, -1, -1)), "other rows, also 64"),
        (
            lambda r: r.map(
                lambda x, i: x if i else {"completion": " Wrong.</s>"}, with_indices=True
            ),
            "other rows, also 64",
        ),
    ],
)
def test_other_rows_are_refused(begun, make, rows, tmp_path, change, said):
    shutil.copytree(begun, tmp_path / "run")
    with pytest.raises(ValueError, match="other settings") as caught:
        checkpoints.train(make(data=change(rows)))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{}, dict(save_steps=4, logging_steps=2), dict(save_total_limit=5)]
)
def test_what_does_not_change_the_run_is_no_reason_to_stop(begun, make, tmp_path, changes):
    shutil.copytree(begun, tmp_path / "run")
    assert checkpoints.train(make(**changes)) == 10


def test_start_over_is_the_way_out(begun, make, tmp_path):
    shutil.copytree(begun, tmp_path / "run")
    trainer = make(learning_rate=1e-4, rank=4)
    assert checkpoints.train(trainer, start_over=True) == 0
    assert trainer.state.global_step == 20 and len(losses(trainer)) == 20


def test_a_checkpoint_of_a_plain_trainer_is_compared_as_far_as_it_goes(
    begun, make, tmp_path, capsys
):
    shutil.copytree(begun, tmp_path / "run")
    (tmp_path / "run" / "checkpoint-10" / "training_rows.json").unlink()
    with pytest.raises(ValueError, match="learning rate 0.005"):
        checkpoints.train(make(learning_rate=1e-4))
    (tmp_path / "run" / "checkpoint-10" / "training_args.bin").unlink()
    for changes in (dict(learning_rate=1e-4), dict(rank=4), dict(max_steps=30)):
        with pytest.raises(ValueError, match="other settings"):
            checkpoints.train(make(**changes))
    assert checkpoints.train(make()) == 10
    assert "does not say which rows it was trained on" in capsys.readouterr().out


def test_the_saved_arguments_are_read_without_running_what_their_pickle_names(tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Bad(), tmp_path / "training_args.bin")
    assert checkpoints.saved_arguments(tmp_path).keys() <= {"value"}
    assert not (tmp_path / "ran").exists()


# --- epochs ---------------------------------------------------------------------------------------
# ----------------------


@pytest.mark.parametrize(
    "changes, steps",
    [
        (dict(num_train_epochs=1), 16),
        (dict(num_train_epochs=2, gradient_accumulation_steps=3), 12),
        (dict(num_train_epochs=0.5, save_strategy="epoch"), 8),
    ],
)
def test_epochs_work_as_well_as_steps(make, tmp_path, capsys, changes, steps):
    trainer = make(max_steps=-1, **changes)
    assert checkpoints.train(trainer) == 0 and trainer.state.global_step == steps
    assert f"{steps} steps from the start" in capsys.readouterr().out
    again = make(max_steps=-1, **changes)
    assert checkpoints.train(again) == steps and losses(again) == losses(trainer)
    with pytest.raises(ValueError, match=f"steps {steps} "):
        checkpoints.train(make(max_steps=-1, **changes | dict(num_train_epochs=3)))


@pytest.mark.parametrize("commit", [None, "5" * 40])
def test_the_adapter_names_the_commit_at_which_the_hub_gave_its_base(make, tmp_path, commit):
    trainer = make(max_steps=1, save_steps=1)
    trainer.model.config._commit_hash = commit
    checkpoints.train(trainer)
    saved = json.loads((tmp_path / "run" / "checkpoint-1" / "adapter_config.json").read_text())
    assert saved["revision"] == commit


def test_epochs_stopped_go_on(make, tmp_path):
    stopped(make(max_steps=-1, num_train_epochs=1), 12)
    trainer = make(max_steps=-1, num_train_epochs=1)
    assert checkpoints.train(trainer) == 10 and trainer.state.global_step == 16


# --- what is passed over
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["missing", "of two cards", "damaged"])
def test_a_lost_random_state_is_no_reason_to_start_again(begun, make, tmp_path, capsys, lost):
    shutil.copytree(begun, tmp_path / "run")
    for path in (tmp_path / "run").glob("checkpoint-*"):
        if lost == "damaged":
            (path / "rng_state.pth").write_bytes((path / "rng_state.pth").read_bytes()[:100])
        elif lost == "missing":
            (path / "rng_state.pth").unlink()
        else:
            (path / "rng_state.pth").rename(path / "rng_state_0.pth")
        os.utime(path, (1, 1))
    trainer = make()
    assert checkpoints.train(trainer) == 10 and trainer.state.global_step == 20
    assert "rng_state.pth is" in capsys.readouterr().out


def test_the_case_a_finished_run_without_its_random_state_and_more_steps(make, tmp_path):
    checkpoints.train(make())
    for path in (tmp_path / "run").glob("checkpoint-*"):
        (path / "rng_state.pth").rename(path / "rng_state_0.pth")
        os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="steps 20 "):
        checkpoints.train(make(max_steps=40))
    assert there(tmp_path / "run") == ["checkpoint-15", "checkpoint-20"]


@pytest.mark.parametrize("limit", [1, 2])
def test_adapters_saved_without_their_optimiser_survive(make, tmp_path, capsys, limit):
    checkpoints.train(make(save_only_model=True, max_steps=10))
    kept = {
        p.name: (p / "adapter_model.safetensors").read_bytes()
        for p in (tmp_path / "run").glob("checkpoint-*")
    }
    for path in (tmp_path / "run").glob("checkpoint-*"):
        os.utime(path, (1, 1))
    stopped(make(save_only_model=True, save_total_limit=limit), 13)
    assert aside(tmp_path / "run") == sorted(kept)
    for name, bytes_ in kept.items():
        path = tmp_path / "run" / "passed-over" / name / "adapter_model.safetensors"
        assert path.read_bytes() == bytes_
    assert "It is kept in passed-over/checkpoint-10" in capsys.readouterr().out
    stopped(make(save_only_model=True), 13)  # a second time, with the same names
    assert len(aside(tmp_path / "run")) > len(kept)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "adapter_model.safetensors"])
def test_a_half_written_checkpoint_is_not_overwritten(begun, make, tmp_path, name):
    shutil.copytree(begun, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint-10" / name
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    trainer = make()
    assert checkpoints.train(trainer) == 5 and trainer.state.global_step == 20
    assert (tmp_path / "run" / "passed-over" / "checkpoint-10" / name).read_bytes() == half


def test_full_tuning_has_checkpoints_too(make, tmp_path):
    def full():
        return make(rank=0, max_steps=6, save_steps=2, learning_rate=1e-3)

    stopped(full(), 5)
    trainer = full()
    assert checkpoints.train(trainer) == 4 and trainer.state.global_step == 6
    assert checkpoints.train(full()) == 6


# --- a full disk ----------------------------------------------------------------------------------
# ----------------------


class SafetensorError(Exception):
    """As the library's own: neither an OSError nor a RuntimeError."""


FULL = {
    "write": OSError(28, "No space left on device"),
    "quota": OSError(122, "Disk quota exceeded"),
    "safetensors": SafetensorError("I/O error: No space left on device (os error 28)"),
    "tokenizer": Exception("No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 37 vs 36"),
    "zip": RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
}


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
@pytest.mark.parametrize("where", ["checkpoint", "rows", "aside", "adapter"])
def test_a_full_disk_is_one_sentence_wherever_it_strikes(
    begun, make, tmp_path, monkeypatch, error, where
):
    shutil.copytree(begun, tmp_path / "run")
    trainer = make()

    def full(*_, **__):
        raise error

    if where == "adapter":
        monkeypatch.setattr(type(trainer.model), "save_pretrained", full)
        with pytest.raises(OSError, match="The adapter could not be written: the disk of"):
            checkpoints.save_adapter(trainer.model, tmp_path / "adapter")
        return
    if where == "checkpoint":
        monkeypatch.setattr(trainer, "_save_checkpoint", full)
    if where == "rows":
        real = pathlib.Path.write_text
        monkeypatch.setattr(
            pathlib.Path,
            "write_text",
            lambda self, *a, **k: (
                full() if self.name == "training_rows.json" else real(self, *a, **k)
            ),
        )
    if where == "aside":
        (tmp_path / "run" / "checkpoint-10" / "optimizer.pt").write_bytes(b"")
        monkeypatch.setattr(checkpoints, "set_aside", full)
    with pytest.raises(OSError, match="could not be written: the disk of .* is full") as caught:
        checkpoints.train(trainer)
    assert "\n" not in str(caught.value) and "run this cell again" in str(caught.value)


def test_another_error_is_not_called_a_full_disk(make, monkeypatch):
    trainer = make()

    def broken(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(trainer, "_save_checkpoint", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        checkpoints.train(trainer)


# --- adapters: whatever peft saves
# --------------------------------------------------------------------------------------


def grow(model, by=12):
    model.resize_token_embeddings(model.config.vocab_size + by)
    return model


def gpt2(folder):
    from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

    if not folder.exists():
        torch.manual_seed(0)
        config = GPT2Config(n_layer=2, n_head=2, n_embd=64, vocab_size=300)
        GPT2LMHeadModel(config).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture
def saved(tmp_path):
    """saved(base, name, options of LoraConfig) -> logits of an adapter saved as tmp_path/name."""
    from peft import LoraConfig, get_peft_model

    def save(base, name, seed=0, **options):
        usual = dict(r=8, lora_alpha=16, target_modules=list(modules.ALL_LINEAR))
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **{**usual, **options}))
        generator = torch.Generator().manual_seed(seed)
        for _, p in model.named_parameters():
            if p.requires_grad:
                p.data.copy_(torch.randn(p.shape, generator=generator) * 0.05)
        model.save_pretrained(tmp_path / name)
        return logits(model.eval())

    return save


def pocket(four_bit=False):
    return bases.load("pocket-xs", four_bit=four_bit)[0]


def logits(model):
    with torch.no_grad():
        return model(torch.arange(10, 20)[None]).logits[0, -1]


KINDS = {
    "embeddings and head": dict(modules_to_save=["embed_tokens", "lm_head"]),
    "norms": dict(modules_to_save=["norm"]),
    "head as target": dict(target_modules=["q_proj", "lm_head"]),
    "embeddings as target": dict(target_modules=["q_proj", "embed_tokens"]),
    "new tokens": dict(trainable_token_indices=[5, 6]),
    "dora": dict(use_dora=True),
    "rslora": dict(use_rslora=True),
    "pissa": dict(init_lora_weights="pissa"),
    "regular expression": dict(target_modules=r".*\.(q|v)_proj"),
    "all linear": dict(target_modules="all-linear"),
    "ranks": dict(rank_pattern={"q_proj": 3}),
    "some layers": dict(layers_to_transform=[1]),
    "bias": dict(lora_bias=True),
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.filterwarnings("ignore")
def test_whatever_peft_saves_is_loaded_as_peft_loads_it(saved, tmp_path, options):
    wanted = saved(pocket(), "mine", **options)
    got = checkpoints.load_adapter(pocket(), tmp_path / "mine")
    assert torch.allclose(logits(got), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("targets", [["c_attn", "c_proj"], ["c_attn", "wte"]])
def test_gpt2_whose_layers_are_conv1d(saved, tmp_path, targets):
    wanted = saved(gpt2(tmp_path / "base"), "mine", target_modules=targets, fan_in_fan_out=True)
    got = checkpoints.load_adapter(gpt2(tmp_path / "base"), tmp_path / "mine")
    assert torch.allclose(logits(got), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_four_bit_dora(saved, tmp_path):
    wanted = saved(pocket(True), "mine", use_dora=True)
    got = checkpoints.load_adapter(pocket(True), tmp_path / "mine")
    assert torch.allclose(logits(got), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options", [{}, dict(modules_to_save=["embed_tokens"]), dict(target_modules=["lm_head"])]
)
def test_a_larger_vocabulary(saved, tmp_path, options):
    wanted = saved(grow(pocket()), "mine", **options)
    base = pocket()
    with pytest.raises(ValueError, match="has 2,060 tokens and the base's 2,048") as caught:
        checkpoints.load_adapter(base, tmp_path / "mine")
    assert "resize_token_embeddings(2060)" in str(caught.value) and not checkpoints.carried(base)
    got = checkpoints.load_adapter(grow(base), tmp_path / "mine")
    assert torch.allclose(logits(got), wanted, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_base_that_grew_after_the_adapter(saved, tmp_path):
    saved(pocket(), "mine", modules_to_save=["lm_head"])
    with pytest.raises(ValueError, match="2,048 tokens and the base's 2,060.*Load the base again"):
        checkpoints.load_adapter(grow(pocket()), tmp_path / "mine")


def test_a_second_adapter_on_one_base_is_refused_and_the_first_answers_as_before(saved, tmp_path):
    wanted = saved(pocket(), "a", seed=1)
    saved(pocket(), "b", seed=2)
    saved(pocket(), "c", seed=3, r=4, target_modules=["q_proj", "v_proj"])
    base = pocket()
    first = checkpoints.load_adapter(base, tmp_path / "a")
    for model in (base, first):
        for name in "abc":
            with pytest.raises(ValueError, match="already carries an adapter .default."):
                checkpoints.load_adapter(model, tmp_path / name)
    assert torch.equal(logits(first), wanted)
    assert checkpoints.load_adapter(first.unload(), tmp_path / "b") is not None


def test_half_of_an_adapters_tensors(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    saved(pocket(), "mine")
    path = tmp_path / "mine" / "adapter_model.safetensors"
    tensors = load_file(path)
    for key in sorted(tensors)[::2]:
        del tensors[key]
    save_file(tensors, path)
    base = pocket()
    with pytest.raises(ValueError, match="tensors are not in its file, such as base_model"):
        checkpoints.load_adapter(base, tmp_path / "mine")
    assert not checkpoints.carried(base)


def test_targets_that_the_base_does_not_have(saved, tmp_path):
    saved(gpt2(tmp_path / "base"), "mine", target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(ValueError, match="c_attn.*not found in the base model"):
        checkpoints.load_adapter(pocket(), tmp_path / "mine", any_base=True)


def test_an_adapter_that_does_not_name_its_base(saved, tmp_path):
    wanted = saved(pocket(), "mine")
    path = tmp_path / "mine" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="a base without a name.*any_base=True"):
        checkpoints.load_adapter(pocket(), tmp_path / "mine")
    got = checkpoints.load_adapter(pocket(), tmp_path / "mine", any_base=True)
    assert torch.allclose(logits(got), wanted, atol=1e-5)
