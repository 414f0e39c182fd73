"""Checkpoints and adapters read with care: a run survives being killed, a broken file is named.

step = train(trainer)                # goes on from the last whole checkpoint, or begins
model = load_adapter(base, folder)   # or says which file is wrong, why, and what to do
"""

import contextlib
import copy
import errno
import hashlib
import json
import math
import pathlib
import pickle
import re
import shutil
import time
import weakref
import zipfile

import torch

from . import bases, training

STATE_FILES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")
WEIGHT_FILES = (
    "adapter_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
)
ROWS_FILE = (
    "training_rows.json"  # the course's own, beside the Trainer's: which rows were trained on
)
PASSED_OVER = "passed-over"  # folder beside the checkpoints; the Trainer deletes nothing in it
# What a run must not change halfway, by the Trainer's name for it, and how a reader calls it.
ARGUMENTS = {
    "learning_rate": "learning rate",
    "lr_scheduler_type": "schedule",
    "lr_scheduler_kwargs": "schedule's options",
    "warmup_steps": "warm-up steps",
    "warmup_ratio": "warm-up share",
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "accumulation",
    "optim": "optimiser",
    "optim_args": "optimiser's options",
    "weight_decay": "weight decay",
    "adam_beta1": "beta 1 of Adam",
    "adam_beta2": "beta 2 of Adam",
    "adam_epsilon": "epsilon of Adam",
    "max_grad_norm": "gradient clipping",
    "label_smoothing_factor": "label smoothing",
    "neftune_noise_alpha": "NEFTune noise",
    "seed": "seed",
    "data_seed": "seed of the row order",
    "train_sampling_strategy": "order of rows",
    "max_length": "longest row",
    "packing": "packing",
    "completion_only_loss": "loss on the answer only",
    "assistant_only_loss": "loss on the assistant's turns only",
    "loss_type": "loss",
    "beta": "beta",
}
ADAPTER = {"r": "rank", "lora_alpha": "alpha", "target_modules": "target modules"}
NOT_OF_THE_RUN = (
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_version",
    "revision",
    "runtime_config",
    "task_type",
)
_start = weakref.WeakKeyDictionary()  # model -> its trainable weights when `train` first saw it


def damage(path):
    """Why a safetensors, torch or JSON file cannot be used ("" if it can).

    Missing, cut off, or not what its name says.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return f"{path.name} is missing"
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                return "" if file.keys() else f"{path.name} holds no tensors"
        whole = (
            json.loads(path.read_text(encoding="utf-8"))
            if path.suffix == ".json"
            else zipfile.is_zipfile(path)
        )
    except Exception as error:  # noqa: BLE001 - whatever a reader makes of broken bytes
        size, kind = path.stat().st_size, type(error).__name__
        return f"{path.name} is damaged or cut off ({size:,} bytes; {kind})"
    return "" if whole else f"{path.name} is damaged or cut off ({path.stat().st_size:,} bytes)"


def is_full(error):
    """Does this error, or one that led to it, say that a disk or a quota is full?

    OSError, torch and safetensors each say it in their own way.
    """
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or re.search(
            r"no space left|disk quota|os error (28|122)\b|failed writing file|unexpected pos",
            str(error),
            re.IGNORECASE,
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def disk(folder, what, kept=""):
    """Turn every way in which a full disk shows itself into one OSError with one sentence.

    Other errors pass.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise OSError(
            f"{what} could not be written: the disk of {folder} is full. {kept}Free some space "
            "(on Drive, empty the bin too), "
            "then run this cell again."
        ) from error


def save_adapter(model, folder):
    """model.save_pretrained(folder), and the size of the adapter's file in bytes.

    OSError if the disk is full.
    """
    folder = pathlib.Path(folder)
    with disk(folder, "The adapter"):
        model.save_pretrained(folder)
    return (folder / "adapter_model.safetensors").stat().st_size


# --- checkpoints ----------------------------------------------------------------------------------
# --------------------


def flaw(checkpoint):
    """Why training cannot go on from this checkpoint, or "".

    It needs weights, optimiser, schedule and history, and no random state.
    """
    weights = next((n for n in WEIGHT_FILES if (checkpoint / n).exists()), WEIGHT_FILES[0])
    shards = []
    if weights.endswith(".json") and not damage(checkpoint / weights):
        index = json.loads((checkpoint / weights).read_text(encoding="utf-8"))
        shards = sorted(set(index.get("weight_map", {}).values()))
    files = (weights, *shards, *STATE_FILES)
    return next(filter(None, (damage(checkpoint / name) for name in files)), "")


