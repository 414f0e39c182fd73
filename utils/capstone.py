"""Lesson 13's run: settings for each base, checks before it, a training call that survives being killed, adapters read with care.

No library that Unsloth has to come before is imported at the top, so this module may stand above `import unsloth`.
"""
import atexit
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import re
import shutil
import tempfile
import weakref
import zipfile

import torch

from . import bases, colab, memory, training

STATE_FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
_start = weakref.WeakKeyDictionary()  # model -> its trainable weights when `train` first saw it


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run. The defaults are those of Unsloth's published Mistral-7B notebook; a smaller base changes what it must."""
    base: str
    batch: int = 2                # rows in one pass
    accumulation: int = 4         # passes in one optimiser step
    steps: int = 60
    lr: float = 2e-4
    warmup: int = 5
    max_length: int = 2048        # tokens of the longest row
    rank: int = 16
    alpha: int = 16
    checkpointing: object = "unsloth"
    seed: int = 3407
    save_every: int = 10
    test_rows: int = 100          # held-out rows that are scored
    eval_batch: int = 4
    new_tokens: int = 128         # longest answer


OF_BASE = {"pocket-xs": {}, "pocket-s": {}, "pocket-m": {}}
POCKET = dict(batch=8, accumulation=1, steps=150, lr=1e-2, max_length=256, checkpointing=False, save_every=25, test_rows=312, eval_batch=100, new_tokens=48)


def settings(base=None):
    """The `Settings` for a base (its name, or the chosen one)."""
    name = bases.chosen(base).name
    return Settings(name, **({**POCKET, **OF_BASE[name]} if name in OF_BASE else {}))


def source(base=None):
    """Where FastLanguageModel finds the base: model_name, and for one of the hub the revision."""
    where = dict(bases.source(bases.chosen(base)))
    return {"model_name": where.pop("pretrained_model_name_or_path"), **where}


def precision():
    """SFTConfig's two switches: fp16 on a card below compute capability 8.0, bf16 from it, neither on a CPU."""
    return {"fp16": bases.dtype() == torch.float16, "bf16": bases.dtype() == torch.bfloat16}


def machine():
    """What this machine is and what is skipped on it, in one or two sentences."""
    if not torch.cuda.is_available():
        return ("No CUDA card: everything runs in float32 on Unsloth's CPU backend. Skipped here, because they need a card: the "
                "Triton kernels, the 8-bit optimiser (plain AdamW takes its place), and the timing of claim 44.")
    card = torch.cuda.get_device_properties(0)
    return (f"{card.name}, compute capability {card.major}.{card.minor}, {card.total_memory / 2**30:.2f} GiB: 16-bit values are "
            f"{str(bases.dtype()).removeprefix('torch.')}. Nothing is skipped.")


def preflight(s):
    """The memory plan of the run, before anything is loaded; on a card that is too small it refuses (memory.DoesNotFit)."""
    from transformers import AutoConfig
    base, cuda = bases.chosen(s.base), torch.cuda.is_available()
    shape = "mistral-7b-v0.3" if base.name == "mistral" else memory.from_transformers(AutoConfig.from_pretrained(**bases.source(base)), base.name)
    planned = memory.plan(shape, rank=s.rank, batch=s.batch, length=s.max_length, dtype=str(bases.dtype()).removeprefix("torch."),
                          optimizer="adamw_8bit" if cuda else "adamw", checkpointing=s.checkpointing)
    if cuda:
        memory.refuse_if_too_small(planned, torch.cuda.mem_get_info()[0])
    return planned


@contextlib.contextmanager
def hushed(base=None):
    """Keep Unsloth's banners out of the page, and say plainly when a base of the hub could not be fetched."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (OSError, RuntimeError) as error:
        if bases.chosen(base).hub is None or not re.search(r"connect|offline|internet|resolve|cached", str(error), re.IGNORECASE):
            raise
        raise OSError(f"The base {bases.chosen(base).hub} could not be fetched: {str(error).splitlines()[0]}\nCheck the network and run the "
                      "cell again, or set BASE = \"pocket\" in the set-up cell: that base is in the repository.") from error


@contextlib.contextmanager
def float32_adapter(model):
    """Keep the adapter in float32 while a trainer is made: TRL 1.12 casts what trains beside a 4-bit base to bfloat16, on any machine.

    bfloat16 has 8 bits of precision, too few for a weight to which small steps are added, and a T4 has no bfloat16 at all.
    """
    kept = {n: p.detach().float().clone() for n, p in training.trainable(model)}
    yield
    for name, parameter in training.trainable(model):
        parameter.data = kept[name]


def run_folder(s, rows):
    """Where checkpoints of this very run go: on Drive in Colab. Other settings or rows get another folder.

    A run whose outputs are stored or compared must begin at the beginning, so it gets a new folder that goes away with it.
    """
    if training.quiet():
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lesson13-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    key = hashlib.sha256(json.dumps([dataclasses.asdict(s), rows], sort_keys=True).encode()).hexdigest()[:8]
    folder = colab.checkpoint_folder("13") / f"{s.base}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
        whole = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else zipfile.is_zipfile(path)
    except Exception as error:
        return f"{path.name} is damaged or cut off ({path.stat().st_size:,} bytes; {type(error).__name__})"
    return "" if whole else f"{path.name} is damaged or cut off ({path.stat().st_size:,} bytes)"


def peak():
    """What the card's allocator reserved at most, or that there is no card."""
    if not torch.cuda.is_available():
        return "No card: the allocator's peak is not measured here."
    return f"the allocator reserved {torch.cuda.max_memory_reserved() / 2**30:.3f} GiB measured"


