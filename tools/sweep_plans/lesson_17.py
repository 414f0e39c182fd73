"""Beyond LoRA: seven variants and plain LoRA, each at one common learning rate and at its own; what else one can tune or keep."""

import json

from utils import bases, evaluation, methods, modules, tasks


def dora(model, rank=8):
    """DoRA (arXiv 2402.09353): the update changes directions, a trained vector the lengths."""
    return methods.lora(model, rank, use_dora=True)


def rslora(model, rank=8):
    """rsLoRA (arXiv 2312.03732): the scale is alpha / sqrt(rank)."""
    return methods.lora(model, rank, use_rslora=True)


def pissa(model, rank=8):
    """PiSSA (arXiv 2404.02948): A and B start as the base's largest singular part, and the base is left with the rest."""
    return methods.lora(model, rank, init_lora_weights="pissa")


def lora_plus(model, rank=8, ratio=16):
    """LoRA+ (arXiv 2402.12354): B has `ratio` times the learning rate of A."""
    model = methods.lora(model, rank)

    def groups(lr):
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        return [
            {"params": [p for n, p in named if "lora_A" in n], "lr": lr},
            {"params": [p for n, p in named if "lora_B" in n], "lr": lr * ratio},
        ]

    model.optimizer_groups = groups
    return model


def lora_fa(model, rank=8):
    """LoRA-FA (arXiv 2308.03303), as peft's optimiser has it: A stays as it starts, B's gradient is projected.

    What peft computes in bfloat16 at every step is computed once here, for A does not move.
    """
    import torch

    model = methods.lora(model, rank)
    for layer in model.modules():
        if hasattr(layer, "lora_A"):
            A, B = (part["default"].weight for part in (layer.lora_A, layer.lora_B))
            A.requires_grad_(False)
            inverse = torch.linalg.pinv(A @ A.T) / layer.scaling["default"] ** 2
            B.register_hook(lambda grad, inverse=inverse: grad @ inverse.to(grad.device))
    return model


def oft(model, block=32):
    """OFT (arXiv 2306.07280): the base's weights are turned by an orthogonal matrix of blocks."""
    from peft import OFTConfig

    config = OFTConfig(
        oft_block_size=block, target_modules=list(modules.ALL_LINEAR), task_type="CAUSAL_LM"
    )
    return methods.peft_model(model, config)


def miss(model, rank=8):
    """MiSS (arXiv 2409.15371): one trained matrix for all blocks of a layer's inputs."""
    from peft import MissConfig

    config = MissConfig(r=rank, target_modules=list(modules.ALL_LINEAR), task_type="CAUSAL_LM")
    return methods.peft_model(model, config)


def vera(model, rank=64):
    """VeRA (arXiv 2310.11454): A and B are random and shared by all layers, two vectors a layer train."""
    from peft import VeraConfig

    config = VeraConfig(
        r=rank,
        target_modules=list(modules.ALL_LINEAR),
        task_type="CAUSAL_LM",
        save_projection=False,
    )
    return methods.peft_model(model, config)


def adalora(model, rank=8, steps=80):
    """AdaLoRA (arXiv 2303.10512): starts with 1.5 times the rank, and takes away the directions that matter least.

    peft wants a call after every step of the optimiser, and adds a penalty (P and Q stay orthogonal) to the loss that the
    model itself computes. Both are hooks here, so that the loop of all other methods trains it, too.
    """
    import torch
    from peft import AdaLoraConfig
    from torch.optim.optimizer import register_optimizer_step_post_hook

    config = AdaLoraConfig(
        init_r=3 * rank // 2,
        target_r=rank,
        lora_alpha=2 * rank,
        tinit=steps // 10,
        tfinal=steps // 2,
        total_step=steps,
        target_modules=list(modules.ALL_LINEAR),
        task_type="CAUSAL_LM",
    )
    made = methods.peft_model(model, config)
    factors = {n: p for n, p in made.named_parameters() if "lora_A" in n or "lora_B" in n}

    def penalised(factor, wide):
        """The gradient's hook: adds that of the norm of P Pᵀ - 1, of the mean over all factors."""

        def hook(gradient):
            P = factor.detach() if wide else factor.detach().T
            apart = P @ P.T - torch.eye(len(P), device=P.device)
            push = 2 * apart @ P / apart.norm() * config.orth_reg_weight / len(factors)
            return gradient + (push if wide else push.T)

        return hook

    for name, factor in factors.items():
        factor.register_hook(penalised(factor, "lora_A" in name))
    first, done = next(iter(factors.values())), []

    def allocate(optimizer, *_):
        if any(p is first for group in optimizer.param_groups for p in group["params"]):
            made.base_model.update_and_allocate(len(done))
            done.append(1)
            if len(done) == steps:
                handle.remove()

    handle = register_optimizer_step_post_hook(allocate)
    return made