def numbered(folder):
    """The folder's checkpoints, the last one first."""
    found = [p for p in pathlib.Path(folder).glob("checkpoint-*") if p.name[11:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[11:]), reverse=True)


def find(folder):
    """(the last whole checkpoint or None, [(a later checkpoint that is not whole, why)])."""
    flawed = []
    for path in numbered(folder):
        reason = flaw(path)
        if not reason:
            return path, flawed
        flawed.append((path, reason))
    return None, flawed


def last_checkpoint(folder):
    """Path of the last checkpoint that is whole, or None.

    One that a kill left half written is named and passed over.
    """
    last, flawed = find(folder)
    for path, reason in flawed:
        print(f"{path.name} is passed over: {reason}.")
    return last


def set_aside(path):
    """Move a checkpoint to where nothing overwrites it and save_total_limit does not reach.

    Returns the new path.
    """
    target = path.parent / PASSED_OVER / path.name
    target.parent.mkdir(exist_ok=True)
    number = 2
    while target.exists():
        target, number = target.with_name(f"{path.name}-{number}"), number + 1
    return path.rename(target)


def planned_steps(trainer):
    """Optimiser steps of the whole run: `max_steps`, or `num_train_epochs` times the rows."""
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    try:
        batches = len(trainer.get_train_dataloader())
    except TypeError:
        raise ValueError(
            "The rows come as a stream without a length, so epochs cannot be counted. Set "
            "max_steps."
        ) from None
    an_epoch = max(1, math.ceil(batches / trainer.args.gradient_accumulation_steps))
    return math.ceil(trainer.args.num_train_epochs * an_epoch)


def fingerprint(dataset):
    """{"rows", "sha256"} of a dataset's columns in their order; None for a stream."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "with_format"):
        return None
    digest = hashlib.sha256()
    for batch in dataset.with_format(None).iter(1000):
        digest.update(repr(sorted(batch.items())).encode())
    return {"rows": len(dataset), "sha256": digest.hexdigest()}


class _Named:
    """Stands for whatever a pickle names: it keeps what it was given and runs nothing."""

    def __init__(self, *arguments, **_):
        self.value = arguments[0] if arguments else None


class _Reader(pickle.Unpickler):
    """Reads a pickle's plain values; every class in it becomes `_Named`, so none of its code runs."""

    def find_class(self, module, name):
        return type(name, (_Named,), {})

    def persistent_load(self, key):
        return None


def _plain(value):
    """A setting made comparable: enums as their value, sets and lists sorted, numbers as floats."""
    value = getattr(value, "value", value)
    if isinstance(value, (set, list, tuple)):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def saved_arguments(checkpoint):
    """The training arguments that a checkpoint holds, {} if they cannot be read.

    (Their file is a pickle; `_Reader` reads it.)
    """
    try:
        with zipfile.ZipFile(checkpoint / "training_args.bin") as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            with archive.open(name) as file:
                return dict(vars(_Reader(file).load()))
    except Exception:  # noqa: BLE001 - another format, or broken bytes
        return {}


def settings_of(trainer, rows):
    """What decides where a run ends, {name: value}: arguments, adapter, rows, steps.

    `rows` is their `fingerprint`.
    """
    found = {k: getattr(trainer.args, k) for k in ARGUMENTS if hasattr(trainer.args, k)}
    adapters = getattr(trainer.model, "peft_config", None) or {}
    for config in list(adapters.values())[:1]:
        found |= {k: v for k, v in config.to_dict().items() if k not in NOT_OF_THE_RUN}
        found["base"] = _short(config.base_model_name_or_path)
    return found | {
        "rows": rows,
        "steps": planned_steps(trainer),
    }


