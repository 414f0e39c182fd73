"""Which parameters: full tuning, a new head, LoRA and the norms on one task, every rate with every seed; the head on a second task."""

from utils import adapters


def norms(model):
    """The norms' own scales train; nothing is added."""
    for norm in adapters.norms(model).values():
        norm.requires_grad_(True)
    return model


METHODS = {"norms": norms}
COMMON = dict(seeds=(0, 1, 2), rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2))
SWEEPS = {
    "which-parameters": dict(
        COMMON,
        steps=60,
        curve=True,
        live=[("sentiment", "full", {})],
        arms=[
            ("sentiment", "full", {}),
            ("sentiment", "lora", {"rank": 8}),
            ("sentiment", "head", {}),
            ("sentiment", "norms", {}),
        ],
    ),
    "head-entities": dict(COMMON, steps=80, arms=[("entities", "head", {})]),
}  # beside lora-rank's arms on entities
