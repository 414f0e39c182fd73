"""Every type of the installed peft: built, trained four steps, saved, loaded, merged.

Writes data/results/peft-types.json.

    python -m tools.peft_types              # all types and LoRA's variants, a minute or two
    python -m tools.peft_types LORA VERA    # some; the stored rows of the others stay

A type that this file does not know is tried with its defaults and described as new, so that a
later peft is not silently cut short.
What fails is a row as well, with the step at which it failed and the reason.
"""

import argparse
import os
import re
import tempfile
import warnings

import torch

from tools.sweep_plans import lesson_17
from utils import bases, evaluation, modules, results, tasks, training

BASE, ROWS, STEPS, LR = "pocket-xs", 8, 4, 1e-3
LINEAR = list(modules.ALL_LINEAR)
WAYS = ("adds to weights", "turns or scales", "adds inputs", "trains its own", "routes")
# type: (way, what it changes in one line, arguments beside target_modules; None as target_modules: it has none)
KNOWN = {
    "ADALORA": ("adds to weights", "P Λ Q with small singular values pruned", {"total_step": 10}),
    "ADAMSS": ("adds to weights", "low-rank parts within clusters of the SVD", {"r": 8}),
    "ADAPTION_PROMPT": (
        "adds inputs",
        "gated prompt in the upper attention layers",
        {"adapter_len": 4, "adapter_layers": 2, "target_modules": None},
    ),
    "BEFT": ("trains its own", "a bias on the value projections", {"target_modules": ["v_proj"]}),
    "BOFT": ("turns or scales", "orthogonal matrix as a product of sparse ones", {}),
    "C3A": ("adds to weights", "block-circulant update by FFT", {"block_size": 16}),
    "CARTRIDGE": (
        "adds inputs",
        "keys and values of a prefix, trained directly",
        {"num_virtual_tokens": 4, "target_modules": None},
    ),
    "CPT": (
        "adds inputs",
        "a prompt that starts as tokens and may move only a little",
        {
            "cpt_token_ids": [5, 6, 7, 8],
            "cpt_mask": [1] * 4,
            "cpt_tokens_type_mask": [1, 2, 3, 4],
            "target_modules": None,
        },
    ),
    "DEFT": ("adds to weights", "replaces a subspace of the weight", {}),
    "DELORA": ("adds to weights", "normalised low-rank update with a trained length", {}),
    "FOURIERFT": ("adds to weights", "a few Fourier coefficients", {"n_frequency": 100}),
    "FROD": ("turns or scales", "a shared basis and sparse coefficients", {"progressbar": False}),
    "GLORA": ("turns or scales", "scales and shifts weights and biases", {}),
    "GRALORA": ("adds to weights", "LoRA in blocks", {"r": 8}),
    "HIRA": ("adds to weights", "W₀ times BA, entry by entry", {"r": 8}),
    "HRA": ("turns or scales", "Householder reflections", {}),
    "IA3": (
        "turns or scales",
        "scales keys, values and inner activations",
        {
            "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
        },
    ),
    "LILY": ("adds to weights", "LoRA whose B are shared between layers and mixed", {"r": 8}),
    "LN_TUNING": (
        "trains its own",
        "the norms' weights",
        {"target_modules": ["input_layernorm", "post_attention_layernorm"]},
    ),
    "LOHA": ("adds to weights", "product of two low-rank matrices, entry by entry", {}),
    "LOKR": ("adds to weights", "Kronecker product", {}),
    "LORA": ("adds to weights", "BA", {}),
    "MISS": ("adds to weights", "one block repeated over the inputs", {"r": 8}),
    "MULTITASK_PROMPT_TUNING": (
        "adds inputs",
        "a shared prompt times a low-rank one of each task",
        {"num_virtual_tokens": 4, "num_tasks": 2, "target_modules": None},
    ),
    "OFT": ("turns or scales", "block-diagonal orthogonal matrix", {"oft_block_size": 16}),
    "OSF": ("trains its own", "the weights, outside their largest singular directions", {}),
    "PEANUT": ("adds to weights", "a small network of the weight itself", {"r": 8}),
    "POLY": ("routes", "a mixture of LoRAs, chosen by the task", {"n_tasks": 2}),
    "PREFIX_TUNING": (
        "adds inputs",
        "keys and values in front of every layer's",
        {"num_virtual_tokens": 4, "target_modules": None},
    ),
    "PROMPT_TUNING": (
        "adds inputs",
        "virtual tokens in front",
        {"num_virtual_tokens": 4, "target_modules": None},
    ),
    "PSOFT": ("turns or scales", "orthogonal matrix inside the main subspace", {"r": 8}),
    "PVERA": ("adds to weights", "VeRA with random scales", {"r": 16}),
    "P_TUNING": (
        "adds inputs",
        "virtual tokens that an encoder makes",
        {"num_virtual_tokens": 4, "target_modules": None},
    ),
    "RANDLORA": ("adds to weights", "trained mixture of random low-rank matrices", {"r": 8}),
    "ROAD": ("turns or scales", "turns pairs of outputs", {"group_size": 16}),
    "SHADOW": (
        "adds inputs",
        "a small network beside the base that corrects its states",
        {"target_modules": None},
    ),
    "SHIRA": ("trains its own", "a few single entries of each weight", {"r": 4}),
    "SUPERTUNING": ("trains its own", "the largest entries of each weight", {}),
    "TINYLORA": ("adds to weights", "a handful of numbers, spread by random tensors", {}),
    "TRAINABLE_TOKENS": (
        "trains its own",
        "chosen rows of the embedding",
        {"token_indices": [10, 11, 12], "target_modules": ["embed_tokens"]},
    ),
    "UNILORA": ("adds to weights", "all of LoRA's numbers from one short vector", {}),
    "VBLORA": (
        "adds to weights",
        "LoRA put together from a shared bank of vectors",
        {"vector_length": 32, "num_vectors": 16},
    ),
    "VERA": ("adds to weights", "shared random A and B, trained scales", {"r": 16}),
    "WAVEFT": ("adds to weights", "a few wavelet coefficients", {"n_frequency": 100}),
    "XLORA": ("routes", "a mixture of trained LoRAs, chosen by the text", {"target_modules": None}),
}
VARIANTS = {  # of LoRA: what is set, and what is other than in plain LoRA
    "rsLoRA": ("scale alpha / √r", {"use_rslora": True}),
    "DoRA": ("a trained length for each output", {"use_dora": True}),
    "PiSSA": ("A and B start as the main part of W₀", {"init_lora_weights": "pissa"}),
    "OLoRA": ("A and B start from a QR of W₀", {"init_lora_weights": "olora"}),
    "MiCA": ("B starts in the smallest directions and stays", {"init_lora_weights": "mica"}),
    "orthogonal": ("A and B start orthogonal", {"init_lora_weights": "orthogonal"}),
    "LoftQ": ("A and B start as what NF4 loses", {"init_lora_weights": "loftq"}),
    "EVA": ("A starts as the main directions of the inputs", {}),
    "CorDA": ("A and B start in directions chosen by data", {}),
}
FORWARD = {"POLY": {"task_ids": 0}, "MULTITASK_PROMPT_TUNING": {"task_ids": 0}}  # per row


