"""LoRA: ranks against full tuning on two tasks."""


def arms(task, ranks):
    return [(task, "full", {})] + [(task, "lora", {"rank": r}) for r in ranks] + [(task, "lora", {"rank": 8, "targets": ["q_proj", "v_proj"]})]


SWEEPS = {"lora-rank": dict(seeds=(0, 1, 2), steps=80, rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
                            arms=arms("facts", (1, 2, 4, 8, 16, 64)) + arms("entities", (1, 8, 64)))}