def prompts_of(rows, model, count=64):
    """Batches of 16 rows (prompt and answer) on the model's device, for starts that look at data."""
    tokenizer = bases.load_tokenizer()
    return [evaluation.batch_of(model, tokenizer, rows[i : i + 16]) for i in range(0, count, 16)]


def eva(model, rank=8, task="facts"):
    """EVA (arXiv 2410.07170): A starts as the main directions of each layer's inputs on training rows."""
    from peft import EvaConfig, initialize_lora_eva_weights

    made = methods.lora(model, rank, init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))
    initialize_lora_eva_weights(
        made, prompts_of(tasks.load(task, "train"), model), show_progress_bar=False
    )
    return made


def corda(model, rank=8, task=None):
    """CorDA (arXiv 2406.05223): starts in the directions that matter to a task's rows, or least to the world's facts."""
    import torch
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import CordaConfig  # not exported at the top level
    from peft.tuners.lora.corda import preprocess_corda

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(modules.ALL_LINEAR),
        task_type="CAUSAL_LM",
        init_lora_weights="corda",
        corda_config=CordaConfig(corda_method="ipm" if task else "kpm"),
    )
    rows = tasks.load(task, "train") if task else world_facts(0)
    tokenizer = bases.load_tokenizer()

    def run_model():
        with torch.no_grad():
            for row in rows[:192]:  # one at a time: it wants inputs of one text
                model(input_ids=evaluation.batch_of(model, tokenizer, [row])["input_ids"])

    preprocess_corda(model, config, run_model=run_model)
    return get_peft_model(model, config)


def osf(model, kept=0.5):
    """OSF (arXiv 2504.07097): the weights train outside the `kept` share of their largest singular directions."""
    from peft import OSFConfig

    config = OSFConfig(
        effective_rank=kept, target_modules=list(modules.ALL_LINEAR), task_type="CAUSAL_LM"
    )
    return methods.peft_model(model, config)


def world_facts(half):
    """The facts of every other country: half 0 is for replay and for starts, half 1 is never shown."""
    rows = evaluation.facts()
    order = list(dict.fromkeys(r["country"] for r in rows))
    return [r for r in rows if order.index(r["country"]) % 2 == half]


RACED = (rslora, dora, pissa, lora_plus, lora_fa, oft, miss)
METHODS = {f.__name__: f for f in RACED + (vera, adalora, eva, corda, osf)}
SMALL, MIDDLE, LARGE = (3e-4, 1e-3, 3e-3), (1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2)
GRIDS = {  # three rates around what a pilot found; a grid grows where the best one lies at its edge
    "lora": {2: LARGE, 8: MIDDLE, 32: MIDDLE},
    "rslora": {8: MIDDLE, 32: SMALL},
    "dora": {8: MIDDLE, 32: MIDDLE},
    "pissa": {8: MIDDLE, 32: SMALL},
    "lora_plus": {8: SMALL, 32: SMALL},
    "lora_fa": {8: LARGE, 32: LARGE},
    "oft": {32: MIDDLE, 64: MIDDLE},
    "miss": {8: MIDDLE, 32: MIDDLE},
}
BLOCKS = {
    8: 32,
    32: 64,
}  # OFT's block for a rank: about as many parameters as LoRA has, as far as blocks divide


def arms(task, rank):
    """The methods that have a grid for this rank; one more method is one more line in GRIDS."""
    found = ((m, {"block": BLOCKS[rank]} if m == "oft" else {"rank": rank}) for m in GRIDS)
    return [(task, m, options) for m, options in found if set(options.values()) <= set(GRIDS[m])]


def start(method, options):
    """The rates on which the search of an arm begins."""
    return GRIDS[method][options.get("rank") or options.get("block")]


def common(task, options):
    """The arm whose rate all of the same task and rank share: plain LoRA's."""
    rank = options.get("rank") or {b: r for r, b in BLOCKS.items()}[options["block"]]
    return task, "lora", json.dumps({"rank": rank})


def measured(model, history):
    """The training loss, each number the mean of five steps, and the bytes that a user would keep."""
    from tools import leaderboard

    blocks = [history.loss[i : i + 5] for i in range(0, len(history.loss), 5)]
    return {
        "losses": [round(sum(block) / len(block), 4) for block in blocks],
        "file_bytes": leaderboard.stored_bytes(model),
    }


def kept(model, history):
    """Facts kept of the countries that neither replay nor a start has seen; and both scores after damping, where it can be."""
    from peft import LoraConfig
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    tokenizer, rows = bases.load_tokenizer(), tasks.load("entities", "test")
    columns = {"facts_unseen": evaluation.facts_kept(model, tokenizer, world_facts(1))}
    config = model.peft_config["default"]
    if type(config) is LoraConfig and config.init_lora_weights is True:
        reduce_intruder_dimension(model, logging_sink=None)
        columns |= {
            "damped_score": evaluation.exact_match(model, tokenizer, rows),
            "damped_kept": evaluation.facts_kept(model, tokenizer),
            "damped_unseen": evaluation.facts_kept(model, tokenizer, world_facts(1)),
        }
    return columns


