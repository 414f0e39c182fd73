"""Hand a tuned model over: merge it, write GGUF, check that the files answer as the model does.

python -m tools.export FOLDER                       with adapter_config.json, or with a merged model
python -m tools.export FOLDER --kinds f16 q8_0      which files; an adapter alone is written too
python -m tools.export FOLDER --base data/pocket/s  where the base is, if not where its config says
python -m tools.export FOLDER --rounded             trained beside an NF4 base (QLoRA)
python -m tools.export FOLDER --chat-template FILE  a Jinja template, if the tokenizer has none

What it cannot export it refuses with a sentence (`Refused`). `make export FOLDER=…` runs it,
lesson 18 shows how it works.
"""

import argparse
import json
import pathlib
import re
import shlex
import sys
import tempfile

import gguf
import numpy as np
import torch

from utils import ROOT, bases, colab

PRE = "smollm"  # llama.cpp's name for "each digit alone, then GPT-2's expression"
CONVERTER = "llama.cpp's own convert_hf_to_gguf.py reads many more"
F32, F16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
KINDS = {
    "f32": (F32, gguf.LlamaFileType.ALL_F32),
    "f16": (F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
NASTY = (
    *("", " ", "  a", "a  b ", "\n\n", "\t x", "12", "123 4567", "x1y22z333", "x =  5", "a\n\n\n5"),
    *(
        "don't we've I'LL",
        "naïve café",
        "e\u0301",
        "Привет, мир!",
        "日本語のテキスト",
        "½ Ⅷ ²",
        "ﬁ",
    ),
    *(
        "😀👨‍👩‍👧",
        "\u00a0x",
        "a\u2028b",
        "\ufeffa",
        "100%\n\n\n5",
        "__init__(self)",
        "tail ",
        "<s>",
        "</s>",
    ),
    *("    def f(x):\n        return x**2\n", "### Response:", "http://a.b/c?d=1&e=%20", "a" * 60),
)


class Refused(Exception):
    """What this tool cannot export, said so that the reader knows what to do instead."""


# ---- writing ----


def permuted(weight, heads):
    """Rows of a query or key projection, [heads * d, ...], as llama.cpp wants them.

    The two halves of each head are interleaved: transformers' rotary embedding turns number i of a
    head together with number i + d/2, llama.cpp's turns neighbours.
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def heads_of(config, name):
    """Heads in a layer's rows if llama.cpp wants them permuted (queries, keys); else None."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    return next((heads[part] for part in name.split(".") if part in heads), None)


def export(model, tokenizer, path, kind="f32", name="model"):
    """Write model and tokenizer (with its chat template) as one GGUF file; norms stay in float32.

    Returns the path.
    """
    config, (quantisation, file_type) = model.config, KINDS[kind]
    out = gguf.GGUFWriter(path, "llama")
    out.add_type("model")
    out.add_name(name)
    out.add_file_type(file_type)
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_rope_dimension_count(head_width(config))
    out.add_rope_freq_base(config.rope_parameters["rope_theta"])
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_vocab_size(config.vocab_size)
    add_tokenizer(out, tokenizer, config.vocab_size)
    for target, array in arrays(model):
        stored = F32 if array.ndim == 1 else quantisation
        out.add_tensor(target, gguf.quants.quantize(array, stored), raw_dtype=stored)
    return finish(out, path)


def arrays(model):
    """(llama.cpp's name, float32 array in its order of rows) of every tensor but a tied head."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, weight in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = heads_of(config, key)
        array = (permuted(weight, heads) if heads else weight).float().cpu().numpy()
        yield names.get_name(key, try_suffixes=(".weight",)), array


def head_width(config):
    """Numbers in one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def add_tokenizer(out, tokenizer, size):
    """Vocabulary, merges, special ids and the chat template: the file needs nothing beside it."""
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {t["id"] for t in made["added_tokens"] if t["special"]}
    tokens = {i: t for t, i in tokenizer.get_vocab().items()}
    NORMAL, CONTROL, UNUSED = (gguf.TokenType[k] for k in ("NORMAL", "CONTROL", "UNUSED"))
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(PRE)
    out.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(size)])
    out.add_token_types(
        [CONTROL if i in special else NORMAL if i in tokens else UNUSED for i in range(size)]
    )
    merges = made["model"]["merges"]
    out.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    for which in ("bos", "eos", "unk", "pad"):
        if (number := getattr(tokenizer, f"{which}_token_id")) is not None:
            getattr(out, f"add_{which}_token_id")(number)
    out.add_add_bos_token(tokenizer("")["input_ids"] == [tokenizer.bos_token_id])
    out.add_add_eos_token(False)
    if tokenizer.chat_template:
        out.add_chat_template(tokenizer.chat_template)


