"""Five small LoRA adapters of one base, for lesson 11 to swap: `python -m tools.sweep_plans.lesson_11`."""

SWEEPS = {}  # the lesson's runs are tools/leaderboard.py's
TASKS, SETTINGS = ("facts", "sentiment", "entities", "translation", "cloze"), {"rank": 1}
RATE, STEPS = 1e-2, 200  # the rate that won for r = 1 in lora-rank; translation needs the steps


def train_adapters(base="pocket-s"):
    """data/results/adapters/TASK: what peft saves, with the base's name where peft would write a path of this machine."""
    import json

    from utils import bases, evaluation, methods, results, tasks, training

    made = {}
    for task in TASKS:
        model, tokenizer = bases.load(base)
        model = methods.apply("lora", model, **SETTINGS)
        training.train(
            model, tokenizer, tasks.load(task, "train"), steps=STEPS, lr=RATE, progress=False
        )
        model.peft_config["default"].base_model_name_or_path = base
        folder = results.DATA / "results" / "adapters" / task
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        made[task] = {
            "base": base,
            "task": task,
            "lr": RATE,
            "steps": STEPS,
            "seed": 0,
            **SETTINGS,
            "test_score": evaluation.exact_match(model, tokenizer, tasks.load(task, "test")),
        }
    (results.DATA / "results" / "adapters" / "made.json").write_text(
        json.dumps({"provenance": results.provenance(), "rows": list(made.values())}, indent=1)
        + "\n",
        encoding="utf-8",
    )
    print(made)


if __name__ == "__main__":
    train_adapters()
