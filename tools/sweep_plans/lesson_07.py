"""Prefix tuning against full tuning and LoRA on data-to-text: as guide entries, in a form new to the base, with 50 rows."""

from tools.sweep_plans import about
from utils import bases, evaluation, methods, tasks, training


def guide(row):
    """The row's fields as a guide entry, a form that the bases met in pre-training."""
    return {
        **row,
        "prompt": "Guide entry (" + row["data"].replace(": ", " ").replace(" | ", "; ") + ").",
    }


def exchanged(rows):
    """Every answer behind the prompt of the next row: whoever reads the prompt must do worse."""
    return [{**row, "prompt": other["prompt"]} for row, other in zip(rows, rows[1:] + rows[:1])]


def run(
    task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16, form=None
):
    """As tools.sweeps.run, with losses on the other topic and on exchanged rows as well; `form(row)` writes another prompt."""
    splits = {
        split: tasks.load(task, split, count if split == "train" else None)
        for split in ("train", "validation", "test", "shifted")
    }
    splits = {split: [form(r) for r in rows] if form else rows for split, rows in splits.items()}
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed, **options)
    history = training.train(
        model,
        tokenizer,
        splits.pop("train"),
        steps=steps,
        lr=lr,
        seed=seed,
        batch_size=batch_size,
        progress=False,
    )
    row = about(base, task, method, options, lr, seed, steps, count, batch_size)
    for split, rows in splits.items():
        row[f"{split}_score"], row[f"{split}_loss"] = evaluation.score_and_loss(
            model, tokenizer, rows
        )
    row["exchanged_loss"] = evaluation.score_and_loss(
        model, tokenizer, exchanged(splits["test"][:100])
    )[1]
    return {
        **row,
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "final_loss": round(history.final_loss, 4),
        "trainable": training.count(model)[0],
        "seconds": round(history.seconds, 2),
    }


PREFIX, MLP, LORA, FULL = (
    ("prefix", {"tokens": 20}),
    ("prefix", {"tokens": 20, "mlp": True}),
    ("lora", {"rank": 8}),
    ("full", {}),
)
SHORT = [("prefix", {"tokens": tokens}) for tokens in (1,)]
COMMON = dict(
    run=run,
    seeds=(0, 1, 2),
    steps=120,
    batch_size=8,
    rates=(3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
    live=[("data_to_text", *PREFIX)],
)
SWEEPS = {
    "prefix-guide": dict(
        COMMON,
        form=guide,
        rates=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        arms=[("data_to_text", *arm) for arm in (PREFIX, LORA, FULL, MLP, *SHORT)],
    ),
    "prefix-new-form": dict(COMMON, arms=[("data_to_text", *arm) for arm in (PREFIX, LORA)]),
}