def speed():
    """Claim 44 in one sentence: what data/results holds of a card, or that nothing was measured."""
    return "Not measured yet on a GPU here, and a CPU runs none of the kernels."


def last_checkpoint(folder):
    """Path of the last checkpoint that is whole, or None. One that a kill left half written is named and passed over."""
    found = [p for p in pathlib.Path(folder).glob("checkpoint-*") if p.name[11:].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name[11:]), reverse=True):
        reason = next(filter(None, (damage(path / name) for name in STATE_FILES)), "")
        if not reason:
            return path
        print(f"{path.name} is passed over: {reason}.")
    return None


def silent_train(trainer, checkpoint=None):
    """trainer.train, on from a checkpoint's folder if one is given, and with nothing printed where outputs are stored."""
    from transformers.trainer_callback import PrinterCallback
    if training.quiet():
        trainer.remove_callback(PrinterCallback)
    trainer.optimizer = trainer.lr_scheduler = None  # what a stopped call left would go on with its moments
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def load_finished(trainer, checkpoint):
    """Put a finished run's adapter, optimiser and history in place. (Resumed at its last step, the Trainer would train one more.)"""
    from safetensors.torch import load_file
    from peft import set_peft_model_state_dict
    from transformers import TrainerState
    set_peft_model_state_dict(trainer.model, load_file(checkpoint / "adapter_model.safetensors"))
    trainer.create_optimizer()
    trainer.optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location=trainer.model.device))
    trainer.state = TrainerState.load_from_json(checkpoint / "trainer_state.json")


def train(trainer, start_over=False):
    """Train up to `max_steps`, on from the last whole checkpoint; returns the step from which this call went on.

    A finished run is loaded, not trained again, unless `start_over`: then its checkpoints go and the adapter is as at the start.
    """
    folder, steps = pathlib.Path(trainer.args.output_dir), trainer.args.max_steps
    first = _start.setdefault(trainer.model, {n: p.detach().clone() for n, p in training.trainable(trainer.model)})
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
    try:
        silent_train(trainer, last)
    except (OSError, RuntimeError) as error:
        if not re.search(r"No space left|failed writing file|unexpected pos", str(error)):
            raise
        raise OSError(f"A checkpoint could not be written: the disk of {folder} is full. The last whole checkpoint is kept. Free some "
                      "space (on Drive, empty the bin too), then run this cell again.") from error
    return done


def _fits(model, key, shape):
    """Does a tensor of a LoRA file fit the base's layer of that name? A is [rank, d_in], B is [d_out, rank]."""
    found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
    layer = dict(model.named_modules()).get(found[1]) if found else None
    return layer is not None and (shape[1] == layer.in_features if found[2] == "A" else shape[0] == layer.out_features)


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
            pickled = " There is an adapter_model.bin, a pickle: it can run code, so it is not read." if (folder / "adapter_model.bin").exists() else ""
            raise (FileNotFoundError if "missing" in reason else ValueError)(
                f"No adapter can be loaded from {folder}: {reason}.{pickled} Give the folder that model.save_pretrained wrote, or save it again.")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: adapter_config.json does not describe a LoRA adapter. Load it with peft.PeftModel.from_pretrained.")
    names = ["/".join(pathlib.PurePath(str(n)).parts[-2:]) for n in (config.get("base_model_name_or_path"), model.config._name_or_path)]
    about = f"The adapter in {folder} was trained on {names[0]}, and this base is {names[1]}"
    if names[0] != names[1] and not any_base:
        raise ValueError(f"{about}. Load {names[0]} instead, or pass any_base=True if the two are the same model under two names.")
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
    odd = [f"{key} {shape}" for key, shape in shapes.items() if not _fits(model, key, shape)]
    if odd:
        raise ValueError(f"{about}: {len(odd)} of {len(shapes)} tensors do not fit it, such as {odd[0]}. Load the base that the adapter was trained on.")
    return bases.settle_four_bit(PeftModel.from_pretrained(model, folder, is_trainable=is_trainable)).eval()