def export_adapter(peft_model, path, adapter="default", name="adapter"):
    """Write a LoRA adapter alone, float32, for its base's GGUF at run time. Returns the path.

    Refused names what has no place in such a file. rsLoRA's scale alpha / sqrt(r) is written as
    the alpha that gives it.
    """
    lora, config = peft_model.peft_config[adapter], peft_model.get_base_model().config
    if found := unwritable(lora):
        raise Refused(f"An adapter with {found} has no GGUF form of its own: export it merged.")
    out = gguf.GGUFWriter(path, "llama")
    out.add_type("adapter")
    out.add_string("adapter.type", "lora")
    scale = lora.r**0.5 if lora.use_rslora else 1
    out.add_float32("adapter.lora.alpha", float(lora.lora_alpha) * scale)
    out.add_name(name)
    out.add_file_type(KINDS["f32"][1])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, module in peft_model.get_base_model().named_modules():
        if adapter not in getattr(module, "lora_A", {}):
            continue
        A, B = module.lora_A[adapter].weight.detach(), module.lora_B[adapter].weight.detach()
        heads = heads_of(config, key)
        target = names.get_name(key + ".weight", try_suffixes=(".weight",))
        for suffix, tensor in (("a", A), ("b", permuted(B, heads) if heads else B)):
            out.add_tensor(f"{target}.lora_{suffix}", tensor.float().cpu().numpy())
    return finish(out, path)


def unwritable(lora):
    """What of a LoRA configuration an adapter's GGUF cannot hold, or ""."""
    odd = {
        "DoRA": lora.use_dora,
        "trained biases": lora.bias != "none" or lora.lora_bias,
        "whole trained modules": lora.modules_to_save,
        "trained tokens": lora.trainable_token_indices,
        "ranks that differ between layers": lora.rank_pattern or lora.alpha_pattern,
    }
    return next((what for what, there in odd.items() if there), "")


def finish(out, path):
    """Write header, fields and tensors."""
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return pathlib.Path(path)


def rounded(weight, kind):
    """A weight [rows, columns] as a file of that kind holds it, back in float32."""
    stored = KINDS[kind][0]
    return gguf.quants.dequantize(gguf.quants.quantize(weight, stored), stored)


# ---- files for other programs, which are not run here ----

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM 0.32 takes as --max-lora-rank
ASKED = "{{ .Prompt }}"  # where a Modelfile's template puts the question


