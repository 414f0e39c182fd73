"""QLoRA: the same LoRA on the base in full precision and in four bits, on two tasks, each at its own best learning rate."""

SWEEPS = {
    "qlora": dict(
        seeds=(0, 1, 2),
        steps=80,
        rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        arms=[
            (task, "lora", options)
            for task in ("facts", "entities")
            for options in ({"rank": 8}, {"rank": 8, "four_bit": True})
        ],
        live=[("facts", "lora", {"rank": 8, "four_bit": True})],
    ),
}
