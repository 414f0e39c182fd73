"""Adapters: bottleneck sizes, placement and norms against LoRA and full tuning; and the scale of the initial weights."""

COMMON = dict(seeds=(0, 1, 2), steps=120)  # after 60 steps no steady rate has learned the task


def arms(*options):
    return [("entities", "adapter", o) for o in options]


SWEEPS = {
    "adapter-bottleneck": dict(
        COMMON,
        live=arms({"bottleneck": 16}),
        rates=(1e-3, 3e-3, 1e-2),
        arms=[
            *arms({"bottleneck": 16}),
            ("entities", "lora", {"rank": 8}),
            ("entities", "full", {}),
            *arms(
                {"bottleneck": 1},
                {"bottleneck": 64},
                {"bottleneck": 16, "train_norms": False},
                {"bottleneck": 4},
            ),
        ],
    ),
    "adapter-placement": dict(  # beside Houlsby's m = 16 with frozen norms above: 50,816 parameters, here 50,048
        COMMON,
        rates=(1e-3, 3e-3, 1e-2),
        arms=arms({"bottleneck": 32, "placement": "pfeiffer", "train_norms": False}),
    ),
    "adapter-init": dict(
        COMMON,
        rates=(3e-3, 1e-2),
        arms=arms(*({"bottleneck": 16, "std": s} for s in (1.0, 1e-7, 1e-1, 1e-2))),
    ),
}