def modelfile(name, tokenizer, context=512):
    """Ollama's recipe for a GGUF file beside it.

    The Jinja template inside the file does not count for Ollama. So the prompt that it makes of one
    question is written out in Go's language, without the BOS token, which the engine puts in front.
    """
    asked = [{"role": "user", "content": ASKED}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt = prompt.removeprefix(tokenizer.bos_token or "")
    return (
        f'FROM ./{name}\nTEMPLATE """{prompt}"""\nPARAMETER stop "{tokenizer.eos_token}"\n'
        f"PARAMETER temperature 0\nPARAMETER num_ctx {context}\n"
    )


def modelfile_faults(text, folder, tokenizer, chat, prompt):
    """What can be told without Ollama: known words, one FROM and its file, the prompt's token ids.

    `chat` is a list of messages whose last one makes `prompt`, the one of training.
    """
    template = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    lines = re.sub(r'""".*?"""', "", text, flags=re.DOTALL).splitlines()
    words = [line.split(None, 1) for line in lines if line.strip() and line[0] != "#"]
    known = {"FROM", "ADAPTER", "TEMPLATE", "PARAMETER", "SYSTEM", "LICENSE", "MESSAGE"}
    found = [f"unknown word {word[0]}" for word in words if word[0] not in known]
    sources = [word[1] for word in words if word[0] == "FROM"]
    if len(sources) != 1 or not (pathlib.Path(folder) / sources[0]).exists():
        found.append("there must be one FROM, and its file")
    filled = (template[1] if template else "").replace(ASKED, chat[-1]["content"])
    if tokenizer(filled)["input_ids"] != tokenizer(prompt)["input_ids"]:
        found.append("another prompt than in training")
    return found


def vllm_command(base, adapters):
    """The line that serves a base, and every adapter ({name: folder}) as a model of that name."""
    rank = max(read_json(path / "adapter_config.json")["r"] for path in adapters.values())
    limit = min(allowed for allowed in RANKS if allowed >= rank)
    command = ["vllm", "serve", base, "--host", "127.0.0.1", "--enable-lora"]
    command += ["--max-lora-rank", str(limit), "--lora-modules"]
    return shlex.join(command + [f"{name}={path.name}" for name, path in adapters.items()])


def vllm_faults(folder):
    """Why vLLM would refuse an adapter's folder, as far as its configuration tells."""
    told = read_json(folder / "adapter_config.json")
    odd = {
        "not LoRA": told["peft_type"] != "LORA",
        "DoRA": told.get("use_dora"),
        "trained biases": told.get("bias") != "none",
        "whole trained modules": told.get("modules_to_save"),
        "a rank too large": told.get("r", 0) > max(RANKS),
    }
    return [fault for fault, there in odd.items() if there]


# ---- reading what there is, or refusing ----


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def four_bit(folder):
    """Does this model's folder hold quantised weights?"""
    return "quantization_config" in read_json(folder / "config.json")


def find_base(folder, given=None):
    """Folder of an adapter's base: the one given, the one its config names, or the course's own.

    Refused says what was looked for.
    """
    named = given or read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not named:
        raise Refused(f"{folder.name}: adapter_config.json names no base. Add --base FOLDER.")
    if pathlib.Path(named).is_dir():
        return pathlib.Path(named)
    for base in bases.BASES.values():
        mine = "/".join(pathlib.PurePath(str(base.folder)).parts[-2:]) if base.folder else base.hub
        if named in (base.name, base.hub) or named.replace("\\", "/").endswith(f"/{mine}"):
            if base.four_bit:
                break
            return pathlib.Path(bases.source(base)["pretrained_model_name_or_path"])
    at = "" if given else " Its adapter_config.json says so."
    raise Refused(
        f"The base {named!r} is not on this machine as a folder of 16- or 32-bit weights.{at} "
        "Fetch it and say where it is: --base FOLDER."
    )


def check_folder(folder):
    """Refused if a folder holds no adapter and no model, or weights that cannot be exported."""
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder}. Give the one that save_pretrained wrote.")
    names = {p.name for p in folder.iterdir()}
    if not names & {"adapter_config.json", "config.json"}:
        raise Refused(
            f"{folder.name} holds neither adapter_config.json nor config.json. Give the folder "
            "that save_pretrained wrote; lesson 13's is called adapter."
        )
    if not any(name.endswith(".safetensors") for name in names):
        raise Refused(f"{folder.name} holds no .safetensors. Save again; pickles are not read.")
    if "adapter_config.json" not in names and four_bit(folder):
        raise Refused(
            f"{folder.name} was merged into 4-bit weights, which rounds the adapter away. Give the "
            "adapter's folder instead: here it is merged into whole weights (--rounded if it was "
            "trained beside 4 bits)."
        )


def check_model(model, tokenizer):
    """Refused if this writer would write the model or its tokenizer wrongly."""
    config = model.config
    kind = f"{type(model).__name__} ({config.model_type})"
    if config.model_type not in ("llama", "mistral"):
        raise Refused(f"This tool writes Llama and Mistral models, not {kind}; {CONVERTER}.")
    odd = {
        "scaled rotary positions": config.rope_parameters.get("rope_type", "default") != "default",
        "biases": any(key.endswith(".bias") for key in model.state_dict()),
        "a sliding window": getattr(config, "sliding_window", None),
        f"the activation {config.hidden_act}": config.hidden_act != "silu",
    }
    if found := next((what for what, there in odd.items() if there), ""):
        raise Refused(f"This tool does not write {kind} with {found}; {CONVERTER}.")
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    split = made["pre_tokenizer"] or {}
    parts = [(p["type"], p.get("individual_digits")) for p in split.get("pretokenizers", [split])]
    normal = made["normalizer"] or {}
    known = [("Digits", True), ("ByteLevel", None)]
    if made["model"]["type"] != "BPE" or parts != known or normal.get("normalizers", normal):
        raise Refused(f"This tool does not know this tokenizer's way to split text; {CONVERTER}.")
    if len(tokenizer) > config.vocab_size:
        raise Refused(
            f"The tokenizer has {len(tokenizer):,} tokens and the model {config.vocab_size:,}: "
            "tokens were added and the embeddings not resized, or it is another's tokenizer."
        )
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    if tokenizer.eos_token_id not in stops:
        raise Refused(
            f"The tokenizer ends a text with token {tokenizer.eos_token_id}, the model with "
            f"{stops}. Answers would not stop: set both to the token that training rows end in."
        )