def settings_in(checkpoint):
    """The same of a checkpoint, as far as it holds them."""
    saved = saved_arguments(checkpoint)
    found = {k: saved[k] for k in ARGUMENTS if k in saved}
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    found["steps"] = state.get("max_steps") or None
    if not saved:  # then at least what other files of the checkpoint tell
        found["per_device_train_batch_size"] = state.get("train_batch_size")
        schedule = torch.load(checkpoint / "scheduler.pt", weights_only=True)
        found["learning_rate"] = next(iter(schedule.get("base_lrs", ())), None)
    if not damage(checkpoint / "adapter_config.json"):
        adapter = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
        found |= {k: v for k, v in adapter.items() if k not in NOT_OF_THE_RUN}
        found["base"] = _short(adapter.get("base_model_name_or_path"))
    if not damage(checkpoint / ROWS_FILE):
        found["rows"] = json.loads((checkpoint / ROWS_FILE).read_text(encoding="utf-8"))
    return {k: v for k, v in found.items() if v is not None}


def differences(trainer, checkpoint, rows=None):
    """Where the trainer's settings and rows are not those of the checkpoint.

    A list of texts, such as "learning rate 0.005 (now 0.0001)".
    """
    ours, theirs, found = settings_of(trainer, rows), settings_in(checkpoint), []
    for key in (k for k in ours if k in theirs):
        now, then = ours[key], theirs[key]
        if _plain(now) == _plain(then):
            continue
        if key == "rows":
            if now is not None:
                n = (f"{then['rows']:,}", f"{now['rows']:,}")
                found.append(
                    f"rows {n[0]} (now {n[1]})" if n[0] != n[1] else f"other rows, also {n[0]}"
                )
            continue
        name = ARGUMENTS.get(key) or ADAPTER.get(key) or key.replace("_", " ")
        found.append(f"{name} {_said(then)} (now {_said(now)})")
    return found


def _said(value):
    value = getattr(value, "value", value)
    if isinstance(value, (set, list, tuple)):
        return ", ".join(sorted(map(str, value)))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(name):
    """The last two parts of a model's name or path: pocket/s, wherever the repository lies."""
    return "/".join(pathlib.PurePath(str(name or "")).parts[-2:])


def _notes_rows(rows):
    """A callback of the Trainer that writes the rows' fingerprint into every checkpoint."""
    from transformers import TrainerCallback

    class NotesRows(TrainerCallback):
        def on_save(self, args, state, control, **_):
            folder = pathlib.Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if rows and folder.exists():
                (folder / ROWS_FILE).write_text(json.dumps(rows), encoding="utf-8")

    return NotesRows()


def _bar():
    """A callback of the Trainer: one bar with the last loss; none where outputs are stored."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Bar(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                leave=False,
                **({"disable": True} if training.quiet() else {}),  # else TQDM_DISABLE decides
            )

        def on_step_end(self, args, state, control, **_):
            self.bar.update(state.global_step - self.bar.n)

        def on_log(self, args, state, control, logs=None, **_):
            if "loss" in (logs or {}):
                self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

        def on_train_end(self, args, state, control, **_):
            self.bar.close()

    return Bar()


def resume(trainer, checkpoint=None):
    """trainer.train, on from a checkpoint's folder if one is given.

    One progress bar stands in for the table of all losses.
    """
    from transformers.trainer_callback import PrinterCallback, ProgressCallback

    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, (PrinterCallback, ProgressCallback)) or (
            type(callback).__name__ == "NotebookProgressCallback"
        ):
            trainer.remove_callback(callback)
    bar = _bar()
    trainer.add_callback(bar)
    trainer.optimizer = trainer.lr_scheduler = (
        None  # what a stopped call left would go on with its moments
    )
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        trainer.remove_callback(bar)
        if hasattr(bar, "bar"):
            bar.bar.close()


def load_weights(model, checkpoint):
    """Put a checkpoint's adapter into the model, and nothing else of it."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    path = pathlib.Path(checkpoint) / "adapter_model.safetensors"
    set_peft_model_state_dict(model, load_file(path))


def load_finished(trainer, checkpoint):
    """Put a finished run's adapter, optimiser and history in place.

    (Resumed at its last step, the Trainer would train one more.)
    """
    from transformers import TrainerState

    checkpoint = pathlib.Path(checkpoint)
    if (checkpoint / "adapter_model.safetensors").exists():
        load_weights(trainer.model, checkpoint)
    else:
        trainer._load_from_checkpoint(str(checkpoint))
    trainer.create_optimizer()
    trainer.optimizer.load_state_dict(
        torch.load(
            checkpoint / "optimizer.pt", weights_only=True, map_location=trainer.model.device
        )
    )
    trainer.state = TrainerState.load_from_json(checkpoint / "trainer_state.json")