def config_of(name, folder):
    """The configuration of a type; XLORA gets two adapters of its own to mix, in the folder."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    made = PEFT_TYPE_TO_CONFIG_MAPPING[name]
    _, _, options = KNOWN.get(name, ("", "", {}))
    options = {"target_modules": LINEAR, **options}
    if options["target_modules"] is None:
        del options["target_modules"]
    if name == "XLORA":
        from peft import LoraConfig, get_peft_model

        # Two that change something: beside one, or untrained ones, any gate would merge.
        adapters = {}
        for number in ("0", "1"):
            torch.manual_seed(int(number))
            plain = LoraConfig(target_modules=LINEAR, init_lora_weights=False)
            one = get_peft_model(bases.load(BASE)[0], plain)
            adapters[number] = f"{folder}/{number}"
            one.save_pretrained(adapters[number])
        hidden = one.config.hidden_size
        options |= {"hidden_size": hidden, "adapters": adapters, "xlora_size": 16}
    return made(task_type="CAUSAL_LM", **options)


def built(name, variant, base, folder):
    """The base with an adapter of a type, or of a variant of LoRA."""
    from peft import LoftQConfig, LoraConfig, get_peft_model

    if variant == "EVA":
        return lesson_17.eva(base)
    if variant == "CorDA":
        return lesson_17.corda(base, task="facts")
    if variant:
        _, options = VARIANTS[variant]
        if variant == "LoftQ":
            options = {**options, "loftq_config": LoftQConfig(loftq_bits=4)}
        config = LoraConfig(
            r=8, lora_alpha=16, target_modules=LINEAR, task_type="CAUSAL_LM", **options
        )
        return get_peft_model(base, config)
    return get_peft_model(base, config_of(name, f"{folder}/parts"))


def converted(model):
    """The model's adapter as plain LoRA of rank 16 on a fresh base."""
    from peft import convert_to_lora, get_peft_model, set_peft_model_state_dict

    config, state = convert_to_lora(model, 16)
    made = get_peft_model(bases.load(BASE)[0], config)
    set_peft_model_state_dict(made, state)
    return made