@torch.no_grad()
def round_to_nf4(model):
    """The model, its linear layers (not the head) rounded to NF4 and back, as QLoRA saw them."""
    import bitsandbytes.functional as bnb

    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and not name.endswith("lm_head"):
            codes, state = bnb.quantize_4bit(
                layer.weight.half().contiguous(), quant_type="nf4", compress_statistics=True
            )
            layer.weight.copy_(bnb.dequantize_4bit(codes, state))
    return model


def load(folder, base=None, rounded=False):
    """(model, tokenizer, is an adapter) of an adapter's or a merged folder, in float32 on the CPU.

    Refused says what cannot be exported and why. `rounded` rounds the base to NF4 first.
    """
    from peft import PeftConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = pathlib.Path(folder)
    check_folder(folder)
    adapter = (folder / "adapter_config.json").exists()
    if adapter and PeftConfig.from_pretrained(folder).is_prompt_learning:
        raise Refused(
            f"{folder.name} holds a prompt or prefix, which cannot be merged into weights."
        )
    where = find_base(folder, base) if adapter else folder
    if adapter and four_bit(where):
        raise Refused(
            f"The base in {where.name} is stored in 4 bits. Give its 16-bit original: "
            "--base FOLDER."
        )
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
    words = folder if (folder / "tokenizer.json").exists() else where
    tokenizer = AutoTokenizer.from_pretrained(words)
    check_model(model, tokenizer)
    if adapter:
        model = PeftModel.from_pretrained(round_to_nf4(model) if rounded else model, folder)
    return model.eval(), tokenizer, adapter


# ---- checking ----


def serve(path, adapters=(), context=512, slots=1, name="model"):
    """llama.cpp's server on a free port of 127.0.0.1, in float32 on one thread; `del` stops it.

    `adapters` are files, loaded at scale 0. Its address is `.listening_address`. RuntimeError if
    llama.cpp refuses a file.
    """
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path, p.model_alias = str(path), {name}
    p.hostnames, p.port, p.n_threads_http, p.ui, p.offline = ["127.0.0.1"], 0, 2, False, True
    p.n_ctx, p.n_parallel, p.n_gpu_layers, p.cache_ram_mib = context * slots, slots, 0, 0
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.cache_type_k = p.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    p.warmup, p.verbosity = False, -1
    p.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(f), 0.0) for f in adapters]
    return xllamacpp.Server(p)


def post(server, route, body):
    """The server's answer to a JSON request; requests.HTTPError if it refuses."""
    import requests

    reply = requests.post(server.listening_address + route, json=body, timeout=120)
    reply.raise_for_status()
    return reply.json()


def answer_of(server, prompt, tokens, lora=()):
    """Greedy answer of llama.cpp as token ids with the end of text; `lora` as [{"id", "scale"}]."""
    body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "return_tokens": True}
    body |= {"cache_prompt": False} | ({"lora": list(lora)} if lora else {})
    return post(server, "/completion", body)["tokens"]


@torch.inference_mode()
def answer_by_transformers(model, tokenizer, prompt, tokens):
    """The same of transformers."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    return out[0, ids.shape[1] :].tolist()


def texts_that_differ(server, tokenizer, texts=NASTY):
    """Those of the texts that llama.cpp cuts into other tokens than the tokenizer."""

    def theirs(text):
        body = {"content": text, "add_special": True, "parse_special": True}
        return post(server, "/tokenize", body)["tokens"]

    return [text for text in texts if theirs(text) != tokenizer(text)["input_ids"]]


def weights_that_differ(path, model, kind):
    """Names of the tensors whose values in the file are not the model's, rounded as in `kind`."""
    there, wrong = {t.name: t for t in gguf.GGUFReader(path).tensors}, []
    for target, array in arrays(model):
        want, found = array if array.ndim == 1 else rounded(array, kind), there.pop(target, None)
        same = found is not None and np.array_equal(
            gguf.quants.dequantize(found.data, found.tensor_type).reshape(want.shape), want
        )
        wrong += [] if same else [target]
    return wrong + list(there)