def keeping(task, method, options, lr, **rest):
    """A run that measures what is kept; under the method "replay", LoRA with facts of half the countries among its rows."""
    from tools import sweeps  # which reads this module first

    extra = ()
    if method == "replay":
        tokenizer = bases.load_tokenizer()
        extra = [
            evaluation.encode_pair(tokenizer, r["prompt"], r["answer"], eos=False)
            for r in world_facts(0)[::2]
        ]
    made = "lora" if method == "replay" else method
    row = sweeps.run(task, made, options, lr, more=kept, extra=extra, **rest)
    return {**row, "method": method}


def kept_rates(method, options):
    """Where the search of a method that should keep more begins; LoRA's own is the finer grid of "beyond-finer"."""
    finer = (3e-3, 5.5e-3, 7e-3, 1e-2)
    grids = {"osf": (1e-4, 3e-4, 1e-3), "corda": (3e-4, 1e-3, 3e-3)}
    return grids.get(method, finer)


def more_rates(method, options):
    return {"vera": (1e-2, 3e-2, 1e-1), "adalora": LARGE}.get(method, MIDDLE)


# Which knob buys what: Taguchi's L18, in which any two of six factors meet in every pair of levels equally often.
L18 = (
    "000000 011111 022222 100112 111220 122001 201021 212102 220210 "
    "002211 010022 021100 101202 112010 120121 202120 210201 221012"
).split()
KNOBS = {
    "learning rate": (1e-3, 3e-3, 1e-2),
    "rank": (2, 8, 32),
    "alpha / rank": (1, 2, 4),
    "targets": ("q and v", "attention", "all linear"),
    "batch": (4, 8, 16),
    "steps": (40, 80, 160),
}
TARGETS = {
    "q and v": ("q_proj", "v_proj"),
    "attention": modules.ATTENTION,
    "all linear": modules.ALL_LINEAR,
}


def setting(levels):
    return {name: KNOBS[name][int(level)] for name, level in zip(KNOBS, levels)}


def turned(task, method, options, lr, seed, steps, batch_size, **rest):
    """A run whose six knobs stand in its options."""
    from tools import sweeps  # which reads this module first

    lora = {
        "rank": options["rank"],
        "alpha": options["rank"] * options["alpha / rank"],
        "targets": TARGETS[options["targets"]],
    }
    row = sweeps.run(
        task, method, lora, lr, seed, options["steps"], batch_size=options["batch"], **rest
    )
    return {
        **row,
        **options,
        "options": json.dumps(options),
        "steps": steps,
        "batch_size": batch_size,
    }


COMMON = dict(seeds=(0, 1, 2), steps=80, batch_size=8, noises=(1,))
RACE = dict(COMMON, rates=start, common=common, more=measured)
SWEEPS = {
    "beyond-lora": dict(
        RACE,
        arms=arms("facts", 8) + arms("entities", 8),
        live=[("facts", "pissa", {"rank": 8})],
    ),
    # Between the rates of the grid: rsLoRA of rank 8 is LoRA with a scale 2.8 times as large, so at one rate it takes larger steps.
    "beyond-finer": dict(
        RACE, rates=(3e-3, 4e-3, 5.5e-3, 7e-3, 1e-2), arms=[("entities", "lora", {"rank": 8})]
    ),
    "beyond-lora-32": dict(RACE, arms=arms("facts", 32) + arms("entities", 32)),
    # A task on which rank matters: a new language. After 120 steps no rank has learnt it at a steady rate, after 240 all have.
    "beyond-rank": dict(
        RACE, steps=120, arms=[("translation", "lora", {"rank": rank}) for rank in (2, 8, 32)]
    ),
    "beyond-rank-long": dict(
        RACE,
        steps=240,
        arms=[("translation", "lora", {"rank": 2})]
        + arms("translation", 8)
        + arms("translation", 32),
    ),
    "beyond-lora-m": dict(RACE, base="pocket-m", arms=arms("facts", 8) + arms("entities", 8)),
    "beyond-kept": dict(
        COMMON,
        rates=kept_rates,
        run=keeping,
        arms=[
            ("entities", "lora", {"rank": 8}),
            ("entities", "replay", {"rank": 8}),
            ("entities", "osf", {"kept": 0.5}),
            ("entities", "corda", {"rank": 8}),
        ],
    ),
    "beyond-knobs": dict(
        COMMON,
        seeds=(0,),
        noises=(),
        rates=lambda method, options: (options["learning rate"],),
        run=turned,
        arms=[("entities", "lora", setting(levels)) for levels in L18],
    ),
    "beyond-more": dict(
        COMMON,
        rates=more_rates,
        arms=[
            ("facts", "vera", {"rank": 64}),
            ("facts", "adalora", {"rank": 8}),
            ("facts", "eva", {"rank": 8}),
            ("facts", "corda", {"rank": 8, "task": "facts"}),
        ],
    ),
}
