"""Lesson 13's run: settings for each base, what this machine is, what the run will need, and a quiet Unsloth.

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

import torch

from . import bases, colab, memory, training


@dataclasses.dataclass(frozen=True)
class Settings:
    """One run. The defaults are those of Unsloth's published Mistral-7B notebook; a smaller base changes what it must."""

    base: str
    batch: int = 2  # rows in one pass
    accumulation: int = 4  # passes in one optimiser step
    steps: int = 60
    lr: float = 2e-4
    warmup: int = 5
    max_length: int = 2048  # tokens of the longest row
    rank: int = 16
    alpha: int = 16
    checkpointing: object = "unsloth"
    seed: int = 3407
    save_every: int = 10
    test_rows: int = 100  # held-out rows that are scored before and after
    validation_rows: int = 200  # rows that decide the rate
    eval_batch: int = 4
    new_tokens: int = 128  # longest answer


SMALL = dict(batch=8, accumulation=1, max_length=256, checkpointing=False, new_tokens=48)
POCKET = dict(**SMALL, steps=150, lr=5e-3, save_every=25, test_rows=100, eval_batch=100)
OF_BASE = {
    "pocket-xs": POCKET,
    "pocket-s": POCKET,
    "pocket-m": POCKET,
    "smollm": dict(
        **SMALL, steps=40, lr=1e-3, save_every=10, test_rows=40, validation_rows=40, eval_batch=20
    ),
}


def settings(base=None):
    """The `Settings` for a base (its name, or the chosen one)."""
    name = bases.chosen(base).name
    return Settings(name, **OF_BASE.get(name, {}))


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
        return (
            "No CUDA card: everything runs in float32 on Unsloth's CPU backend. Skipped here, because they need a card: the "
            "Triton kernels, the 8-bit optimiser (plain AdamW takes its place), and the timing of claim 44."
        )
    card = torch.cuda.get_device_properties(0)
    return (
        f"{card.name}, compute capability {card.major}.{card.minor}, {card.total_memory / 2**30:.2f} GiB: 16-bit values are "
        f"{str(bases.dtype()).removeprefix('torch.')}. Nothing is skipped."
    )


def preflight(s):
    """The memory plan of the run, before anything is loaded; on a card that is too small it refuses (memory.DoesNotFit)."""
    from transformers import AutoConfig

    base, cuda = bases.chosen(s.base), torch.cuda.is_available()
    shape = "mistral-7b-v0.3"
    if base.name != "mistral":
        shape = memory.from_transformers(
            AutoConfig.from_pretrained(**bases.source(base)), base.name
        )
    planned = memory.plan(
        shape,
        rank=s.rank,
        batch=s.batch,
        length=s.max_length,
        dtype=str(bases.dtype()).removeprefix("torch."),
        optimizer="adamw_8bit" if cuda else "adamw",
        checkpointing=s.checkpointing,
    )
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
        hub = bases.chosen(base).hub
        if hub is None or not re.search(
            r"connect|offline|internet|resolve|cached", str(error), re.IGNORECASE
        ):
            raise
        raise OSError(
            f"The base {hub} could not be fetched: {str(error).splitlines()[0]}\nCheck the network and run the cell again, or set "
            'BASE = "pocket" in the set-up cell: that base is in the repository.'
        ) from error


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
    key = hashlib.sha256(
        json.dumps([dataclasses.asdict(s), rows], sort_keys=True).encode()
    ).hexdigest()[:8]
    folder = colab.checkpoint_folder("13") / f"{s.base}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def reserved():
    """GiB that the card's allocator holds now; 0.0 without a card."""
    return torch.cuda.memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0


def peak(loaded):
    """What the card's allocator held after loading (GiB, from `reserved`) and at most, as a sentence."""
    if not torch.cuda.is_available():
        return "No card: the allocator's peak is not measured here."
    return f"reserved after loading {loaded:.3f} GiB measured, at the peak {torch.cuda.max_memory_reserved() / 2**30:.3f} GiB measured"
