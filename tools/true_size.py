"""Lesson 13's cells on Mistral-7B v0.3 at its true size, on a CPU; writes true-size.json.

    python -m pip download --no-deps --dest build/wheels mistral_common==1.13.1    # its tokenizer
    python -m tools.true_size            # minutes on one core, 9 GiB of memory, 4.2 GB of disk
    python -m tools.true_size --small    # two narrow layers: the same code, nothing is stored

The shapes and the tokenizer are Mistral's, the weights are random numbers. How many parameters
train, how many bytes are held and whether a saved adapter gives the same logits do not depend on
their values. What the model says does, so nothing of that is measured.

The base is made layer by layer, quantised to NF4 by bitsandbytes, and kept in build/true-size (a
layer that is there is not made again). One set of numbers is drawn for the seven matrices; from
layer to layer their rows are rolled, which gives every layer other matrices and quantises them in
no time. Then a process of its own runs the lesson's cells through Unsloth's CPU backend: its load,
its adapter, its rows, its trainer, its training cell, its table of bytes, its saving; and loads the
adapter again. Left out are the exercises and the cells that draw, score, generate or compare
gradients, for which a pass of a minute is too long.
"""

import argparse
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time

from utils import DATA, ROOT, memory, results

NOTEBOOK = ROOT / "notebooks" / "13_mistral_unsloth.ipynb"
WORK = ROOT / "build" / "true-size"
STEPS, ROWS_A_STEP, RATE, PROBE = 2, 1, 2e-4, 16
# Cells of the lesson that hold one of these are left out, and all below the one that saves.
LEFT_OUT = ("figures.", "evaluation.", "score(", "answers(", "stored", ".generate(", "said_")
SAVES = "checkpoints.save_adapter("


def configuration(small=False, layers=None):
    """Mistral-7B v0.3's, or one of two narrow layers of the same kind with the pocket vocabulary.

    `layers` changes their number.
    """
    from transformers import MistralConfig

    sizes = dict(vocab_size=32768, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32)
    heads = dict(num_attention_heads=32, num_key_value_heads=8, head_dim=128)
    if small:
        sizes = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2)
        sizes["vocab_size"] = len(tokenizer(small))
        heads = dict(num_attention_heads=4, num_key_value_heads=2, head_dim=32)
    sizes["num_hidden_layers"] = layers or sizes["num_hidden_layers"]
    return MistralConfig(
        **sizes,
        **heads,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def tokenizer(small=False):
    """Mistral's own tokenizer, or the pocket bases' for the small form."""
    from tools import mistral_tokenizer
    from utils import bases

    return bases.load_tokenizer("pocket-s") if small else mistral_tokenizer.load()


# --- the base -----------------------------------------------------------------------------------


MATRICES = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), "self_attn"),
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
}


def random_matrix(shape, seed):
    """float16 numbers with the spread that a Mistral starts its training with, 0.02."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return torch.empty(shape, dtype=torch.float16).normal_(0, 0.02, generator=generator)


def shifted_by(layer, rows, columns):
    """By how many rows a matrix is rolled in that layer, so that no two layers hold the same one.

    bitsandbytes takes 64 values for a block and 256 blocks for a scale of the second quantisation.
    Rolled by whole groups of those, the quantised matrix is that of the rolled one (a test).
    """
    group = 64 * 256 // math.gcd(columns, 64 * 256)
    return layer * group % rows


def drawn_matrix(shape, layer, name):
    """The float16 numbers that a layer's matrix was quantised from."""
    drawn = random_matrix(shape, 1000 + list(MATRICES).index(name))
    return drawn.roll(shifted_by(layer, *shape), 0)


def quantise(weight):
    """{suffix: tensor} of a matrix in NF4 with double quantisation, as a folder stores it."""
    import bitsandbytes.functional as bnb

    packed, state = bnb.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    # bitsandbytes hands the same code books to all; a folder wants each tensor's own.
    parts = state.as_dict(packed=True)
    return {"": packed, **{f".{k}": v.clone() for k, v in parts.items()}}


