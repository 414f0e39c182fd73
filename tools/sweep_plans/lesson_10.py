"""IA3 against LoRA and full tuning. IA3 wants far larger rates, so the one grid reaches
from the others' to its own."""

SMALL = ("lora", {"rank": 1, "targets": ["q_proj", "v_proj"]})  # as many parameters as IA3 has
ARMS = (("ia3", {}), SMALL, ("lora", {"rank": 1}), ("lora", {"rank": 8}), ("full", {}))

SWEEPS = {
    "ia3": dict(
        seeds=(0, 1, 2),
        steps=80,
        rates=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
        live=[("facts", "ia3", {}), ("sentiment", "ia3", {})],
        arms=[("facts", *arm) for arm in ARMS]
        + [("sentiment", "ia3", {}), ("sentiment", "lora", {"rank": 1})],
    )
}
