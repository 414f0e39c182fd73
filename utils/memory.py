"""Byte arithmetic: how many parameters a method trains, what a run holds in memory, and whether a card has room for it.

    model shape -> trainable tensors -> plan: weights, adapter, gradients, optimiser, activations, logits -> does it fit?

Units: every count is in bytes. GB = 1e9 bytes, GiB = 2**30 bytes; what is printed always says which.
Importing this module imports no torch, so a notebook can check its budget before it imports unsloth.
"""

import dataclasses
import os

GB, GIB, MIB = 10**9, 2**30, 2**20
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes a value
# torch.cuda.get_device_properties(0).total_memory in GiB; where several values are reported for a card, the smallest.
CARDS = {"T4": 14.748, "L4": 22.161, "A100-40": 39.394, "A100-80": 79.151, "H100": 79.179}
CUDA_CONTEXT = (
    GIB // 2
)  # allowance for the driver's context, which takes its part before PyTorch allocates anything
CUBLAS_WORKSPACE = 2 * 4 * MIB + 8 * 16 * 1024  # PyTorch's default setting ":4096:2:16:8"
METHODS = ("full", "head", "lora", "ia3", "prefix", "prompt", "p-tuning", "adapter")
QUANTISATIONS = (None, "nf4", "nf4-dq")
OPTIMIZERS = ("sgd", "adamw", "adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")


@dataclasses.dataclass(frozen=True)
class Linear:
    """`count` linear layers with one name and one weight shape [d_out, d_in]."""

    name: str
    d_in: int
    d_out: int
    count: int


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """A decoder by its sizes. `linears`: the blocks' matrices, without embedding and head. `parameters`: all, tied ones once."""

    name: str
    hidden: int
    layers: int
    kv_width: int  # key/value heads x head size
    head_size: int
    ffn: int
    vocab: int
    context: int
    linears: tuple
    norms: int  # parameters of all norms
    parameters: int

    @property
    def block_weights(self):
        return sum(x.d_in * x.d_out * x.count for x in self.linears)


def _llama_like(name, vocab, context, d=4096, L=32, kv=1024, ffn=14336):
    """Llama and Mistral: gated feed-forward, no biases, two RMSNorms a layer and one at the end, an untied head."""
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
    return ModelShape(name, d, L, kv, 128, ffn, vocab, context, linears, norms, total)


def _gpt3(d=12288, L=96):
    """GPT-3 (arXiv 2005.14165). Its total is the one that LoRA's Table 4 counts from: 175,255.8M (arXiv 2106.09685)."""
    linears = tuple(Linear(n, d, d, L) for n in ("q_proj", "k_proj", "v_proj", "o_proj"))
    linears += (Linear("fc_in", d, 4 * d, L), Linear("fc_out", 4 * d, d, L))
    return ModelShape(
        "GPT-3 175B",
        d,
        L,
        d,
        128,
        4 * d,
        50257,
        2048,
        linears,
        (2 * L + 1) * 2 * d,
        175_255_800_000,
    )


MODELS = {
    "mistral-7b-v0.1": _llama_like("Mistral-7B v0.1", 32000, 32768),
    "gpt-3-175b": _gpt3(),
    "mistral-7b-v0.3": _llama_like("Mistral-7B v0.3", 32768, 32768),
    "llama-3-8b": _llama_like("Llama-3 8B", 128256, 8192),
}


