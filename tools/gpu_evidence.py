"""What only a CUDA card can show; writes data/results/gpu-NAME.json. No network is needed.

    python -m tools.gpu_evidence                 # all parts, each under eight minutes; goes on where it was stopped
    python -m tools.gpu_evidence speed by-hand   # some of them
    python -m tools.gpu_evidence --dry-run       # a tiny model on the CPU: the same code, no evidence

Parts: `capstone`, lesson 13 on the pocket base through Unsloth's path for cards; `speed`, Mistral-7B v0.3 by its configuration with
random weights (speed and memory do not depend on their values) in NF4, under a T4's 14.748 GiB, Unsloth against transformers + peft +
TRL; `by-hand`, the lessons' layers against peft in 16 bits; `leaderboard`, rows of `smollm`. Every finding is written as soon as it
is there, and a finding that is there is not made again. A model is loaded in a process of its own, since importing Unsloth changes
transformers for good.
"""

import argparse
import itertools
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

import torch

from utils import DATA, ROOT, bases, methods, results, training

T4_GIB, GIB = 14.748, 2**30  # what a T4 shows of its 16 GB (Unsloth's stored output)
WORK = ROOT / "build" / "gpu"
STACKS, DTYPES = ("unsloth", "transformers"), ("float16", "bfloat16")
CAPSTONE = (
    2,
    4,
    2048,
)  # rows, accumulation, tokens a row: the capstone's settings at their longest
SWEEP = tuple(
    (batch, 1, length) for length, batch in itertools.product((512, 1024, 2048), (1, 2, 4, 8))
)
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Findings:
    """gpu-NAME.json: a row a finding, written at once, found again by its settings."""

    def __init__(self, name, folder=DATA / "results"):
        self.name, self.path = f"gpu-{name}", folder / f"gpu-{name}.json"
        self.rows = (
            json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.exists() else []
        )

    def add(self, row):
        self.rows.append(row)
        results.save(
            self.name,
            self.rows,
            {
                "card": card(),
                "memory_cap_gib": T4_GIB,
                "weights": "random, by the configuration",
                "rank": 16,
                "alpha": 16,
                "optimizer": "adamw_8bit",
                "quantisation": "NF4, double",
            },
            self.path.parent,
        )
        print({k: v for k, v in row.items() if k != "report"}, flush=True)

    def has(self, **key):
        return bool(results.select(self.rows, **key))


def card():
    """The card and its driver's CUDA, or the processor in a dry run."""
    if not torch.cuda.is_available():
        return {"name": results.processor(), "cuda": None}
    p = torch.cuda.get_device_properties(0)
    return {
        "name": p.name,
        "capability": f"{p.major}.{p.minor}",
        "memory_gib": round(p.total_memory / GIB, 3),
        "cuda": torch.version.cuda,
    }


def short_name():
    """The card's name for a file: "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", card()["name"].lower()).strip("-")


def cap_memory(gib=T4_GIB):
    """Let this process have no more of the card than a T4 would give."""
    if torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, gib * GIB / torch.cuda.get_device_properties(0).total_memory)
        )


# --- lesson 13 ----------------------------------------------------------------------------------------------------------


def capstone(findings, dry):
    """The whole lesson on the pocket base, in a kernel of its own."""
    if findings.has(part="capstone"):
        return
    from tools import notebooks

    path = notebooks.find("13")
    import nbformat

    notebook = nbformat.read(path, 4)
    if dry:  # the lesson itself is run by nbval; here only its set-up and its first cells
        notebook.cells = notebook.cells[:4]
    seconds, peak = notebooks.execute(notebook, path.parent, closed=False, timeout=480)
    said = [
        notebooks.output_text(o) for c in notebook.cells if c.cell_type == "code" for o in c.outputs
    ]
    findings.add(
        {
            "part": "capstone",
            "base": "pocket-s",
            "seconds": round(seconds, 1),
            "peak_mib": peak,
            "report": [
                line for text in said for line in text.splitlines() if line and "<" not in line
            ],
        }
    )


# --- speed and memory of a 7B base --------------------------------------------------------------------------------------


def configuration(dry):
    """Mistral-7B v0.3's configuration, or a tiny one of the same kind."""
    from transformers import MistralConfig

    tiny = dict(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return MistralConfig(
        vocab_size=32768,
        max_position_embeddings=32768,
        rope_theta=1e6,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **(tiny if dry else {}),
    )


def make_checkpoint(dry):
    """A folder with random 16-bit weights of that configuration and Mistral's own tokenizer, quantised as it is loaded."""
    folder = WORK / ("tiny" if dry else "mistral-7b-v0.3-random")
    if (folder / "done").exists():
        return folder
    from safetensors.torch import save_file
    from transformers import MistralForCausalLM

    config = configuration(dry)
    with torch.device("meta"):
        empty = MistralForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    where, parts, index = bases.device(), {}, {}
    for name, tensor in empty.state_dict().items():
        key = re.search(r"layers\.(\d+)\.", name)
        parts.setdefault(f"layer-{int(key[1]):02d}" if key else "rest", {})[name] = tensor
    for part, tensors in parts.items():
        made = {
            n: torch.ones(t.shape, dtype=torch.float16)
            if "norm" in n
            else (torch.randn(t.shape, device=where, dtype=torch.float16) * 0.02).cpu()
            for n, t in tensors.items()
        }
        save_file(made, folder / f"model-{part}.safetensors", {"format": "pt"})
        index |= {n: f"model-{part}.safetensors" for n in made}
    size = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": index}), encoding="utf-8"
    )
    config.dtype = torch.float16
    config.architectures = ["MistralForCausalLM"]
    config.save_pretrained(folder)
    mistral_tokenizer().save_pretrained(folder)
    (folder / "done").touch()
    return folder