def settle_random_state(checkpoint):
    """Say it, if the random generators' state of a checkpoint is lost.

    A damaged file is put aside, for the Trainer would stop at it.
    """
    path = checkpoint / "rng_state.pth"
    reason = damage(path)
    if not reason:
        return
    if path.exists():
        path.rename(path.with_suffix(".damaged"))
    print(
        f"{reason} in {checkpoint.name}: the run goes on, with other random numbers (they decide "
        "dropout only)."
    )


def train(trainer, start_over=False):
    """Train up to `max_steps` (or `num_train_epochs`), on from the last whole checkpoint.

    Returns the step from which this call went on.

    A finished run is loaded, not trained again, unless `start_over`: then its checkpoints go and
    the adapter is as at the start. ValueError if the checkpoint was trained with other settings
    or rows; nothing is changed then. A checkpoint that is not whole is moved to the folder
    `passed-over`, where nothing deletes it. OSError if the disk is full.
    """
    folder, steps = pathlib.Path(trainer.args.output_dir), planned_steps(trainer)
    name_revision(trainer.model)
    first = _start.setdefault(
        trainer.model, {n: p.detach().clone() for n, p in training.trainable(trainer.model)}
    )
    if start_over:
        for path in numbered(folder):
            shutil.rmtree(path)
    last, flawed = find(folder)
    done, rows = int(last.name[11:]) if last else 0, fingerprint(trainer.train_dataset)
    if last and (other := differences(trainer, last, rows)):
        raise ValueError(
            f"{last.name} in {folder} was trained with other settings: {'; '.join(other)}. Going "
            "on would mix the two runs. "
            "Set them back and run this cell again, or give the new run another output_dir, or "
            "pass start_over=True, which "
            "deletes the checkpoints of this folder and trains from the start."
        )
    for path, reason in flawed:
        with disk(folder, "A folder"):
            kept = set_aside(path)
        print(f"{path.name} is passed over: {reason}. It is kept in {PASSED_OVER}/{kept.name}.")
    if done >= steps:
        print(f"finished before: {done} of {steps} steps (start_over=True trains again)")
        load_finished(trainer, last)
        return done
    if last is None:
        trainer.model.load_state_dict(first, strict=False)
    else:
        settle_random_state(last)
        if rows and damage(last / ROWS_FILE):
            print(
                f"{last.name} does not say which rows it was trained on, so they are not compared."
            )
    print(f"going on after step {done} of {steps}" if done else f"{steps} steps from the start")
    notes = _notes_rows(rows)
    trainer.add_callback(notes)
    began = time.perf_counter()
    try:
        with disk(folder, "A checkpoint", "The last whole checkpoint is kept. "):
            resume(trainer, last)
    finally:
        trainer.remove_callback(notes)
    print(f"took {time.perf_counter() - began:.1f} s")
    return done


# --- adapters -------------------------------------------------------------------------------------


def name_revision(model):
    """Write the commit of the hub at which the base was loaded into its adapters' configurations.

    A branch such as `main` may move. The commit in adapter_config.json keeps what the adapter was
    trained on, and peft's AutoPeftModelForCausalLM loads just that. Returns the commit, None for a
    base that does not come from the hub.
    """
    commit = getattr(model.config, "_commit_hash", None)  # transformers notes it when it loads
    for adapter in (getattr(model, "peft_config", None) or {}).values():
        adapter.revision = adapter.revision or commit
    return commit


