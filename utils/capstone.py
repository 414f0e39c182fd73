"""Lesson 13's run: its settings, what this machine is, what the run will need, and a quiet Unsloth.

No library that Unsloth has to come before is imported at the top, so this module may stand above
`import unsloth`.
"""

import atexit
import contextlib
import dataclasses
import hashlib
import io
import json
import pathlib
import random
import re
import shutil
import sys
import tempfile

import torch

from . import bases, checkpoints, colab, memory, training


@dataclasses.dataclass
class Settings:
    """One run. The defaults are those of Unsloth's published Mistral-7B notebook.

    A smaller base changes what it must. Every value may be changed at any time: `s.steps = 300`.
    """

    base: str
    model: str | None = None  # a model of one's own, folder or hub id, instead of the base
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
    validation_rows: int = 200  # rows that decide the learning rate
    eval_batch: int = 4
    new_tokens: int = 128  # longest answer

    def __str__(self):
        name = self.model or self.base
        return (
            f"{name}: {self.steps} steps of {self.batch} x {self.accumulation} rows, learning rate "
            f"{self.lr:g}, warm-up {self.warmup} steps, rank {self.rank}, alpha {self.alpha}, rows "
            f"of up to {self.max_length:,} tokens"
        )

    def save_steps(self):
        """Steps between two checkpoints, so that a short run has two of them as well."""
        return max(1, min(self.save_every, self.steps // 2))


SMALL = {
    "batch": 8,
    "accumulation": 1,
    "max_length": 256,
    "checkpointing": False,
    "new_tokens": 48,
}
POCKET = {**SMALL, "steps": 150, "lr": 5e-3, "save_every": 25, "eval_batch": 100}
SMOLLM = {
    **SMALL,
    "steps": 40,
    "lr": 1e-3,
    "test_rows": 40,
    "validation_rows": 40,
    "eval_batch": 20,
}
OF_BASE = {"pocket-xs": POCKET, "pocket-s": POCKET, "pocket-m": POCKET, "smollm": SMOLLM}


def settings(base=None, model=None, pocket=None, smollm=None, mistral=None, **all_bases):
    """The `Settings` for a base (its name, or the chosen one).

    `pocket`, `smollm` and `mistral` are dicts with values for these bases, `all_bases` values for
    every base; what neither names keeps its default. `model` is a folder or a hub id to take
    instead of the base. TypeError names a value that no run has.
    """
    name = bases.chosen(base).name
    family = {"smollm": smollm, "mistral": mistral}.get(name, pocket)
    given = {**OF_BASE.get(name, {}), **all_bases, **(family or {})}
    known = {field.name for field in dataclasses.fields(Settings)}
    if unknown := sorted(set(given) - known):
        raise TypeError(
            f"There is no setting {unknown[0]!r}. There are: {', '.join(sorted(known))}."
        )
    return Settings(name, model, **given)


def source(s=None):
    """Where FastLanguageModel finds the model: model_name, and for a base of the hub the revision.

    `s` is a `Settings`, a base's name, or None for the chosen base. FileNotFoundError if a model of
    one's own is neither a folder with a model in it nor a possible id of the hub.
    """
    if isinstance(s, Settings) and s.model:
        folder = pathlib.Path(s.model)
        if folder.is_dir() and not (folder / "config.json").exists():
            raise FileNotFoundError(
                f"{s.model} is a folder without a config.json, so no model can be loaded from it. "
                "Give the folder that model.save_pretrained wrote."
            )
        if not folder.is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(s.model)):
            raise FileNotFoundError(
                f"There is no folder {s.model}, and an id of the hub has the form owner/name."
            )
        return {"model_name": str(s.model)}
    base = s.base if isinstance(s, Settings) else s
    where = dict(bases.source(bases.chosen(base)))
    return {"model_name": where.pop("pretrained_model_name_or_path"), **where}


def precision():
    """SFTConfig's two switches: fp16 on a card below capability 8.0, bf16 from it, neither on a CPU."""
    return {"fp16": bases.dtype() == torch.float16, "bf16": bases.dtype() == torch.bfloat16}


def machine():
    """What this machine is and what is skipped on it, in one or two sentences."""
    if not torch.cuda.is_available():
        return (
            "No CUDA card: everything runs in float32 on Unsloth's CPU backend. Skipped here, "
            "because they need a card: the Triton kernels, the 8-bit optimiser (plain AdamW takes "
            "its place), and the timing of claim 44."
        )
    card = torch.cuda.get_device_properties(0)
    return (
        f"{card.name}, compute capability {card.major}.{card.minor}, "
        f"{card.total_memory / 2**30:.2f} GiB: 16-bit values are "
        f"{str(bases.dtype()).removeprefix('torch.')}. Nothing is skipped."
    )


def preflight(s):
    """The memory plan of the run, before anything is loaded; None for a model that cannot be planned.

    On a card that is too small it refuses (memory.DoesNotFit). For a model that the planner does not
    know, the reason is printed.
    """
    from transformers import AutoConfig

    cuda, shape, stored = torch.cuda.is_available(), "mistral-7b-v0.3", None
    if s.model or s.base != "mistral":
        where = source(s)
        with hushed(s):
            config = AutoConfig.from_pretrained(where.pop("model_name"), **where)
        if not cuda and getattr(config, "quantization_config", None):
            stored = "float16"  # what is saved in 4 bits was quantised from 16
        try:
            shape = memory.from_transformers(config, s.model or s.base)
        except ValueError as error:
            print(f"No plan for this model: {error}")
            return None
    planned = memory.plan(
        shape,
        rank=s.rank,
        batch=s.batch,
        length=s.max_length,
        dtype=str(bases.dtype()).removeprefix("torch."),
        optimizer="adamw_8bit" if cuda else "adamw",
        checkpointing=s.checkpointing,
        stored=stored,
        unsloth=True,
    )
    if cuda:
        memory.refuse_if_too_small(planned, torch.cuda.mem_get_info()[0])
    return planned


def _no_bars():
    """Switch off the progress bars of loading and of mapping rows (the hub's downloads keep theirs)."""
    for name in ("transformers.utils.logging", "datasets.utils.logging"):
        if module := sys.modules.get(name):
            module.disable_progress_bar()


@contextlib.contextmanager
def hushed(s=None):
    """Keep Unsloth's banners and progress bars off the page.

    An error says plainly when a model of the hub could not be fetched, or when the disk is full. `s`
    is a `Settings`, a base's name, or None for the chosen base.
    """
    _no_bars()
    own = s.model if isinstance(s, Settings) else None
    try:
        with (
            checkpoints.disk("this machine", "The model"),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            yield
    except (OSError, RuntimeError) as error:
        hub = own or bases.chosen(s.base if isinstance(s, Settings) else s).hub
        if hub is None or not re.search(
            r"connect|offline|internet|resolve|cached|not a valid model identifier",
            str(error),
            re.IGNORECASE,
        ):
            raise
        other = (
            "set MODEL to a folder on this machine"
            if own
            else 'set BASE = "pocket" in the set-up cell: that base is in the repository'
        )
        raise OSError(
            f"The base {hub} could not be fetched: {str(error).splitlines()[0]}\nCheck the name and "
            f"the network and run the cell again, or {other}."
        ) from error


@contextlib.contextmanager
def float32_adapter(model):
    """Keep the adapter in float32 while a trainer is made.

    TRL 1.12 casts what trains beside a 4-bit base to bfloat16, on any machine. bfloat16 has 8 bits
    of precision, too few for a weight to which small steps are added, and a T4 has no bfloat16.
    """
    kept = {n: p.detach().float().clone() for n, p in training.trainable(model)}
    yield
    for name, parameter in training.trainable(model):
        parameter.data = kept[name]


def split(rows, s):
    """{"train", "validation", "test"} of checked rows; each split once, and the trainer gets "train".

    The course's training rows have validation and test rows of their own. Any other rows are split
    by question, so that no question (instruction and input) stands in two parts: a tenth each for
    validation and test, at most as many as the settings ask for. ValueError if there are fewer than
    three questions.
    """
    from . import instructions

    course = {_question(row) for row in instructions.load("train", s.base)}
    if all(_question(row) in course for row in rows):
        parts = {name: instructions.load(name, s.base) for name in ("validation", "test")}
        parts = {name: part[: getattr(s, f"{name}_rows")] for name, part in parts.items()}
        return {"train": list(rows), **parts}
    questions = sorted({_question(row) for row in rows})
    if len(questions) < 3:
        raise ValueError(
            f"{len(questions)} different questions are too few: training, validation and test need "
            "one each. Add rows to your file."
        )
    random.Random(s.seed).shuffle(questions)
    tenth = max(1, len(questions) // 10)
    held = {
        "validation": set(questions[: min(tenth, s.validation_rows)]),
        "test": set(questions[tenth : tenth + min(tenth, s.test_rows)]),
    }
    parts = {name: [r for r in rows if _question(r) in part] for name, part in held.items()}
    both = held["validation"] | held["test"]
    return {"train": [row for row in rows if _question(row) not in both], **parts}


def _question(row):
    """What a row asks, with case and white space evened out."""
    return " ".join(f"{row['instruction']} {row.get('input') or ''}".lower().split())


def run_folder(s, rows):
    """Where the checkpoints of this very run go: on Drive in Colab. Other settings or rows get another.

    A run whose outputs are stored or compared must begin at the beginning, so it gets a new folder
    that goes away with it.
    """
    if training.quiet():
        folder = pathlib.Path(tempfile.mkdtemp(prefix="lesson13-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    run = json.dumps([dataclasses.asdict(s), rows], sort_keys=True, default=str)
    name = re.sub(r"\W+", "-", pathlib.PurePath(s.model).name) if s.model else s.base
    with checkpoints.disk("the checkpoints", "A folder"):
        folder = colab.checkpoint_folder("13")
        folder = folder / f"{name}-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def reserved():
    """GiB that the card's allocator holds now; 0.0 without a card."""
    return torch.cuda.memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0


def peak(loaded):
    """What the card's allocator held after loading (GiB, from `reserved`) and at most, a sentence."""
    if not torch.cuda.is_available():
        return "No card: the allocator's peak is not measured here."
    return (
        f"reserved after loading {loaded:.3f} GiB measured, at the peak "
        f"{torch.cuda.max_memory_reserved() / 2**30:.3f} GiB measured"
    )