def mistral_tokenizer():
    """Mistral-7B v0.3's own tokenizer, or pocket's, which is said, where its file is not to be had."""
    from tools import mistral_tokenizer

    try:
        return mistral_tokenizer.load()
    except FileNotFoundError as error:
        print(f"{error}\nThe pocket bases' tokenizer takes its place.", file=sys.stderr)
        return bases.load_tokenizer("pocket-s")


def load(stack, folder, dtype, length):
    """(model with LoRA, tokenizer) in NF4, by Unsloth or by transformers and peft."""
    if stack == "unsloth":
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            str(folder), max_seq_length=length, dtype=dtype, load_in_4bit=True
        )
        return FastLanguageModel.get_peft_model(
            model, r=16, lora_alpha=16, target_modules=TARGETS, use_gradient_checkpointing="unsloth"
        ), tokenizer
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=four_bit, dtype=dtype, device_map={"": bases.device()}
    )
    model = prepare_model_for_kbit_training(
        bases.settle_four_bit(model), use_gradient_checkpointing=True
    )
    return get_peft_model(
        model, LoraConfig(r=16, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM")
    ), AutoTokenizer.from_pretrained(folder)


def flops_a_token(config, length):
    """Arithmetic of one trained token, in floating-point operations: forward, backward to the activations (frozen weights have no
    gradient) and the second forward of checkpointing, 2 a weight each; attention's two products besides. LoRA's own are left out."""
    from utils import memory

    shape = memory.from_transformers(config)
    return 3 * (
        2 * (shape.block_weights + config.vocab_size * config.hidden_size)
        + 2 * config.num_hidden_layers * length * config.hidden_size
    )


def matmul_limit(dtype, size=8192):
    """Operations a second of a large matrix product, the card's limit as this very machine reaches it; the best of ten."""
    size = size if torch.cuda.is_available() else 256
    a, b = (torch.randn(size, size, device=bases.device(), dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronise()
        began = time.perf_counter()
        a @ b
        synchronise()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def synchronise():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def worker(stack, dtype_name, folder, points, steps, out):
    """In a process of its own: load once, then train `steps` warm steps at every (batch, accumulation, length); a JSON line each."""
    cap_memory()
    dtype = getattr(torch, dtype_name)
    began = time.perf_counter()
    model, tokenizer = load(stack, folder, dtype, max(p[2] for p in points))
    seconds = time.perf_counter() - began
    from utils import memory, training

    limit = matmul_limit(dtype)
    common = {
        "part": "speed",
        "stack": stack,
        "dtype": dtype_name,
        "load_seconds": round(seconds, 1),
        "matmul_tflops": round(limit / 1e12, 1),
        "trainable": training.count(model)[0],
        "state_bytes": sum(memory.measured_state(model).values()),
        "loaded_gib": held("reserved"),
    }
    for batch, accumulation, length in points:
        row = {**common, "batch": batch, "accumulation": accumulation, "length": length}
        try:
            row |= timed(model, tokenizer, dtype, batch, accumulation, length, steps)
            row["share_of_limit"] = round(
                row["tokens_per_second"] * flops_a_token(model.config, length) / limit, 4
            )
        except torch.OutOfMemoryError:
            row["outcome"] = "out of memory"
        with pathlib.Path(out).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def held(kind):
    """GiB that the allocator has `reserved` or `allocated` at most so far; None without a card."""
    return (
        round(getattr(torch.cuda, f"max_memory_{kind}")() / GIB, 3)
        if torch.cuda.is_available()
        else None
    )


def timed(model, tokenizer, dtype, batch, accumulation, length, steps):
    """TRL's SFTTrainer on rows of exactly `length` tokens: median seconds of the warm steps, tokens a second, peaks."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):
        marks = []

        def on_step_end(self, args, state, control, **kwargs):
            synchronise()
            self.marks.append(time.perf_counter())

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        5, 1000, (batch * accumulation * (steps + 2), length), generator=generator
    ).tolist()
    # The labels are given, so that both stacks train on every token and neither drops a row.
    data = Dataset.from_list(
        [{"input_ids": row, "attention_mask": [1] * length, "labels": row} for row in ids]
    )
    args = SFTConfig(
        output_dir=str(WORK / "trainer"),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=steps + 2,
        learning_rate=2e-4,
        optim="adamw_8bit" if torch.cuda.is_available() else "adamw_torch",
        max_length=length,
        packing=False,
        fp16=dtype == torch.float16 and torch.cuda.is_available(),
        bf16=dtype == torch.bfloat16 and torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=True,
        save_strategy="no",
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        dataset_num_proc=1,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    clock = Clock()
    Clock.marks = []
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=data, args=args, callbacks=[clock]
    )
    trainer.train()
    gaps = [b - a for a, b in zip(clock.marks[1:], clock.marks[2:])]  # the first two steps warm up
    seconds = statistics.median(gaps)
    return {
        "outcome": "ran",
        "steps": len(gaps),
        "step_seconds": round(seconds, 4),
        "tokens_per_second": round(batch * accumulation * length / seconds, 1),
        "peak_allocated_gib": held("allocated"),
        "peak_reserved_gib": held("reserved"),
        "first_loss": round(trainer.state.log_history[0]["loss"], 3),
    }


def speed(findings, dry):
    """Both stacks in turn, the capstone's settings first; a stack that is stopped keeps the points it has."""
    folder = make_checkpoint(dry)
    for (points, steps), dtype, stack in itertools.product(
        ([(CAPSTONE,), 5], [SWEEP, 3]), DTYPES, STACKS
    ):
        if dry:
            points, steps, dtype = ((2, 2, 64), (1, 1, 32)), 2, "float32"
        points = [
            p
            for p in points
            if not findings.has(
                part="speed", stack=stack, dtype=dtype, batch=p[0], accumulation=p[1], length=p[2]
            )
        ]
        if not points:
            continue
        out = WORK / f"{stack}-{dtype}.jsonl"
        out.unlink(missing_ok=True)
        arguments = json.dumps([stack, dtype, str(folder), points, steps, str(out)])
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tools.gpu_evidence", "--worker", arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=460,
            )
            error = done.stderr[-2000:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            error = "stopped after 460 seconds"
        for line in out.read_text(encoding="utf-8").splitlines() if out.exists() else ():
            findings.add(json.loads(line))
        if error:
            print(f"{stack}, {dtype}: {error}", file=sys.stderr)


# --- by hand, in 16 bits ------------------------------------------------------------------------------------------------


def small_mistral():
    """A random Mistral of 128 numbers a token, in float32 on the CPU; always the same."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(5)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=97,
            hidden_size=128,
            intermediate_size=320,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).eval()


def lora_pair():
    """(lesson 05's LoRA, peft's, what gives [(parameter of ours, of theirs)]) on a small random Mistral, in float32 on the CPU."""
    from tests import from_notebook, test_lesson_05
    from utils import modules

    model = small_mistral()
    mine, theirs, pairs = test_lesson_05.both(
        from_notebook.load("05", "LoRALinear"), model, 8, 16, modules.ALL_LINEAR, 5
    )
    return (
        mine,
        theirs,
        lambda: [
            p
            for o, t in pairs
            for p in ((o.A, t.lora_A["default"].weight), (o.B, t.lora_B["default"].weight))
        ],
    )


def ia3_pair():
    """The same for lesson 10's IA3."""
    from tests import from_notebook, test_lesson_10

    mine, theirs, pairs = test_lesson_10.both(
        "grouped-query", from_notebook.load("10", "IA3Linear")
    )
    return mine, theirs, lambda: [(o.l, t.ia3_l["default"]) for o, t in pairs]


def same_numbers(mine, theirs):
    """The same triple for two models whose trainable parameters come in the same order; ours get peft's numbers."""

    def pairs():
        return [
            (a, b)
            for (_, a), (_, b) in zip(
                training.trainable(mine), training.trainable(theirs), strict=True
            )
        ]

    with torch.no_grad():
        for a, b in pairs():
            a.copy_(b)
    return mine, theirs, pairs


def prefix_pair():
    """The same for lesson 07's prefix with its MLP."""
    from tests import test_lesson_07

    mine, theirs, _ = test_lesson_07.twins(small_mistral(), 4, 64)
    return same_numbers(mine, theirs)


def prompt_pair():
    """The same for lesson 08's prompt."""
    from tests import from_notebook

    mine = from_notebook.load("08", "PromptTuned")(small_mistral(), torch.zeros(4, 128))
    return same_numbers(mine, methods.apply("prompt", small_mistral(), tokens=4))


def p_tuning_pair():
    """The same for lesson 09's prompt that a network writes."""
    from tests import from_notebook

    wrapped, encoder = from_notebook.load("09", "PTuned", "PromptEncoder")
    mine = wrapped(small_mistral(), encoder(4, 128, 128, "MLP"))
    return same_numbers(
        mine,
        methods.apply("p_tuning", small_mistral(), tokens=4, encoder_reparameterization_type="MLP"),
    )


PAIRS = {
    "LoRALinear": lora_pair,
    "IA3Linear": ia3_pair,
    "PrefixTuning": prefix_pair,
    "PromptTuned": prompt_pair,
    "PTuned": p_tuning_pair,
}


def apart(a, b):
    """Largest difference as a share of the largest value."""
    a, b = a.detach().float().flatten(), b.detach().float().flatten()
    return round(((a - b).abs().max() / b.abs().max()).item(), 6)


def by_hand(findings, dry):
    """The notebooks' own layers against peft's on this device: outputs and gradients; 16 bits on a card, 32 in a dry run."""
    for (name, make), dtype in itertools.product(PAIRS.items(), ("float32",) if dry else DTYPES):
        if findings.has(part="by-hand", layer=name, dtype=dtype):
            continue
        mine, theirs, pairs = make()
        mine, theirs = (m.to(bases.device(), getattr(torch, dtype)) for m in (mine, theirs))
        ids = torch.randint(0, 50, (3, 17), generator=torch.Generator().manual_seed(0)).to(
            bases.device()
        )
        out = [m(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for m in (mine, theirs)]
        for logits in out:
            logits.float().square().mean().backward()
        findings.add(
            {
                "part": "by-hand",
                "layer": name,
                "dtype": dtype,
                "outputs": apart(*out),
                "gradients": max(apart(a.grad, b.grad) for a, b in pairs()),
                "tensors": len(pairs()),
            }
        )


# --- the leaderboard's rows of a real model -----------------------------------------------------------------------------


def leaderboard(findings, dry):
    """Every method on `smollm`, 100 rows of each task, its middle three rates with seed 0, the best with two seeds more."""
    from tools import leaderboard as board
    from tools import sweeps

    base, steps, count = ("pocket-xs", 2, 10) if dry else ("smollm", 80, 100)
    began = time.monotonic()
    for task, arm in itertools.product(board.TASKS, ("lora",) if dry else board.ARMS):
        method, options, rates = board.ARMS[arm]
        rates = (
            rates[:1]
            if dry
            else [
                rate / 10 if method in ("full", "lora", "adapter", "head") else rate
                for rate in rates[1:4]
            ]
        )

        def run(lr, seed):
            key = dict(
                base=base,
                task=task,
                method=method,
                options=options,
                count=count,
                lr=lr,
                seed=seed,
                shuffled=False,
                steps=steps,
                batch_size=8,
            )
            wanted = {
                **{k: v for k, v in key.items() if k != "options"},
                "options": json.dumps(options),
                "part": "leaderboard",
            }
            if not findings.has(**wanted) and time.monotonic() - began < 450:
                findings.add({"part": "leaderboard", "arm": arm, **board.run(**key)})
            return next(iter(results.select(findings.rows, **wanted)), None)

        searched = [run(lr, 0) for lr in rates]
        if all(searched):
            for seed in () if dry else (1, 2):
                run(sweeps.best_rate(searched), seed)
        else:
            print(
                f"{arm} on {task} is not finished: the part's time is up; run it again to go on",
                file=sys.stderr,
            )


PARTS = {"capstone": capstone, "by-hand": by_hand, "speed": speed, "leaderboard": leaderboard}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named"
    )
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return worker(*json.loads(given.worker))
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if not given.dry_run and not torch.cuda.is_available():
        parser.error(
            "this machine has no CUDA card, so there is nothing to find out. --dry-run runs the same code on a tiny model."
        )
    WORK.mkdir(parents=True, exist_ok=True)
    findings = (
        Findings("dry-run", WORK) if given.dry_run else Findings(short_name())
    )  # a dry run is no evidence
    for part in given.parts or PARTS:
        print(f"--- {part}", flush=True)
        PARTS[part](findings, given.dry_run)


if __name__ == "__main__":
    main()
