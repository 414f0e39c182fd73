"""LoRA: ranks against full tuning on two tasks; which layers at equal parameters; dropout; and what alpha does."""

from utils import modules

Q_AND_V = ("lora", {"rank": 8, "targets": ["q_proj", "v_proj"]})
# As many parameters as rank 8 on all linear layers (108,544), within 2 %.
ATTENTION = ("lora", {"rank": 21, "targets": list(modules.ATTENTION)})
FEED_FORWARD = ("lora", {"rank": 13, "targets": list(modules.FEED_FORWARD)})
DROPOUT = ("lora", {"rank": 8, "lora_dropout": 0.1})
ALPHAS, ALPHA_RATE = (1, 4, 16, 64, 256), 3e-3


def arms(task, ranks, *more):
    return (
        [(task, "full", {})]
        + [(task, "lora", {"rank": r}) for r in ranks]
        + [(task, *arm) for arm in more]
    )


def matched(task, method, options, lr, **rest):
    """A run whose learning rate falls as alpha grows, so that alpha times the rate stays that of alpha = 16."""
    from tools import sweeps  # which reads this module first

    used = lr * 16 / options["alpha"]
    return {**sweeps.run(task, method, options, used, **rest), "lr": lr, "lr_used": used}


ALPHA = dict(
    seeds=(0, 1, 2),
    steps=80,
    rates=(ALPHA_RATE,),
    noises=(),
    arms=[("entities", "lora", {"rank": 8, "alpha": a}) for a in ALPHAS],
)
SWEEPS = {
    "lora-rank": dict(
        seeds=(0, 1, 2),
        steps=80,
        rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        arms=arms("facts", (8, 1, 2, 64), Q_AND_V, DROPOUT)
        + arms("entities", (1, 8, 64), Q_AND_V, ATTENTION, FEED_FORWARD, DROPOUT),
        live=[("facts", "full", {}), ("facts", "lora", {"rank": 8})],
    ),
    "lora-alpha": ALPHA,
    "lora-alpha-matched": dict(ALPHA, run=matched),
}
