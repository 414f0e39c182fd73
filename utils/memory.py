"""Byte arithmetic: how many parameters a method trains, what a run holds in memory, and whether
a card has room for it.

    model shape -> trainable tensors -> plan: weights, adapter, gradients, optimiser, activations,
    logits -> does it fit?

Units: every count is in bytes. GB = 1e9 bytes, GiB = 2**30 bytes; what is printed always says
which. Importing this module imports no torch, so a notebook can check its budget before it imports
unsloth.
"""

import dataclasses
import operator
import os

GB, GIB, MIB = 10**9, 2**30, 2**20
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes a value
# torch.cuda.get_device_properties(0).total_memory in GiB; of several reported, the smallest.
CARDS = {"T4": 14.748, "L4": 22.161, "A100-40": 39.394, "A100-80": 79.151, "H100": 79.179}
# An allowance for the driver's context, which takes its part before PyTorch allocates anything.
CUDA_CONTEXT = GIB // 2
CUBLAS_WORKSPACE = 2 * 4 * MIB + 8 * 16 * 1024  # PyTorch's default setting ":4096:2:16:8"
METHODS = ("full", "head", "lora", "ia3", "prefix", "prompt", "p-tuning", "adapter")
QUANTISATIONS = (None, "nf4", "nf4-dq")
OPTIMIZERS = ("sgd", "adamw", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")
# How the loss makes its logits. "full": all positions at once. "chunked_nll": TRL's default, 256
# labelled positions at a time. "unsloth": as many at a time as half of the free memory holds, at
# most 4 GiB. "unsloth-2024": all at once, the gradient written over them.
LOSSES = ("full", "chunked_nll", "unsloth", "unsloth-2024")
TRL_CHUNK = 256  # positions; trl.trainer.sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE
# Bytes a logit while a chunk is worked on: logits, their log-softmax and two more of its size, in
# fp32 (TRL: measured by a test; Unsloth sizes its chunks by the same 16).
CHUNKED_BYTES = 16
UNSLOTH_CHUNK = 4 * GIB
MARGIN = 0.05  # a plan is within 5 % of what is measured, so a fit with less to spare may fail
# Layers whose activations a test counts in the real model. Others are refused by `plan`.
KNOWN_LAYERS = ("mistral", "llama", "qwen2", "qwen3", "granite")
SHARDED = {1: "optimiser state", 2: "and gradients", 3: "and parameters (FSDP)"}  # ZeRO's stages


@dataclasses.dataclass(frozen=True)
class Linear:
    """`count` linear layers with one name and one weight shape [d_out, d_in]."""

    name: str
    d_in: int
    d_out: int
    count: int


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """A decoder by its sizes, in values. `linears`: the blocks' matrices, without embedding and
    head.

    `norms`: parameters of all norms. `parameters`: all, tied ones once. `embeddings`: all embedding
    tables; `head`: an output matrix of its own, 0 where it is tied. `vectors`: (values, how many)
    of one-dimensional parameters. `family`: transformers' model type, which names the layer.
    """

    name: str
    hidden: int
    layers: int
    kv_width: int  # key/value heads x head size
    head_size: int
    ffn: int
    vocab: int
    context: int
    linears: tuple
    norms: int
    parameters: int
    embeddings: int
    head: int
    vectors: tuple
    family: str

    @property
    def block_weights(self):
        return sum(x.d_in * x.d_out * x.count for x in self.linears)

    @property
    def largest_layer(self):
        """Values of one decoder layer's matrices: what FSDP gathers at a time."""
        return self.block_weights // self.layers


def _llama_like(name, vocab, context, d=4096, L=32, kv=1024, ffn=14336):
    """Llama and Mistral: gated feed-forward, no biases, two RMSNorms a layer, one at the end, own
    head."""
    shapes = {
        "q_proj": (d, d),
        "k_proj": (d, kv),
        "v_proj": (d, kv),
        "o_proj": (d, d),
        "gate_proj": (d, ffn),
        "up_proj": (d, ffn),
        "down_proj": (ffn, d),
    }
    linears, norms = tuple(Linear(n, *s, L) for n, s in shapes.items()), (2 * L + 1) * d
    total = sum(x.d_in * x.d_out * L for x in linears) + 2 * vocab * d + norms
    vectors, family = ((d, 2 * L + 1),), "mistral"
    return ModelShape(
        name,
        d,
        L,
        kv,
        128,
        ffn,
        vocab,
        context,
        linears,
        norms,
        total,
        vocab * d,
        vocab * d,
        vectors,
        family,
    )


def _gpt3(d=12288, L=96):
    """GPT-3 (arXiv 2005.14165). Its total is the one that LoRA's Table 4 counts from: 175,255.8M
    (arXiv 2106.09685); what the shapes do not explain of it are biases."""
    linears = tuple(Linear(n, d, d, L) for n in ("q_proj", "k_proj", "v_proj", "o_proj"))
    linears += (Linear("fc_in", d, 4 * d, L), Linear("fc_out", 4 * d, d, L))
    total, vocab, context = 175_255_800_000, 50257, 2048
    tables = (vocab + context) * d
    rest = total - tables - sum(x.d_in * x.d_out * x.count for x in linears)
    norms, vectors = (2 * L + 1) * 2 * d, ((rest // L, L),)
    return ModelShape(
        "GPT-3 175B",
        d,
        L,
        d,
        128,
        4 * d,
        vocab,
        context,
        linears,
        norms,
        total,
        tables,
        0,
        vectors,
        "gpt3",
    )


MODELS = {
    "mistral-7b-v0.1": _llama_like("Mistral-7B v0.1", 32000, 32768),
    "gpt-3-175b": _gpt3(),
    "mistral-7b-v0.3": _llama_like("Mistral-7B v0.3", 32768, 32768),
    "llama-3-8b": _llama_like("Llama-3 8B", 128256, 8192),
}


EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def from_transformers(config, name=None):
    """ModelShape of a transformers causal-LM config (or model), built on the meta device: no
    memory.

    ValueError, naming the model type, for what would be counted wrong: mixtures of experts, layers
    of different widths, and parameters that are no matrix of a linear layer, no embedding and no
    vector (fused 3-D experts, convolutions).
    """
    import torch
    from transformers import AutoModelForCausalLM

    c = getattr(config, "config", config)
    kind = getattr(c, "model_type", type(c).__name__)

    def refuse(why):
        return ValueError(f"utils.memory cannot count a {kind!r} model: {why}.")

    if experts := [k for k in EXPERTS if (getattr(c, k, None) or 0) > 1]:
        raise refuse(f"it is a mixture of experts ({experts[0]}={getattr(c, experts[0])})")
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    needed += ("max_position_embeddings",)
    for key in (*needed, "num_key_value_heads", "intermediate_size"):
        value = getattr(c, key, None)
        if value is None and key in needed:
            raise refuse(f"its config has no {key}")
        if value is not None and not isinstance(value, int):
            raise refuse(f"its layers differ ({key} is {value!r})")
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(c)
    except Exception as error:
        first = str(error).strip().split("\n")[0][:160]
        raise refuse(f"transformers builds no causal LM from its config ({first})") from error
    found, vectors, tables, seen, odd = {}, {}, {}, {}, []
    head = model.get_output_embeddings()
    for path, module in model.named_modules():
        for key, p in module.named_parameters(recurse=False):
            if p in seen:
                continue
            seen[p] = True
            if isinstance(module, torch.nn.Embedding):
                tables[p] = p.numel()
            elif p.dim() == 1:
                norm = "norm" in type(module).__name__.lower()
                vectors[norm, p.numel()] = vectors.get((norm, p.numel()), 0) + 1
            elif p.dim() != 2 or not (
                isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
            ):
                odd.append((p.dim(), f"{path}.{key} [{' x '.join(map(str, p.shape))}]"))
            elif module is not head:  # GPT-2's Conv1D: [in, out]
                d_out, d_in = p.shape if isinstance(module, torch.nn.Linear) else p.shape[::-1]
                layer = (path.rsplit(".", 1)[-1], d_in, d_out)
                found[layer] = found.get(layer, 0) + 1
    if odd:
        most = max(odd, key=lambda one: one[0])[1]
        raise refuse(f"{most} is neither a linear layer's matrix, an embedding nor a vector")
    size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    total, embeddings = model.num_parameters(), sum(tables.values())
    counted = sum(
        n * values * count
        for n, values, count in [(n, k[1] * k[2], 1) for k, n in found.items()]
        + [(n, k[1], 1) for k, n in vectors.items()]
    )
    return ModelShape(
        name or kind,
        c.hidden_size,
        c.num_hidden_layers,
        size * (getattr(c, "num_key_value_heads", None) or c.num_attention_heads),
        size,
        getattr(c, "intermediate_size", None) or 4 * c.hidden_size,
        c.vocab_size,
        c.max_position_embeddings,
        tuple(Linear(*key, n) for key, n in found.items()),
        sum(values * n for (norm, values), n in vectors.items() if norm),
        total,
        embeddings,
        total - embeddings - counted,
        tuple((values, n) for (_, values), n in vectors.items()),
        kind,
    )


def model_shape(model):
    """ModelShape from a name in MODELS, a ModelShape, a transformers config or a model.

    ValueError for another name, and for a config that would be counted wrong (`from_transformers`).
    """
    if isinstance(model, str):
        return MODELS[_one_of(model, MODELS, "model")]
    return model if isinstance(model, ModelShape) else from_transformers(model)


def _one_of(value, allowed, what):
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not one of: {', '.join(map(str, allowed))}")
    return value


def _targets(model, target_modules):
    names = [x.name for x in model.linears]
    chosen = (
        names
        if target_modules == "all-linear"
        else [target_modules]
        if isinstance(target_modules, str)
        else target_modules
    )
    return [
        x for x in model.linears if x.name in [_one_of(n, names, "target module") for n in chosen]
    ]


def trainable_tensors(
    model, method="lora", rank=16, target_modules="all-linear", virtual_tokens=20, bottleneck=64
):
    """[(values, how many such tensors)] that `method` trains. ValueError: unknown method or target.

    lora 2106.09685: A [rank, d_in] and B [d_out, rank] at every target. ia3 2205.05638: l_k, l_v,
    l_ff. prefix 2101.00190: keys and values of virtual tokens in every layer. prompt 2104.08691:
    virtual tokens at the input. p-tuning 2103.10385: the same and peft's MLP of three matrices.
    adapter 1902.00751: two bottlenecks a layer, and the norms.
    """
    m = model_shape(model)
    tables, others = _trained(m, method, rank, target_modules, virtual_tokens, bottleneck)
    return tables + others


def _trained(m, method, rank, target_modules, virtual_tokens, bottleneck):
    """(embedding tables, other tensors) that `method` trains, each as [(values, how many)]."""
    d, L = m.hidden, m.layers
    p, b = _count(virtual_tokens, "virtual_tokens"), _count(bottleneck, "bottleneck")
    rank = _count(rank, "rank")
    if method == "lora":
        sides = [(x, side) for x in _targets(m, target_modules) for side in (x.d_in, x.d_out)]
        return [], [(rank * side, x.count) for x, side in sides]
    blocks = [(x.d_in * x.d_out, x.count) for x in m.linears]
    return {
        "full": ([(m.embeddings, 1)], blocks + [(m.head, 1)] * bool(m.head) + list(m.vectors)),
        "head": ([], [(m.vocab * d, 1)]),
        "ia3": ([], [(m.kv_width, 2 * L), (m.ffn, L)]),
        "prefix": ([(2 * L * p * m.kv_width, 1)], []),
        "prompt": ([(p * d, 1)], []),
        "p-tuning": ([(p * d, 1)], [(d * d, 3), (d, 3)]),
        "adapter": ([], [(b * d, 4 * L), (b + d, 2 * L), (m.norms, 1)]),
    }[_one_of(method, METHODS, "method")]


def _count(value, what):
    """`value` as a whole number of at least 1; ValueError otherwise."""
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    if whole < 1 or isinstance(value, bool):
        raise ValueError(f"{what} must be a whole number, at least 1; it is {value!r}")
    return whole


def trainable_parameters(model, method="lora", **settings):
    """How many parameters `method` trains; settings as in `trainable_tensors`."""
    return sum(values * count for values, count in trainable_tensors(model, method, **settings))


def lora_parameters(model, rank, target_modules="all-linear"):
    """Sum of rank * (d_in + d_out) over the target modules: names as in peft, or "all-linear"
    (arXiv 2106.09685)."""
    return trainable_parameters(model, "lora", rank=rank, target_modules=target_modules)


def adapter_file_bytes(model, method="lora", dtype="float16", **settings):
    """Bytes of the tensors in a saved adapter; the file's header adds some kB. P-tuning saves the
    prompt, not its MLP."""
    return (
        trainable_parameters(model, "prompt" if method == "p-tuning" else method, **settings)
        * WIDTH[dtype]
    )


def nf4_bytes(values, double_quant=True, tables=True):
    """Bytes of one 4-bit tensor as bitsandbytes stores it (QLoRA, arXiv 2305.14314).

    Two values a byte, and an fp32 absmax for every 64 values. Double quantisation makes each absmax
    one byte, with an fp32 absmax for every 256 of them. `tables`: the tensor's own code books, 16
    (and 256) fp32 values, and an fp32 offset.
    """
    blocks = -(-values // 64)
    if not double_quant:
        return -(-values // 2) + 4 * blocks + 4 * 16 * tables
    return -(-values // 2) + blocks + 4 * -(-blocks // 256) + 4 * (16 + 256 + 1) * tables


def weight_bytes(model, quantisation=None, dtype="float16", kbit_casts=False):
    """Bytes of the base. 4-bit covers the blocks' linear layers; embeddings, head, norms and biases
    stay in `dtype`, or in fp32 after peft's prepare_model_for_kbit_training (`kbit_casts`)."""
    m = model_shape(model)
    width = 4 if kbit_casts else WIDTH[dtype]
    if _one_of(quantisation, QUANTISATIONS, "quantisation") is None:
        return m.parameters * width
    blocks = sum(x.count * nf4_bytes(x.d_in * x.d_out, quantisation == "nf4-dq") for x in m.linears)
    return blocks + (m.parameters - m.block_weights) * width


def optimizer_bytes(tensors, optimizer="adamw_8bit", tables=()):
    """State for [(values, count)] of fp32 tensors.

    AdamW: two fp32 moments. 8-bit AdamW (arXiv 2110.02861): two bytes a value, two fp32 absmax for
    every 256, two code books; bitsandbytes keeps tensors of under 4,096 values in fp32. `tables`:
    trained embedding tables, whose state transformers' Trainer keeps in fp32 under an 8-bit
    optimiser (Trainer.create_optimizer).
    """
    if _one_of(optimizer, OPTIMIZERS, "optimizer") == "sgd":
        return 0
    small = 4096 if "8bit" in optimizer else float("inf")
    books = 2 * 4 * 256 * any(n >= small for n, _ in tensors)
    return (
        books
        + sum(count * (8 * n if n < small else 2 * n + 8 * -(-n // 256)) for n, count in tensors)
        + sum(8 * n * count for n, count in tables)
    )


def full_tuning_bytes(parameters, per_parameter=16):
    """Mixed-precision full tuning with Adam, before activations. 16 bytes a parameter = 2 weight +
    2 gradient + 12 fp32 weight and moments (ZeRO, arXiv 1910.02054); 18 = 6 weight in both
    precisions + 8 moments + 4 fp32 gradient (autocast)."""
    return _one_of(per_parameter, (16, 18), "bytes a parameter") * parameters


def _saved_by_layer(m, method, rank, target_modules, half):
    """Values a token that autograd keeps of one layer of KNOWN_LAYERS in plain PyTorch (a test
    counts them in real models). `half`: 16-bit values."""
    d, q = m.hidden, next(x.d_out for x in m.linears if x.name == "q_proj")
    # In 16-bit each norm holds its input in fp32: one value more of 2 bytes, twice a layer.
    values = 2 * d if half else 0
    normed = q + m.kv_width if m.family == "qwen3" else 0  # norms of queries and keys
    if method in ("full", "adapter"):
        # 6 hidden: in norms and projections; 2 q: query, attention; 4 ffn: gate, silu, up, product
        return values + 6 * d + 2 * (q + m.kv_width) + 4 * m.ffn + normed * (3 if half else 2)
    # A frozen matrix keeps no input.
    values += 2 * d + 2 * (q + m.kv_width) + 3 * m.ffn + normed * (2 if half else 1)
    targets = _targets(m, target_modules) if method == "lora" else []
    if half:  # each fp32 adapter keeps its own fp32 copy of its input: two values of 2 bytes
        return values + sum(2 * (x.d_in + rank) for x in targets)
    shared = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv"}
    shared |= {"gate_proj": "mlp", "up_proj": "mlp"}
    kept = {shared.get(x.name, x.name): x.d_in for x in targets if x.name != "o_proj"}
    return values + sum(kept.values()) + rank * len(targets)  # o's input is kept anyway


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """Bytes of one training run on one device, one of `shards` processes.

    `buffers`: one dequantised weight, the workspace of cuBLAS, and what processes exchange. `host`:
    what checkpointing sends to the CPU's memory, not part of `total`.
    """

    model: ModelShape
    settings: dict
    trainable: int  # parameters of the whole run, not bytes
    weights: int
    adapter: int
    gradients: int
    optimiser: int
    rope_tables: int
    activations: int
    logits: int
    buffers: int
    host: int

    @property
    def state(self):
        """Bytes that stay from step to step."""
        return self.weights + self.adapter + self.gradients + self.optimiser

    @property
    def loaded(self):
        """Bytes before the first step."""
        return self.weights + self.adapter + self.rope_tables

    @property
    def total(self):
        """Bytes at the peak of a step."""
        return self.state + self.rope_tables + self.activations + self.logits + self.buffers

    def rows(self):
        """[(what, GB, GiB)], the total last."""
        names = [f.name for f in dataclasses.fields(self)[3:-1]] + ["total"]
        return [(n.replace("_", " "), getattr(self, n) / GB, getattr(self, n) / GIB) for n in names]

    def title(self):
        """One line: model, method, precision, tokens, and which part of how many processes."""
        s = self.settings
        rank = f" r={s['rank']}" if s["method"] == "lora" else ""
        base = s["quantisation"] or s["dtype"]
        tokens = f"batch {s['batch']} x {s['length']} tokens"
        many = f", one of {s['shards']} processes (ZeRO stage {s['zero']})"
        return f"{self.model.name}, {s['method']}{rank}, {base}, {tokens}" + many * (
            s["shards"] > 1
        )

    def __str__(self):
        head = f"{self.title()}, {self.trainable:,} trainable\n"
        head += f"{'':12} {'GB (1e9)':>10} {'GiB (2**30)':>12}\n"
        return head + "\n".join(f"{n:12} {gb:10.3f} {gib:12.3f}" for n, gb, gib in self.rows())

    __repr__ = __str__

    def _repr_html_(self):
        body = "".join(
            f"<tr><td>{n}</td><td>{gb:.3f}</td><td>{gib:.3f}</td></tr>"
            for n, gb, gib in self.rows()
        )
        return (
            f"<p>{self.title()}, {self.trainable:,} trainable</p>"
            '<table><thead><tr><th scope="col"></th><th scope="col">GB (1e9)</th>'
            f'<th scope="col">GiB (2**30)</th></tr></thead><tbody>{body}</tbody></table>'
        )

    def on(self, room, **change):
        """The same run planned for a device with `room` bytes: Unsloth's loss takes what is
        left."""
        return plan(self.model, **{**self.settings, **change, "room": room})

    def advice(self, free_bytes, where="this device"):
        """ "" if the plan fits into `free_bytes` with 5 % to spare. Else a sentence: by how much it
        does not fit and what to turn, or how little it leaves."""
        here = self.on(free_bytes)
        if here.total <= free_bytes:
            return here._tight(free_bytes, where)
        s = self.settings

        def need(change):
            return self.on(free_bytes, **change).total

        turns = {
            "checkpointing": ["unsloth"],
            "optimizer": ["adamw_8bit"],
            "batch": range(s["batch"] - 1, 0, -1),
            "length": range((s["length"] - 1) // 64 * 64, 0, -64),
            **({"method": ["lora"]} if s["method"] == "full" else {"quantisation": ["nf4-dq"]}),
        }
        text = (
            f"{self.title()}: needs {here.total / GIB:.2f} GiB, {where} has "
            f"{free_bytes / GIB:.2f} GiB free, {(here.total - free_bytes) / GIB:.2f} GiB too "
            "little. "
        )
        enough = [
            next(
                (
                    f"{k}={v!r} ({need({k: v}) / GIB:.2f} GiB)"
                    for v in values
                    if need({k: v}) <= free_bytes
                ),
                "",
            )
            for k, values in turns.items()
        ]
        if any(enough):
            return text + f"Any one of these is enough: {'; '.join(filter(None, enough))}."
        least = {k: values[-1] for k, values in turns.items() if values and values[-1] != s[k]}
        end = (
            "is enough."
            if need(least) <= free_bytes
            else "is not enough: take a smaller base or a larger card."
        )
        turned = ", ".join(f"{k}={v!r}" for k, v in least.items())
        return text + f"All of {turned} together ({need(least) / GIB:.2f} GiB) {end}"

    def _tight(self, free_bytes, where):
        spare = free_bytes - self.total
        if spare >= MARGIN * free_bytes:
            return ""
        return (
            f"{self.title()}: needs {self.total / GIB:.2f} GiB and {where} has "
            f"{free_bytes / GIB:.2f} GiB free, {max(spare, 0) / GIB:.2f} GiB to spare. The plan is "
            f"right within {MARGIN:.0%}, so this may fail: try one step with the longest rows "
            "first."
        )

    def why_not(self, card):
        """The sentence that says why the plan does not fit a card in CARDS, its CUDA context taken
        off; "" if it fits. ValueError for another card."""
        return "" if self.fits(card) else self.advice(usable_bytes(card), card)

    def fits(self, card):
        """Does the plan fit a card in CARDS? `verdict` also says when it does so only just."""
        return self.on(usable_bytes(card)).total <= usable_bytes(card)

    def verdict(self, card):
        """ "fits", "fits, less than 5 % to spare" or "too small", for a card in CARDS."""
        room = usable_bytes(card)
        here = self.on(room).total
        if here > room:
            return "too small"
        return "fits" if room - here >= MARGIN * room else f"fits, less than {MARGIN:.0%} to spare"


def usable_bytes(card):
    """Bytes of a card in CARDS that are left to PyTorch."""
    return round(CARDS[_one_of(card, CARDS, "card")] * GIB) - CUDA_CONTEXT


def plan(
    model="mistral-7b-v0.3",
    method="lora",
    rank=16,
    target_modules="all-linear",
    quantisation="nf4-dq",
    batch=2,
    length=2048,
    optimizer="adamw_8bit",
    checkpointing="unsloth",
    dtype="float16",
    virtual_tokens=20,
    bottleneck=64,
    rope_tables=1,
    loss=None,
    kbit_casts=False,
    trainer=True,
    shards=1,
    zero=3,
    room=None,
    stored=None,
    unsloth=False,
):
    """The Plan of a run on one CUDA device, or of each of `shards` processes with a device each.

    batch, length: rows of one process and tokens of the longest, since the longest batch decides
    the peak. quantisation: None, "nf4", "nf4-dq" (double). checkpointing (arXiv 1604.06174): False,
    True, or "unsloth", which keeps the layers' inputs in the CPU's memory and runs Unsloth's fused
    kernels. rope_tables: cos/sin tables over the whole context that Unsloth holds: one today, one a
    layer in 2024.5. What PEFT trains is fp32, as peft and Unsloth cast it; full tuning in 16-bit is
    mixed precision, 16 bytes a parameter.

    loss: one of LOSSES; None is "unsloth" with Unsloth's kernels, else "full". "chunked_nll" is
    what TRL's SFTTrainer does by itself. room: free bytes of the device; Unsloth's loss takes half
    of what the rest leaves of it, at most 4 GiB (None: 4 GiB), so `fits` and `advice` plan anew for
    their card. kbit_casts: peft's prepare_model_for_kbit_training was called: what is not 4-bit,
    and with it every activation, is fp32. trainer: transformers' Trainer or a child of it makes the
    optimiser and keeps the state of embeddings in fp32.

    stored: the 16-bit type that a 4-bit base was quantised from, if it was saved as 4-bit. Its
    weights come back in that type, and in another arithmetic each is then cast: two copies of one
    weight. unsloth: Unsloth runs it without its checkpointing, as on a CPU, and its rope tables are
    there all the same. (Both were found at Mistral-7B's true size, tools/true_size.py.)

    zero: what is shared out over `shards` processes (ZeRO, arXiv 1910.02054): 0 nothing (DDP), 1
    the optimiser's state, 2 gradients too, 3 parameters too (FSDP). Each holds 1/shards of it; rows
    that do not divide make one process hold more. At stage 3 two layers are whole at a time: the
    one at work and the next. DDP copies the gradients into buckets.

    ValueError for an unknown choice, a batch or length under 1, full tuning in 4-bit, and a model
    whose layers are not in KNOWN_LAYERS.
    """
    settings = {k: v for k, v in locals().items() if k != "model"}
    m, width = model_shape(model), WIDTH[_one_of(dtype, WIDTH, "dtype")]
    if m.family not in KNOWN_LAYERS:
        raise ValueError(
            f"plan knows the layers of {', '.join(KNOWN_LAYERS)}; those of {m.name} ({m.family!r}) "
            "keep other activations and would be counted wrong. weight_bytes, trainable_parameters "
            "and optimizer_bytes do count it."
        )
    batch, length = _count(batch, "batch"), _count(length, "length")
    shards = _count(shards, "shards")
    _one_of(zero, (0, *SHARDED), "zero")
    fused = _one_of(checkpointing, (False, True, "unsloth"), "checkpointing") == "unsloth"
    loss = _one_of(loss or ("unsloth" if fused else "full"), LOSSES, "loss")
    own = method in ("full", "head")  # trains the base's own weights
    if method == "full" and quantisation:
        raise ValueError(
            "4-bit weights cannot be trained: pass quantisation=None, or method='lora'"
        )
    tables, others = _trained(m, method, rank, target_modules, virtual_tokens, bottleneck)
    trained = sum(values * count for values, count in tables + others)
    if not trainer:
        tables, others = [], tables + others
    optimiser = optimizer_bytes(others, optimizer, tables)
    if own and width == 2 and optimizer != "sgd":
        optimiser += 4 * trained  # fp32 copy
    gradients = trained * (width if own else 4)
    weights = weight_bytes(m, quantisation, dtype, kbit_casts)
    if kbit_casts:
        width = 4
    half = width == 2
    virtual = virtual_tokens if method in ("prompt", "p-tuning") else 0
    seen = batch * (length + virtual)  # tokens in one pass
    # One layer in its backward pass. Unsloth's kernels keep 9 hidden (the layer's input and output,
    # both norms' outputs, q, k and v with k, v repeated to all heads, attention, its residual sum)
    # and 2 ffn (gate, up), and work on 1 hidden and 1 ffn: the gradient that comes in and the one
    # of the feed-forward's product.
    layer = (
        10 * m.hidden + 3 * m.ffn
        if fused
        else _saved_by_layer(m, method, rank, target_modules, half)
    )
    kept = seen * width * m.layers * m.hidden if checkpointing else 0  # every layer's input
    # 2: in and out of the last norm
    activations = seen * width * (layer * (1 if checkpointing else m.layers) + 2 * m.hidden)
    # one weight at a time, with its absmax in fp32
    biggest = max(x.d_in * x.d_out for x in m.linears)
    buffers = CUBLAS_WORKSPACE + (biggest * width + biggest // 64 * 4 if quantisation else 0)
    if quantisation and stored and _one_of(stored, WIDTH, "stored") != dtype:
        buffers += biggest * WIDTH[stored]
    # Unsloth builds at most 32,768 positions.
    rope = rope_tables * 2 * min(m.context, 32768) * m.head_size * width if fused or unsloth else 0
    if shards > 1 and zero == 0:
        buffers += gradients
    adapter = 0 if own else 4 * trained
    rest = (m.parameters - m.block_weights) * width  # embeddings, head, norms, biases
    if shards > 1 and zero == 3:
        buffers += 2 * (weights + adapter - rest) // m.layers
    if zero >= 1:
        optimiser = -(-optimiser // shards)
    if zero >= 2:
        gradients = -(-gradients // shards)
    if zero == 3:
        # bitsandbytes' absmax and code books are no parameters: every process keeps all of them.
        codes = sum(x.count * -(-x.d_in * x.d_out // 2) for x in m.linears)
        tables = weights - codes - rest if quantisation else 0
        weights = tables + -(-(weights - tables) // shards)
        adapter = -(-adapter // shards)
    # total adds logits and activations though they are never all alive at once: PyTorch's caching
    # allocator keeps freed blocks, and blocks cut for the logits seldom suit a layer.
    # (transformers 4.41 empties the cache once a pass, after the forward.)
    planned = Plan(
        model=m,
        settings=settings,
        trainable=trained,
        weights=weights,
        adapter=adapter,
        gradients=gradients,
        optimiser=optimiser,
        rope_tables=rope,
        activations=activations + (0 if fused else kept),
        logits=0,
        buffers=buffers,
        host=kept if fused else 0,
    )
    free = None if room is None else room - planned.total
    logits = _logit_bytes(m, loss, seen, width, own, free)
    return dataclasses.replace(planned, logits=logits)


def _logit_bytes(m, loss, seen, width, head_trained, free):
    """Bytes of logits and what the loss makes of them, for `seen` positions; `free`: bytes left."""
    if loss == "chunked_nll":
        # Hidden states packed in order of their labels; the head cast to fp32; a trained head's
        # gradient is fp32 until it is added.
        head = m.vocab * m.hidden * 4
        packed = seen * m.hidden * width
        return (
            CHUNKED_BYTES * min(TRL_CHUNK, seen) * m.vocab
            + packed
            + head * (width == 2)
            + head * head_trained
        )
    if loss == "unsloth":
        # What unsloth_zoo.fused_losses allows itself; a compiled loss may take less of it.
        target = UNSLOTH_CHUNK if free is None else min(UNSLOTH_CHUNK, max(free, 0) // 2)
        return min(CHUNKED_BYTES * seen * m.vocab, target)
    # accelerate makes an fp32 copy of 16-bit outputs. Unsloth's cross-entropy of 2024 writes the
    # gradient over the logits; PyTorch's keeps a log-softmax, then a gradient, both fp32.
    copies = (4 if width == 2 else 0) + (0 if loss == "unsloth-2024" else 8)
    return seen * m.vocab * (width + copies)


def published_t4_run(model="mistral-7b-v0.3", length=1304):
    """The Plan of Unsloth's public T4 notebooks, release 2024.5: r=16 on all linears, batch 2,
    Alpaca unpacked, adamw_8bit.

    They print GiB and call it GB: Mistral-7B v0.3 4.52 loaded, 5.836 at the peak; Llama-3 8B 5.594
    and 7.535. They do not print lengths: `length` is an assumption. 1,304 tokens is the longest of
    the 51,759 rows of a cleaned Alpaca in Llama-2's 32k vocabulary, 1,044 in a 50k one (lit-gpt's
    resource tables), taken as a bound for the 480 rows that 60 steps draw. That release kept a
    rotary table in each layer, over all 32,768 (Llama-3: 8,192) positions, and made the logits of
    all positions at once.
    """
    layers = model_shape(model).layers
    return plan(model, length=length, rope_tables=layers, loss="unsloth-2024")


class DoesNotFit(MemoryError):
    """A run refused before it starts; the message says by how much it is too big and what to
    turn."""


def refuse_if_too_small(planned, free_bytes):
    """Raise DoesNotFit unless the Plan fits into `free_bytes` (before loading:
    torch.cuda.mem_get_info()[0]). Returns "" or the sentence that it fits with less than 5 % to
    spare, for the caller to show."""
    sentence = planned.advice(free_bytes)
    if planned.on(free_bytes).total > free_bytes:
        raise DoesNotFit(sentence)
    return sentence


def measured_state(model, optimizer=None):
    """Bytes that real tensors hold, each storage once, to set against a Plan: {"weights",
    "adapter", "gradients", "optimiser"}. Of a sharded tensor (DTensor), what this process holds.

    weights: the base, with absmax and code books of 4-bit layers; adapter: what is trained where
    the rest is frozen.
    """
    seen = set()

    def size(tensor):
        tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if not hasattr(tensor, "data_ptr") or not tensor.numel() or tensor.data_ptr() in seen:
            return 0
        seen.add(tensor.data_ptr())
        return tensor.numel() * tensor.element_size()

    def quantised(state):
        """Of bitsandbytes' QuantState; double quantisation nests a second one for the absmax."""
        if state is None:
            return 0
        own = sum(size(getattr(state, k)) for k in ("absmax", "code", "offset"))
        return own + quantised(state.state2)

    parameters, states = list(model.parameters()), optimizer.state.values() if optimizer else ()
    trained = sum(size(p) for p in parameters if p.requires_grad)
    frozen = sum(
        size(p) + quantised(getattr(p, "quant_state", None))
        for p in parameters
        if not p.requires_grad
    )
    # A sharded 4-bit weight has lost its quant_state; the layer still has it.
    frozen += sum(quantised(getattr(m, "quant_state", None)) for m in model.modules())
    return {
        "weights": frozen or trained,
        "adapter": trained if frozen else 0,
        "gradients": sum(size(p.grad) for p in parameters),
        "optimiser": sum(size(value) for state in states for value in state.values()),
    }


def planner_table(
    model="mistral-7b-v0.3",
    ranks=(8, 16, 64),
    lengths=(512, 1024, 2048),
    batches=(1, 2, 4, 8),
    card="T4",
    interactive=None,
    **settings,
):
    """Print the planned GiB over rank, length and batch on `card`; settings as in `plan`. "!" marks
    what does not fit, "~" what fits with less than 5 % to spare.

    In JupyterLab and Colab menus to turn follow if ipywidgets is there; a notebook run without a
    front end prints this text only, so that its stored output stays the same. `interactive=True` or
    `False` decides it.
    """
    m, room = model_shape(model), usable_bytes(card)
    print(
        f"{m.name} on {card} ({room / GIB:.2f} GiB to use): planned GiB (2**30 bytes), "
        f"! does not fit, ~ fits with less than {MARGIN:.0%} to spare"
    )
    print("rank length" + "".join(f"{f'batch {b}':>10}" for b in batches))
    for rank, length in ((r, n) for r in ranks for n in lengths):
        cells = ""
        for b in batches:
            p = plan(m, rank=rank, length=length, batch=b, **{**settings, "room": room})
            mark = {"fits": " ", "too small": "!"}.get(p.verdict(card), "~")
            cells += f"{p.total / GIB:9.2f}{mark}"
        print(f"{rank:4} {length:6}{cells}")
    if interactive or (
        interactive is None and {"JPY_SESSION_NAME", "COLAB_RELEASE_TAG"} & set(os.environ)
    ):
        try:
            from IPython.display import HTML, display
            from ipywidgets import interact
        except ImportError:
            return

        def show(rank, length, batch):
            changed = {**settings, "rank": rank, "length": length, "batch": batch, "room": room}
            p = plan(m, **changed)
            say = p.advice(room, card) or f"It fits {card}."
            display(HTML(f"{p._repr_html_()}<p>{say}</p>"))

        interact(show, rank=list(ranks), length=list(lengths), batch=list(batches))