def rolled(tensors, shift, rows):
    """What `quantise` gives for the matrix whose `rows` rows are rolled by `shift`."""
    turned = dict(tensors)
    for key in ("", ".absmax", ".nested_absmax"):
        whole = tensors[key]
        turned[key] = whole.roll(shift * len(whole) // rows, 0) if shift else whole.clone()
    return turned


def quantised_layer(linears, number, first):
    """Tensors of one decoder layer: its seven matrices in NF4, two norms.

    `first` holds layer 0's, from which another's are rolled.
    """
    import torch

    tensors, before = {}, "model.layers.0."
    for x in linears:
        part = f"{MATRICES[x.name]}.{x.name}.weight"
        if number:
            kept = {
                k.removeprefix(before + part): v
                for k, v in first.items()
                if k.startswith(before + part)
            }
            made = rolled(kept, shifted_by(number, x.d_out, x.d_in), x.d_out)
        else:
            made = quantise(drawn_matrix((x.d_out, x.d_in), 0, x.name))
        tensors |= {f"model.layers.{number}.{part}{k}": v for k, v in made.items()}
    width = next(x.d_in for x in linears if x.name == "q_proj")
    for norm in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.{number}.{norm}.weight"] = torch.ones(width, dtype=torch.float16)
    return tensors


def make_base(folder, small=False, layers=None):
    """A folder with the random base for from_pretrained; the seconds that it took."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file
    from transformers import BitsAndBytesConfig

    began, config, index = time.perf_counter(), configuration(small, layers), {}
    linears, first = memory.from_transformers(config).linears, {}
    folder.mkdir(parents=True, exist_ok=True)

    def write(part, make):
        path = folder / f"model-{part}.safetensors"
        if not path.exists():
            save_file(make(), path.with_suffix(".part"), {"format": "pt"})
            path.with_suffix(".part").rename(path)
            print(f"{time.perf_counter() - began:6.0f} s  {path.name}", flush=True)
        with safe_open(path, "pt") as file:
            index.update(dict.fromkeys(file.keys(), path.name))

    for n in range(config.num_hidden_layers):
        write(f"layer-{n:02d}", lambda n=n: quantised_layer(linears, n, first))
        first = first or load_file(folder / "model-layer-00.safetensors")
    table = (config.vocab_size, config.hidden_size)
    write(
        "rest",
        lambda: {
            "model.embed_tokens.weight": random_matrix(table, 1),
            "lm_head.weight": random_matrix(table, 2),
            "model.norm.weight": torch.ones(config.hidden_size, dtype=torch.float16),
        },
    )
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    listed = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed), encoding="utf-8")
    config.dtype, config.architectures = torch.float32, ["MistralForCausalLM"]
    config.quantization_config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        # The folder's type of arithmetic wins over the one given to Unsloth; a CPU has float32.
        bnb_4bit_compute_dtype=torch.float32,
    ).to_dict()
    config.save_pretrained(folder)
    tokenizer(small).save_pretrained(folder)
    return time.perf_counter() - began


def quantisation_errors(model):
    """{(layer, matrix): how far the loaded 4-bit matrix is from the numbers that it was made of}.

    The root mean square of the difference over that of the numbers, about .09 for NF4. All matrices
    of the first, the middle and the last layer, and the keys' of every layer. ValueError if any
    matrix of any layer is not in NF4 with double quantisation.
    """
    import bitsandbytes.functional as bnb

    found, layers = {}, model.model.layers
    whole = {0, len(layers) // 2, len(layers) - 1}
    for number, layer in enumerate(layers):
        for name, part in MATRICES.items():
            linear = getattr(getattr(layer, part), name)
            state = getattr(linear.weight, "quant_state", None)
            if state is None or state.quant_type != "nf4" or not state.nested:
                raise ValueError(f"layer {number}, {name}: not NF4 with double quantisation")
            if name == "k_proj" or number in whole:
                got = bnb.dequantize_4bit(linear.weight.data, state)
                want = drawn_matrix(tuple(got.shape), number, name).to(got.dtype)
                found[number, name] = float((got - want).norm() / want.norm())
    return found


# --- the run ------------------------------------------------------------------------------------


def lesson_cells():
    """The sources of the lesson's code cells that are run here, in their order."""
    import nbformat

    cells = [c for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code"]
    last = next(n for n, c in enumerate(cells) if SAVES in c.source)
    return [
        c.source
        for c in cells[: last + 1]
        if not any(word in c.source for word in LEFT_OUT)
        and not {"parity", "exercise"} & set(c.metadata.get("tags", []))
    ]


def even_rows(tokenizer, file, count=max(3, STEPS * ROWS_A_STEP)):
    """Write rows of one length into `file`; that length in tokens, the longest of `count` rows.

    A step's memory is that of its longest row; with rows of one length the plan is asked for that.
    """
    from utils import instructions

    lengths = {}
    for row, example in zip(
        instructions.load("train", "pocket-s"),
        instructions.examples(instructions.load("train", "pocket-s")),
        strict=True,
    ):
        text = example["prompt"] + example["answer"] + tokenizer.eos_token
        lengths.setdefault(len(tokenizer(text).input_ids), []).append(row)
    longest = max(n for n, rows in lengths.items() if len(rows) >= count)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in lengths[longest])
    file.write_text("".join(lines), encoding="utf-8")
    return longest


class Held:
    """Bytes that this process holds, from /proc: memory of its own and pages of the base's files.

    `peak` is the most of both together since `peak` was set to 0, read twenty times a second.
    """

    def __init__(self, folder):
        self.folder, self.peak, self.before = str(folder), 0, 0
        self.before = self.own()
        threading.Thread(target=self._watch, daemon=True).start()

    def own(self):
        with open("/proc/self/status", encoding="utf-8") as status:
            kib = next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
        return 1024 * kib - self.before

    def mapped(self):
        """Bytes of the base's files that stand in memory now."""
        total, inside = 0, False
        with open("/proc/self/smaps", encoding="utf-8") as maps:
            for line in maps:
                if "-" in line.split(" ", 1)[0]:
                    inside = self.folder in line
                elif inside and line.startswith("Rss:"):
                    total += 1024 * int(line.split()[1])
        return total

    def _watch(self):
        while True:
            self.peak = max(self.peak, self.own())
            time.sleep(0.05)


def count_gradients(space):
    """A list that gets the bytes of the gradients before each step of the lesson's optimiser."""

    class Count(space["transformers"].TrainerCallback):
        found = []

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            self.found.append(memory.measured_state(space["model"])["gradients"])

    space["trainer"].add_callback(Count())
    return Count.found


def run(folder, file, longest, steps=STEPS):
    """Run the lesson's cells on the base in `folder`, with the rows of `file`; what was found.

    `longest` is the length of the rows in tokens. Nothing that Unsloth has to come before is
    imported until the lesson does it.
    """
    edits = {"MODEL = None ": f'MODEL = "{folder}" ', "ROWS = None ": f'ROWS = "{file}" '}
    changes = dict(steps=steps, batch=ROWS_A_STEP, max_length=longest, lr=RATE, warmup=0)
    space = {"__name__": "__main__", "display": lambda shown: None}
    seconds, held, found = {}, None, {}
    os.chdir(NOTEBOOK.parent)
    for source in lesson_cells():
        for old, new in edits.items():
            source = source.replace(old, new)
        name = next((n for n, mark in MARKS.items() if mark in source), "other")
        if name == "load":
            held = Held(folder)
        if name == "train":
            found["in memory before training"] = held.own() + held.mapped()
            held.peak, gradients = 0, count_gradients(space)
        began = time.process_time()
        exec(compile(source, f"lesson 13, {name}", "exec"), space)
        seconds[name] = seconds.get(name, 0) + time.process_time() - began
        if "capstone.settings(" in source:
            for key, value in changes.items():
                setattr(space["s"], key, value)
        if name == "train":
            found["peak"] = held.peak + held.mapped()
    model, planned = space["model"], space["planned"]
    torch = space["torch"]
    ids = space["batch"]["input_ids"][:1, :PROBE]

    def logits(model):
        model.eval()
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.clone()

    print(json.dumps(found), flush=True)
    trained = logits(model)
    print(f"trained; {time.process_time():.0f} CPU seconds so far", flush=True)
    moved = max(float(p.detach().abs().max()) for n, p in model.named_parameters() if "lora_B" in n)
    del model
    for name in ("trainer", "model", "layer", "first", "batch"):
        space.pop(name)
    fresh, _ = space["load"]()
    errors = quantisation_errors(fresh)
    again = logits(space["checkpoints"].load_adapter(fresh, space["adapter_folder"]))
    return found | {
        "planned": {k: getattr(planned, k) for k in (*STATE, "loaded", "total")},
        "before": space["at_start"],
        "after": space["at_end"] | {"gradients": max(gradients)},
        "trainable": space["trainable"],
        "everything": space["everything"],
        "file": space["size"],
        "tokens": longest,
        "losses": [round(loss, 4) for loss in space["losses"]],
        "layers in NF4": len(fresh.model.layers),
        "matrices compared with their numbers": len(errors),
        "relative error of NF4": [round(f(errors.values()), 4) for f in (min, max)],
        "equal": bool(torch.equal(trained, again)),
        "largest in B": round(moved, 6),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "vocabulary": len(space["tokenizer"]),
        "highest_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


STATE = ("weights", "adapter", "gradients", "optimiser")
MARKS = {
    "load": "FastLanguageModel.from_pretrained(",
    "train": "checkpoints.train(",
    "save": SAVES,
}


def table(found):
    """[{"what", "planned", "measured"}] of bytes, from what `run` found."""
    planned, after = found["planned"], found["after"]
    loaded = found["before"]["weights"] + found["before"]["adapter"]
    rows = [(name, planned[name], after[name]) for name in STATE]
    rows += [
        ("after loading", planned["weights"] + planned["adapter"], loaded),
        ("at the peak of a step", planned["total"], found["peak"]),
        ("the adapter's file", 4 * found["trainable"], found["file"]),
    ]
    return [{"what": what, "planned": p, "measured": m} for what, p, m in rows]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="two narrow layers, nothing stored")
    parser.add_argument("--layers", type=int, help="so many layers in place of 32, nothing stored")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        folder, file, longest = given.run
        folder = pathlib.Path(folder)
        found = run(folder, file, int(longest))
        (WORK / f"{folder.name}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    name = "small" if given.small else "mistral-7b-v0.3-random-nf4"
    folder = WORK / (f"{name}-{given.layers}-layers" if given.layers else name)
    made_in = make_base(folder, given.small, given.layers)
    file = WORK / f"{folder.name}-rows.jsonl"
    longest = even_rows(tokenizer(given.small), file)
    subprocess.run(
        [sys.executable, "-m", "tools.true_size", "--run", folder, file, str(longest)],
        cwd=ROOT,
        check=True,
        env={**os.environ, "PEFT_COURSE_QUIET": "1", "MPLBACKEND": "Agg"},
    )
    found = json.loads((WORK / f"{folder.name}.json").read_text(encoding="utf-8"))
    rows = table(found)
    for row in rows:
        print(f"{row['what']:22} {row['planned']:>15,} planned {row['measured']:>15,} measured")
    told = {k: v for k, v in found.items() if k not in ("planned", "before", "after")}
    print(told)
    if not (given.small or given.layers):
        settings = {
            "weights": "random, quantised to NF4 by bitsandbytes; rows rolled by layer",
            "configuration": "Mistral-7B v0.3",
            "steps": STEPS,
            "rows a step": ROWS_A_STEP,
            "tokens a row": found["tokens"],
            "seconds to make the base": round(made_in),
            **told,
        }
        print("stored:", results.save("true-size", rows, settings).relative_to(DATA.parent))


if __name__ == "__main__":
    main()