def smoke(name, variant=""):
    """One row: what a type trains, which steps went well; `failed` and `reason` if not."""
    from peft import PeftModel

    way, about, _ = KNOWN.get(name, ("new", "not described here", {}))
    about = VARIANTS[variant][0] if variant else about
    row = {"type": name, "variant": variant, "way": way, "about": about, "failed": "", "reason": ""}
    step = "build"
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            base, tokenizer = bases.load(BASE)
            base.config.use_cache = name != "XLORA"  # which insists on it
            weights = {n: p.detach().clone() for n, p in base.named_parameters()}
            model = built(name, variant, base, folder)
            row["trained"], row["all"] = training.count(model)
            step = "train"
            rows = tasks.load("facts", "train")[:ROWS]
            batch = evaluation.batch_of(model, tokenizer, rows)
            more = {k: torch.full((ROWS,), v) for k, v in FORWARD.get(name, {}).items()}

            def logits(m):
                with torch.no_grad():
                    m.eval()
                    inputs = {k: v for k, v in batch.items() if k != "labels"}
                    return m(**inputs, **more).logits[:, -4:]

            origin = bases.load(BASE)[0]
            untuned = logits(origin) if not more else None
            if untuned is not None:
                row["starts_as_base"] = (logits(model) - untuned).abs().max().item() < 1e-3
            row["base_changed"] = moved(base, weights)
            model.train()
            optimizer = torch.optim.AdamW([p for _, p in training.trainable(model)], lr=LR)
            losses = []
            for number in range(STEPS):
                loss = model(**batch, **more).loss
                loss.backward()
                optimizer.step()
                if hasattr(model.base_model, "update_and_allocate"):
                    model.base_model.update_and_allocate(number)
                optimizer.zero_grad()
                losses.append(loss.item())
            if not all(map(torch.isfinite, map(torch.tensor, losses))):
                raise ValueError("the loss is not a number")
            row["learns"] = losses[-1] < losses[0]
            before = logits(model)
            step = "save"
            model.save_pretrained(f"{folder}/saved")
            row["file_bytes"] = sum(
                os.path.getsize(os.path.join(where, file))
                for where, _, files in os.walk(f"{folder}/saved")
                for file in files
                if file.endswith(".safetensors")
            )
            step = "load"
            fresh = bases.load(BASE)[0]
            fresh.config.use_cache = base.config.use_cache
            again = logits(PeftModel.from_pretrained(fresh, f"{folder}/saved"))
            if (again - before).abs().max() > 1e-3:
                raise ValueError("the loaded model answers differently")
            step = "convert"
            try:
                gap = (logits(converted(model)) - before).norm() / (before - untuned).norm()
                row["converted_gap"] = round(gap.item(), 3)
            except (TypeError, ValueError, AttributeError, RuntimeError, KeyError) as error:
                row["not_converted"] = told(error)
            step = "merge"
            if hasattr(model.base_model, "merge_and_unload"):
                merged = logits(model.merge_and_unload())
                if (merged - before).abs().max() > 1e-2:
                    raise ValueError("the merged model answers differently")
                row["merges"] = True
            else:
                raise NotImplementedError("nothing to merge: its inputs or parts stay apart")
    except Exception as error:
        if step == "merge" and isinstance(error, NotImplementedError | AttributeError):
            row["merges"] = False
        else:
            row["failed"] = step
        row["reason"] = told(error)
    return row


def moved(base, weights):
    """Does a weight of the base hold other numbers than before? Moved names are matched."""
    now = {n.replace(".base_layer", ""): p for n, p in base.named_parameters()}
    return any(
        n in now and now[n].shape == w.shape and not torch.equal(now[n].detach(), w)
        for n, w in weights.items()
    )


def told(error):
    """First line of an error, without paths of this machine."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return f"{type(error).__name__}: {re.sub(r'/[^ ]*/', '…/', line)[:140]}"


def main():
    from peft import PeftType

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("types", nargs="*", help="such as LORA; all if none is named")
    given = parser.parse_args().types
    torch.set_num_threads(1)
    wanted = [(t.value, "") for t in PeftType if not given or t.value in given]
    if not given or "LORA" in given:
        wanted += [("LORA", variant) for variant in VARIANTS]
    rows = []
    for name, variant in wanted:
        rows.append(smoke(name, variant))
        print(*(f"{v}" for v in rows[-1].values()), sep=" | ", flush=True)
    if given:
        again = {(r["type"], r["variant"]): r for r in rows}
        rows = [again.get((r["type"], r["variant"]), r) for r in results.load("peft-types")["rows"]]
    results.save("peft-types", rows, {"base": BASE, "steps": STEPS, "rows": ROWS, "lr": LR})


if __name__ == "__main__":
    main()