def from_transformers(config, name=None):
    """ModelShape of any transformers causal-LM config (or model): built on the meta device, so it takes no memory."""
    import torch
    from transformers import AutoModelForCausalLM

    c = getattr(config, "config", config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(c)
    found, norms, head = {}, 0, model.get_output_embeddings()
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if "norm" in type(module).__name__.lower():
            norms += sum(p.numel() for p in module.parameters(recurse=False))
        elif (
            weight is not None
            and weight.dim() == 2
            and module is not head
            and not isinstance(module, torch.nn.Embedding)
        ):
            d_out, d_in = (
                weight.shape if isinstance(module, torch.nn.Linear) else weight.shape[::-1]
            )  # GPT-2's Conv1D: [in, out]
            key = (path.rsplit(".", 1)[-1], d_in, d_out)
            found[key] = found.get(key, 0) + 1
    size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    kv_width = size * (getattr(c, "num_key_value_heads", None) or c.num_attention_heads)
    return ModelShape(
        name or c.model_type,
        c.hidden_size,
        c.num_hidden_layers,
        kv_width,
        size,
        getattr(c, "intermediate_size", None) or 4 * c.hidden_size,
        c.vocab_size,
        c.max_position_embeddings,
        tuple(Linear(*key, n) for key, n in found.items()),
        norms,
        model.num_parameters(),
    )


def model_shape(model):
    """ModelShape from a name in MODELS (ValueError for another), a ModelShape, a transformers config or a model."""
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
    """[(values, how many such tensors)] that `method` trains. ValueError for an unknown method or target module.

    lora 2106.09685: A [rank, d_in] and B [d_out, rank] at every target. ia3 2205.05638: l_k, l_v, l_ff. prefix 2101.00190:
    keys and values of virtual tokens in every layer. prompt 2104.08691: virtual tokens at the input. p-tuning 2103.10385:
    the same and peft's MLP of three matrices. adapter 1902.00751: two bottlenecks a layer, and the norms.
    """
    m = model_shape(model)
    d, L, p, b = m.hidden, m.layers, virtual_tokens, bottleneck
    if min(rank, p, b) < 1:
        raise ValueError("rank, virtual_tokens and bottleneck must be at least 1")
    if method == "lora":
        return [
            (rank * side, x.count)
            for x in _targets(m, target_modules)
            for side in (x.d_in, x.d_out)
        ]
    return {
        "full": [(x.d_in * x.d_out, x.count) for x in m.linears]
        + [(m.parameters - m.block_weights, 1)],
        "head": [(m.vocab * d, 1)],
        "ia3": [(m.kv_width, 2 * L), (m.ffn, L)],
        "prefix": [(2 * L * p * m.kv_width, 1)],
        "prompt": [(p * d, 1)],
        "p-tuning": [(p * d, 1), (d * d, 3), (d, 3)],
        "adapter": [(b * d, 4 * L), (b + d, 2 * L), (m.norms, 1)],
    }[_one_of(method, METHODS, "method")]


def trainable_parameters(model, method="lora", **settings):
    """How many parameters `method` trains; settings as in `trainable_tensors`."""
    return sum(values * count for values, count in trainable_tensors(model, method, **settings))


def lora_parameters(model, rank, target_modules="all-linear"):
    """Sum of rank * (d_in + d_out) over the target modules: names as in peft, or "all-linear" (arXiv 2106.09685)."""
    return trainable_parameters(model, "lora", rank=rank, target_modules=target_modules)


def adapter_file_bytes(model, method="lora", dtype="float16", **settings):
    """Bytes of the tensors in a saved adapter; the file's header adds some kB. P-tuning saves the prompt, not its MLP."""
    return (
        trainable_parameters(model, "prompt" if method == "p-tuning" else method, **settings)
        * WIDTH[dtype]
    )


def nf4_bytes(values, double_quant=True, tables=True):
    """Bytes of one 4-bit tensor as bitsandbytes stores it (QLoRA, arXiv 2305.14314).

    Two values a byte, and an fp32 absmax for every 64 values. Double quantisation makes each absmax one byte, with an fp32
    absmax for every 256 of them. `tables`: the tensor's own code books, 16 (and 256) fp32 values, and an fp32 offset.
    """
    blocks = -(-values // 64)
    if not double_quant:
        return -(-values // 2) + 4 * blocks + 4 * 16 * tables
    return -(-values // 2) + blocks + 4 * -(-blocks // 256) + 4 * (16 + 256 + 1) * tables


def weight_bytes(model, quantisation=None, dtype="float16"):
    """Bytes of the base. 4-bit covers the blocks' linear layers; embeddings, head, norms and biases stay in `dtype`."""
    m = model_shape(model)
    if _one_of(quantisation, QUANTISATIONS, "quantisation") is None:
        return m.parameters * WIDTH[dtype]
    blocks = sum(x.count * nf4_bytes(x.d_in * x.d_out, quantisation == "nf4-dq") for x in m.linears)
    return blocks + (m.parameters - m.block_weights) * WIDTH[dtype]


def optimizer_bytes(tensors, optimizer="adamw_8bit"):
    """State for [(values, count)] of fp32 tensors. AdamW: two fp32 moments. 8-bit AdamW (arXiv 2110.02861): two bytes a value,
    two fp32 absmax for every 256, two code books; bitsandbytes keeps tensors of under 4,096 values in fp32."""
    if _one_of(optimizer, OPTIMIZERS, "optimizer") == "sgd":
        return 0
    small = 4096 if "8bit" in optimizer else float("inf")
    books = 2 * 4 * 256 * any(n >= small for n, _ in tensors)
    return books + sum(
        count * (8 * n if n < small else 2 * n + 8 * -(-n // 256)) for n, count in tensors
    )


def full_tuning_bytes(parameters, per_parameter=16):
    """Mixed-precision full tuning with Adam, before activations. 16 bytes a parameter = 2 weight + 2 gradient + 12 fp32 weight
    and moments (ZeRO, arXiv 1910.02054); 18 = 6 weight in both precisions + 8 moments + 4 fp32 gradient (autocast)."""
    return _one_of(per_parameter, (16, 18), "bytes a parameter") * parameters


def _saved_by_layer(m, method, rank, target_modules, half):
    """Values a token that autograd keeps of one Llama-like layer in plain PyTorch (a test counts them in a real model)."""
    norms = (
        2 * m.hidden if half else 0
    )  # in 16-bit each norm holds its input in fp32: one value more of 2 bytes, twice a layer
    if method in (
        "full",
        "adapter",
    ):  # 8 hidden: inputs of norms and projections, q, attention; 4 ffn: gate, silu, up, product
        return norms + 8 * m.hidden + 2 * m.kv_width + 4 * m.ffn
    values = norms + 4 * m.hidden + 2 * m.kv_width + 3 * m.ffn  # a frozen matrix keeps no input
    targets = _targets(m, target_modules) if method == "lora" else []
    if half:  # each fp32 adapter keeps its own fp32 copy of its input: two values of 2 bytes
        return values + sum(2 * (x.d_in + rank) for x in targets)
    shared = {
        "q_proj": "qkv",
        "k_proj": "qkv",
        "v_proj": "qkv",
        "gate_proj": "mlp",
        "up_proj": "mlp",
    }
    inputs = {
        shared.get(x.name, x.name): x.d_in for x in targets if x.name != "o_proj"
    }  # o's input is kept anyway
    return values + sum(inputs.values()) + rank * len(targets)


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
    """Bytes of one training run on one device. `host`: what checkpointing sends to the CPU's memory, not part of `total`."""

    model: ModelShape
    settings: dict
    trainable: int  # parameters, not bytes
    weights: int
    adapter: int
    gradients: int
    optimiser: int
    rope_tables: int
    activations: int
    logits: int
    buffers: int  # one dequantised weight, the workspace of cuBLAS
    host: int

    state = property(lambda self: self.weights + self.adapter + self.gradients + self.optimiser)
    loaded = property(
        lambda self: self.weights + self.adapter + self.rope_tables
    )  # before the first step
    total = property(
        lambda self: self.state + self.rope_tables + self.activations + self.logits + self.buffers
    )

    def rows(self):
        """[(what, GB, GiB)], the total last."""
        names = [f.name for f in dataclasses.fields(self)[3:-1]] + ["total"]
        return [(n.replace("_", " "), getattr(self, n) / GB, getattr(self, n) / GIB) for n in names]

    def title(self):
        s = self.settings
        rank = f" r={s['rank']}" if s["method"] == "lora" else ""
        base = s["quantisation"] or s["dtype"]
        return f"{self.model.name}, {s['method']}{rank}, {base}, batch {s['batch']} x {s['length']} tokens"

    def __str__(self):
        head = f"{self.title()}, {self.trainable:,} trainable\n{'':12} {'GB (1e9)':>10} {'GiB (2**30)':>12}\n"
        return head + "\n".join(f"{n:12} {gb:10.3f} {gib:12.3f}" for n, gb, gib in self.rows())

    __repr__ = __str__

    def _repr_html_(self):
        body = "".join(
            f"<tr><td>{n}</td><td>{gb:.3f}</td><td>{gib:.3f}</td></tr>"
            for n, gb, gib in self.rows()
        )
        return (
            f"<p>{self.title()}, {self.trainable:,} trainable</p>"
            f"<table><tr><th></th><th>GB (1e9)</th><th>GiB (2**30)</th></tr>{body}</table>"
        )

    def advice(self, free_bytes, where="this device"):
        """ "" if the plan fits into `free_bytes`; else a sentence: by how much it does not, and what to turn."""
        if self.total <= free_bytes:
            return ""
        s, need = self.settings, lambda change: plan(self.model, **{**s, **change}).total
        turns = {
            "checkpointing": ["unsloth"],
            "optimizer": ["adamw_8bit"],
            "batch": range(s["batch"] - 1, 0, -1),
            "length": range((s["length"] - 1) // 64 * 64, 0, -64),
            **({"method": ["lora"]} if s["method"] == "full" else {"quantisation": ["nf4-dq"]}),
        }
        text = (
            f"{self.title()}: needs {self.total / GIB:.2f} GiB, {where} has {free_bytes / GIB:.2f} GiB free, "
            f"{(self.total - free_bytes) / GIB:.2f} GiB too little. "
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
        return (
            text
            + f"All of {', '.join(f'{k}={v!r}' for k, v in least.items())} together ({need(least) / GIB:.2f} GiB) {end}"
        )

    def why_not(self, card):
        """The sentence of `advice` for a card in CARDS (ValueError for another), its CUDA context taken off; "" if it fits."""
        return self.advice(usable_bytes(card), card)

    def fits(self, card):
        """Does the plan fit a card in CARDS? `why_not(card)` says what to turn if it does not."""
        return self.total <= usable_bytes(card)


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
):
    """The Plan of a run on one CUDA device. `length`: tokens of the longest row, since the longest batch decides the peak.

    quantisation: None, "nf4", "nf4-dq" (double). checkpointing (arXiv 1604.06174): False, True, or "unsloth", which keeps the
    layers' inputs in the CPU's memory and runs Unsloth's fused kernels. rope_tables: cos/sin tables over the whole context that
    Unsloth holds: one today, one a layer in 2024.5. What PEFT trains is fp32, as peft and Unsloth cast it; full tuning in 16-bit
    is mixed precision, 16 bytes a parameter. ValueError for an unknown choice, and for full tuning in 4-bit.
    """
    settings = {k: v for k, v in locals().items() if k != "model"}
    m, width = model_shape(model), WIDTH[_one_of(dtype, WIDTH, "dtype")]
    fused, half = (
        _one_of(checkpointing, (False, True, "unsloth"), "checkpointing") == "unsloth",
        width == 2,
    )
    own = method in ("full", "head")  # trains the base's own weights
    if method == "full" and quantisation:
        raise ValueError(
            "4-bit weights cannot be trained: pass quantisation=None, or method='lora'"
        )
    tensors = trainable_tensors(m, method, rank, target_modules, virtual_tokens, bottleneck)
    trained = sum(values * count for values, count in tensors)
    optimiser = optimizer_bytes(tensors, optimizer) + (
        4 * trained if own and half and optimizer != "sgd" else 0
    )  # fp32 copy
    seen = batch * (
        length + (virtual_tokens if method in ("prompt", "p-tuning") else 0)
    )  # tokens in one pass
    # One layer in its backward pass. Unsloth's kernels keep 9 hidden (the layer's input and output, both norms' outputs, q, k
    # and v with k, v repeated to all heads, attention, its residual sum) and 2 ffn (gate, up), and work on 1 hidden and 1 ffn:
    # the gradient that comes in and the one of the feed-forward's product.
    layer = (
        10 * m.hidden + 3 * m.ffn
        if fused
        else _saved_by_layer(m, method, rank, target_modules, half)
    )
    kept = seen * width * m.layers * m.hidden if checkpointing else 0  # every layer's input
    activations = (
        seen * width * (layer * (1 if checkpointing else m.layers) + 2 * m.hidden)
    )  # 2: in and out of the last norm
    # The logits, and the fp32 copy that accelerate makes of 16-bit outputs. Unsloth's cross-entropy writes the gradient over the
    # logits; PyTorch's keeps a log-softmax, then a gradient, both fp32.
    logits = seen * m.vocab * (width + (4 if half else 0) + (0 if fused else 8))
    biggest = max(x.d_in * x.d_out for x in m.linears)
    dequantised = (
        biggest * width + biggest // 64 * 4 if quantisation else 0
    )  # one weight at a time, with its absmax in fp32
    rope = (
        rope_tables * 2 * min(m.context, 32768) * m.head_size * width if fused else 0
    )  # Unsloth builds at most 32,768 places
    # total adds logits and activations though they are never all alive at once: PyTorch's caching allocator keeps freed blocks,
    # and blocks cut for the logits seldom suit a layer. (transformers 4.41 empties the cache once a pass, after the forward.)
    return Plan(
        model=m,
        settings=settings,
        trainable=trained,
        weights=weight_bytes(m, quantisation, dtype),
        adapter=0 if own else 4 * trained,
        gradients=trained * (width if own else 4),
        optimiser=optimiser,
        rope_tables=rope,
        activations=activations + (0 if fused else kept),
        logits=logits,
        buffers=dequantised + CUBLAS_WORKSPACE,
        host=kept if fused else 0,
    )


def published_t4_run(model="mistral-7b-v0.3", length=1304):
    """The Plan of Unsloth's public T4 notebooks, release 2024.5: r=16 on all linears, batch 2, Alpaca unpacked, adamw_8bit.

    They print GiB and call it GB: Mistral-7B v0.3 4.52 loaded, 5.836 at the peak; Llama-3 8B 5.594 and 7.535. They do not
    print lengths: `length` is an assumption. 1,304 tokens is the longest of the 51,759 rows of a cleaned Alpaca in Llama-2's
    32k vocabulary, 1,044 in a 50k one (lit-gpt's resource tables), taken as a bound for the 480 rows that 60 steps draw.
    That release kept a rotary table in each layer, over all 32,768 (Llama-3: 8,192) places.
    """
    return plan(model, length=length, rope_tables=model_shape(model).layers)


class DoesNotFit(MemoryError):
    """A run refused before it starts; the message says by how much it is too big and what to turn."""


def refuse_if_too_small(planned, free_bytes):
    """Raise DoesNotFit unless the Plan fits into `free_bytes` (before loading: torch.cuda.mem_get_info()[0])."""
    if sentence := planned.advice(free_bytes):
        raise DoesNotFit(sentence)


def measured_state(model, optimizer=None):
    """Bytes that real tensors hold, each storage once: {"weights", "adapter", "gradients", "optimiser"}, to set against a Plan.

    weights: the base, with absmax and code books of 4-bit layers; adapter: what is trained where the rest is frozen.
    """
    seen = set()

    def size(tensor):
        if not hasattr(tensor, "data_ptr") or tensor.data_ptr() in seen:
            return 0
        seen.add(tensor.data_ptr())
        return tensor.numel() * tensor.element_size()

    def quantised(
        state,
    ):  # bitsandbytes' QuantState; double quantisation nests a second one for the absmax
        return (
            0
            if state is None
            else sum(size(getattr(state, k)) for k in ("absmax", "code", "offset"))
            + quantised(state.state2)
        )

    parameters, states = list(model.parameters()), optimizer.state.values() if optimizer else ()
    trained = sum(size(p) for p in parameters if p.requires_grad)
    frozen = sum(
        size(p) + quantised(getattr(p, "quant_state", None))
        for p in parameters
        if not p.requires_grad
    )
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
    """Print the planned GiB over rank, length and batch; "!" marks what does not fit `card`. settings as in `plan`.

    In JupyterLab and Colab menus to turn follow if ipywidgets is there; a notebook run without a front end prints this text only,
    so that its stored output stays the same. `interactive=True` or `False` decides it.
    """
    m = model_shape(model)
    print(
        f"{m.name} on {card} ({usable_bytes(card) / GIB:.2f} GiB to use): planned GiB (2**30 bytes), ! does not fit"
    )
    print("rank length" + "".join(f"{f'batch {b}':>10}" for b in batches))
    for rank, length in ((r, n) for r in ranks for n in lengths):
        plans = [plan(m, rank=rank, length=length, batch=b, **settings) for b in batches]
        print(
            f"{rank:4} {length:6}"
            + "".join(f"{p.total / GIB:9.2f}{' ' if p.fits(card) else '!'}" for p in plans)
        )
    if interactive or (
        interactive is None and {"JPY_SESSION_NAME", "COLAB_RELEASE_TAG"} & set(os.environ)
    ):
        try:
            from IPython.display import HTML, display
            from ipywidgets import interact
        except ImportError:
            return

        def show(rank, length, batch):
            p = plan(m, rank=rank, length=length, batch=batch, **settings)
            display(HTML(f"{p._repr_html_()}<p>{p.why_not(card) or f'It fits {card}.'}</p>"))

        interact(show, rank=list(ranks), length=list(lengths), batch=list(batches))
