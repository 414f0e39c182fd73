"""LoRA: ranks against full tuning on two tasks."""

Q_AND_V = ("lora", {"rank": 8, "targets": ["q_proj", "v_proj"]})


def arms(task, ranks, *more):
    return (
        [(task, "full", {})]
        + [(task, "lora", {"rank": r}) for r in ranks]
        + [(task, *arm) for arm in more]
    )


SWEEPS = {
    "lora-rank": dict(
        seeds=(0, 1, 2),
        steps=80,
        rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
        arms=arms("facts", (1, 2, 8, 64), Q_AND_V) + arms("entities", (1, 8, 64)),
    )
}