def carried(model):
    """The names of the adapters that are already in a model's layers, as a list."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    names = set(getattr(model, "peft_config", None) or ())
    for module in model.modules():
        if isinstance(module, AuxiliaryTrainingWrapper):
            names |= set(getattr(module, "_adapters", ()) or ("default",))
        elif isinstance(module, BaseTunerLayer):
            names |= {n for part in module.adapter_layer_names for n in getattr(module, part, ())}
    return sorted(names)


def expected_shapes(model, config):
    """What peft would save for this adapter on this base: two dicts {key: shape}.

    The first holds what the file must hold, the second what it may: embeddings and head too. They
    come from a copy of the base that holds no numbers.
    """
    from peft import get_peft_model, get_peft_model_state_dict

    config = copy.deepcopy(config)
    config.init_lora_weights = False  # some starts compute on the base's weights
    with torch.device("meta"):
        skeleton = get_peft_model(type(model)(copy.deepcopy(model.config)), config)
    return [
        {
            key: list(value.shape)
            for key, value in get_peft_model_state_dict(
                skeleton, save_embedding_layers=embeddings
            ).items()
        }
        for embeddings in (False, True)
    ]


def misfit(model, config, shapes):
    """Why the tensors of an adapter's file do not fit this base, with what to do; "" if they do.

    `shapes` is {key: shape}.
    """
    try:
        must, may = expected_shapes(model, config)
    except ValueError as error:  # peft's own words, such as that no layer has the name of a target
        return f"{str(error).splitlines()[0]} Load the base that the adapter was trained on."
    except Exception:  # noqa: BLE001 - a base that no configuration makes: peft alone decides
        return ""
    tokens = model.get_input_embeddings().weight.shape[0]
    names = [
        n
        for n, m in model.named_modules()
        if m is model.get_input_embeddings() or m is model.get_output_embeddings()
    ]
    for key, shape in shapes.items():
        if any(name in key for name in names) and tokens in may.get(key, ()) and shape != may[key]:
            theirs = shape[may[key].index(tokens)]
            remedy = (
                "Add the same tokens to the tokenizer, call "
                f"base.resize_token_embeddings({theirs}), "
                "and load again."
                if theirs > tokens
                else "Load the base again, without the tokens that were added to it."
            )
            return (
                f"the adapter's vocabulary has {theirs:,} tokens and the base's {tokens:,} "
                f"({key}). "
                f"{remedy}"
            )
    odd = [f"{key} {shape}" for key, shape in shapes.items() if shape != may.get(key)]
    if odd:
        return (
            f"{len(odd)} of {len(shapes)} tensors do not fit it, such as {odd[0]}. Load the "
            "base that the adapter was trained on."
        )
    lost = [key for key in must if key not in shapes]
    if lost:
        return (
            f"{len(lost)} of {len(must)} tensors are not in its file, such as {lost[0]}. Save the "
            "adapter again with "
            "model.save_pretrained."
        )
    return ""


def load_adapter(model, folder, any_base=False, is_trainable=False):
    """The model with the LoRA adapter saved in `folder`.

    Errors name the file, what is wrong with it and what to do.

    Whatever peft saves for LoRA is loaded as peft loads it: DoRA, trained embeddings or head
    (modules_to_save), GPT-2's Conv1D. FileNotFoundError if something is missing, ValueError if
    it is damaged, belongs to another base, or the base already carries an adapter; the model is
    then as before. `any_base=True` accepts a base of another name, if the shapes fit.
    """
    from peft import LoraConfig, PeftModel
    from safetensors import safe_open

    folder = pathlib.Path(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if reason := damage(folder / name):
            pickled = (folder / "adapter_model.bin").exists()
            more = (
                " There is an adapter_model.bin, a pickle: it can run code, so it is not read."
                if pickled
                else ""
            )
            raise (FileNotFoundError if "missing" in reason else ValueError)(
                f"No adapter can be loaded from {folder}: {reason}.{more} Give the folder that "
                "model.save_pretrained wrote, or save it again."
            )
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(
            f"{folder}: adapter_config.json does not describe a LoRA adapter. Load it with "
            "peft.PeftModel.from_pretrained."
        )
    if names := carried(model):
        raise ValueError(
            f"The adapter in {folder} is not loaded: this base already carries an adapter "
            f"({', '.join(names)}). A second one in the "
            "same layers would change what the first model answers. Load the base again for it, "
            "or keep several on one base by "
            'name, with peft: model.load_adapter(folder, adapter_name="second") and '
            'model.set_adapter("second").'
        )
    made_on, here = (
        _short(name) for name in (config.get("base_model_name_or_path"), model.config._name_or_path)
    )
    about = (
        f"The adapter in {folder} was trained on {made_on or 'a base without a name'}, and this "
        f"base is {here or 'one without a name'}"
    )
    if (made_on != here or not made_on) and not any_base:
        raise ValueError(
            f"{about}. Load {made_on or 'the base that it was trained on'}, or pass any_base=True "
            "if the two are the same model."
        )
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    if reason := misfit(model, LoraConfig.from_pretrained(folder), shapes):
        raise ValueError(f"{about}: {reason}")
    return bases.settle_four_bit(
        PeftModel.from_pretrained(model, folder, is_trainable=is_trainable)
    ).eval()
