"""Adapters: bottleneck sizes, placement and norms against LoRA and full tuning; and the scale of the initial weights."""
RATES, STEPS, SEEDS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), 60, (0, 1, 2)
ADAPTERS = [{"bottleneck": m} for m in (1, 4, 16, 64)] + [{"bottleneck": 32, "placement": "pfeiffer"}, {"bottleneck": 16, "train_norms": False}]

SWEEPS = {"adapter-bottleneck": dict(seeds=SEEDS, steps=STEPS, rates=RATES, arms=[("entities", "full", {}), ("entities", "lora", {"rank": 8})]
                                     + [("entities", "adapter", options) for options in ADAPTERS]),
          "adapter-init": dict(seeds=SEEDS, steps=STEPS, rates=(3e-3, 1e-2), arms=[("entities", "adapter", {"bottleneck": 16, "std": std})
                                                                                  for std in (1e-7, 1e-4, 1e-2, 1e-1, 1.0)])}