def have_llama_cpp():
    """Can llama.cpp be loaded here?"""
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        return False
    return True


def prompts(path=None, count=20):
    """`count` prompts to compare on: lines {"prompt"} of a file, or the course's test questions."""
    from utils import tasks

    rows = tasks.read_rows(pathlib.Path(path)) if path else tasks.load("facts", "test")
    return [row["prompt"] for row in rows[:count]]


def check(path, kind, merged, tokenizer, questions, wanted, tokens):
    """(sentence, is it as it must be) about one file: its weights, its tokens, its answers."""
    if wrong := weights_that_differ(path, merged, kind):
        return f"{len(wrong)} tensors are not the model's, such as {wrong[0]}", False
    said = ["weights as the model's" if kind == "f32" else f"weights as the model's, in {kind}"]
    if not have_llama_cpp():
        return f"{said[0]}; llama.cpp is not here (xllamacpp), so no answers were compared", True
    server = serve(path, context=min(1024, merged.config.max_position_embeddings))
    differ = texts_that_differ(server, tokenizer)
    same = sum(answer_of(server, q, tokens) == w for q, w in zip(questions, wanted))
    del server
    said.append(f"{len(differ)} of {len(NASTY)} nasty texts cut otherwise")
    said.append(f"{same} of {len(wanted)} answers token for token as transformers'")
    return "; ".join(said), not differ and (same == len(wanted) or kind != "f32")


def run(
    folder,
    base=None,
    kinds=("f16", "q8_0"),
    to=None,
    rounded=False,
    ask=None,
    template=None,
    tokens=40,
    say=print,
):
    """Export a folder, check every file, and return the files; Refused if nothing can be.

    A float32 file is always written and compared, and kept only if asked for. A file that fails its
    check is removed.
    """
    folder = pathlib.Path(folder)
    model, tokenizer, adapter = load(folder, base, rounded)
    if template:
        tokenizer.chat_template = pathlib.Path(template).read_text(encoding="utf-8")
    to = pathlib.Path(to) if to else ROOT / "build" / "export" / folder.resolve().name
    to.mkdir(parents=True, exist_ok=True)
    questions, made = prompts(ask), []
    wanted = [answer_by_transformers(model, tokenizer, q, tokens) for q in questions]
    name = folder.resolve().name
    if adapter:
        try:
            made.append(export_adapter(model, to / f"{name}-adapter.gguf", name=name))
            say(f"{made[0].name}: {made[0].stat().st_size:,} bytes, to be applied on its base")
        except (Refused, AttributeError) as error:
            say(f"no file of the adapter alone: {error}")
        model = model.merge_and_unload(safe_merge=True)
    if not tokenizer.chat_template:
        say("no chat template: llama.cpp will use ChatML for chats, which this model has not seen")
    with tempfile.TemporaryDirectory() as spare:
        for kind in dict.fromkeys(["f32", *kinds]):
            path = (to if kind in kinds else pathlib.Path(spare)) / f"{name}-{kind}.gguf"
            export(model, tokenizer, path, kind, name)
            sentence, fine = check(path, kind, model, tokenizer, questions, wanted, tokens)
            say(f"{path.name}: {path.stat().st_size:,} bytes; {sentence}")
            if not fine:
                path.unlink()
                raise Refused(f"{path.name} does not answer as the model does and was removed.")
            made += [path] if kind in kinds else []
    return made


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--base", help="folder of the adapter's base, in 16 or 32 bits")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=["f16", "q8_0"])
    parser.add_argument("--to", help="folder for the files, else build/export/<name>")
    parser.add_argument("--rounded", action="store_true", help="round the base to NF4 first")
    parser.add_argument("--ask", help="JSON lines with a prompt each, to compare answers on")
    parser.add_argument("--chat-template", help="file with a Jinja template, put into the files")
    given = parser.parse_args()
    colab.quieten()
    try:
        made = run(
            given.folder,
            given.base,
            given.kinds,
            given.to,
            given.rounded,
            given.ask,
            template=given.chat_template,
        )
    except Refused as refused:
        sys.exit(f"Not exported. {refused}")
    print(f"In {made[0].parent}: " + ", ".join(path.name for path in made))


if __name__ == "__main__":
    main()
