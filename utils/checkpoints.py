"""Checkpoints and adapters read with care: a run that survives being killed, and clear words about a file that is not whole.

step = train(trainer)                # goes on from the last whole checkpoint, or begins
model = load_adapter(base, folder)   # or says which file is wrong, why, and what to do
"""

import json
import pathlib
import re
import shutil
import time
import weakref
import zipfile

import torch

from . import bases, training

STATE_FILES = (
    "adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
_start = weakref.WeakKeyDictionary()  # model -> its trainable weights when `train` first saw it


def damage(path):
    """Why a safetensors, torch or JSON file cannot be used ("" if it can): missing, cut off, or not what its name says."""
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
    except Exception as error:
        return f"{path.name} is damaged or cut off ({path.stat().st_size:,} bytes; {type(error).__name__})"
    return "" if whole else f"{path.name} is damaged or cut off ({path.stat().st_size:,} bytes)"


def last_checkpoint(folder):
    """Path of the last checkpoint that is whole, or None. One that a kill left half written is named and passed over."""
    found = [p for p in pathlib.Path(folder).glob("checkpoint-*") if p.name[11:].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name[11:]), reverse=True):
        reason = next(filter(None, (damage(path / name) for name in STATE_FILES)), "")
        if not reason:
            return path
        print(f"{path.name} is passed over: {reason}.")
    return None


def resume(trainer, checkpoint=None):
    """trainer.train, on from a checkpoint's folder if one is given, and with nothing printed where outputs are stored."""
    from transformers.trainer_callback import PrinterCallback

    if training.quiet():
        trainer.remove_callback(PrinterCallback)
    trainer.optimizer = trainer.lr_scheduler = (
        None  # what a stopped call left would go on with its moments
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def load_finished(trainer, checkpoint):
    """Put a finished run's adapter, optimiser and history in place. (Resumed at its last step, the Trainer would train one more.)"""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import TrainerState

    set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
    trainer.create_optimizer()
    trainer.optimizer.load_state_dict(
        torch.load(
            checkpoint / "optimizer.pt", weights_only=True, map_location=trainer.model.device
        )
    )
    trainer.state = TrainerState.load_from_json(checkpoint / "trainer_state.json")


def train(trainer, start_over=False):
    """Train up to `max_steps`, on from the last whole checkpoint; returns the step from which this call went on.

    A finished run is loaded, not trained again, unless `start_over`: then its checkpoints go and the adapter is as at the start.
    """
    folder, steps = pathlib.Path(trainer.args.output_dir), trainer.args.max_steps
    first = _start.setdefault(
        trainer.model, {n: p.detach().clone() for n, p in training.trainable(trainer.model)}
    )
    for path in folder.glob("checkpoint-*") if start_over else ():
        shutil.rmtree(path)
    last = last_checkpoint(folder)
    done = int(last.name[11:]) if last else 0
    if done >= steps:
        print(f"finished before: {done} of {steps} steps (start_over=True trains again)")
        load_finished(trainer, last)
        return done
    if last is None:
        trainer.model.load_state_dict(first, strict=False)
    print(f"going on after step {done} of {steps}" if done else f"{steps} steps from the start")
    began = time.perf_counter()
    try:
        resume(trainer, last)
    except (OSError, RuntimeError) as error:
        if not re.search(r"No space left|failed writing file|unexpected pos", str(error)):
            raise
        raise OSError(
            f"A checkpoint could not be written: the disk of {folder} is full. The last whole checkpoint is kept. Free some "
            "space (on Drive, empty the bin too), then run this cell again."
        ) from error
    print(f"took {time.perf_counter() - began:.1f} s")
    return done


def _fits(model, key, shape):
    """Does a tensor of a LoRA file fit the base's layer of that name? A is [rank, d_in], B is [d_out, rank]."""
    found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
    layer = dict(model.named_modules()).get(found[1]) if found else None
    return layer is not None and (
        shape[1] == layer.in_features if found[2] == "A" else shape[0] == layer.out_features
    )


def load_adapter(model, folder, any_base=False, is_trainable=False):
    """The model with the LoRA adapter saved in `folder`; errors name the file, what is wrong with it and what to do.

    FileNotFoundError if something is missing, ValueError if it is damaged or belongs to another base; the model is then as before.
    `any_base=True` accepts a base of another name, if the shapes fit.
    """
    from peft import PeftModel
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
                f"No adapter can be loaded from {folder}: {reason}.{more} Give the folder that model.save_pretrained wrote, or save it again."
            )
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(
            f"{folder}: adapter_config.json does not describe a LoRA adapter. Load it with peft.PeftModel.from_pretrained."
        )
    names = (config.get("base_model_name_or_path"), model.config._name_or_path)
    made_on, here = (
        "/".join(pathlib.PurePath(str(name)).parts[-2:]) for name in names
    )  # pocket/s, wherever the repository lies
    about = f"The adapter in {folder} was trained on {made_on}, and this base is {here}"
    if made_on != here and not any_base:
        raise ValueError(
            f"{about}. Load {made_on} instead, or pass any_base=True if the two are the same model under two names."
        )
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
    odd = [f"{key} {shape}" for key, shape in shapes.items() if not _fits(model, key, shape)]
    if odd:
        raise ValueError(
            f"{about}: {len(odd)} of {len(shapes)} tensors do not fit it, such as {odd[0]}. "
            "Load the base that the adapter was trained on."
        )
    return bases.settle_four_bit(
        PeftModel.from_pretrained(model, folder, is_trainable=is_trainable)
    ).eval()
