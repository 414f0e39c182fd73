"""Adapters: bottleneck sizes, placement and norms against LoRA and full tuning; and the scale of the initial weights."""


def arms(*options):
    return [("entities", "adapter", o) for o in options]


COMMON = dict(seeds=(0, 1, 2), steps=60)
BOTTLENECKS = arms({"bottleneck": 16}, {"bottleneck": 1}, {"bottleneck": 64}, {"bottleneck": 4}, {"bottleneck": 32, "placement": "pfeiffer"},
                   {"bottleneck": 16, "train_norms": False})
SWEEPS = {"adapter-bottleneck": dict(COMMON, rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2), arms=[*BOTTLENECKS[:1], ("entities", "lora", {"rank": 8}),
                                                                                        ("entities", "full", {}), *BOTTLENECKS[1:]]),
          "adapter-init": dict(COMMON, rates=(1e-2,), arms=arms(*({"bottleneck": 16, "std": std} for std in (1e-7, 1e-4, 1e-2, 1e-1, 1.0))))}
