"""Prefix tuning against full tuning and LoRA on data-to-text: length, start, MLP; then the same with 50 training rows."""
import json

from utils import bases, evaluation, methods, tasks, training

# Real words to start a prefix from: the wording of the task, as far as the prefix reaches.
TEXT = " The Blue Inn is a shop near the river. It offers books at fair prices." * 3
SPLITS = ("validation", "test", "shifted")


def run(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """As tools.sweeps.run, with score and loss on the held-out topic as well."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed, **options)
    history = training.train(model, tokenizer, tasks.load(task, "train", count), steps=steps, lr=lr, seed=seed,
                             batch_size=batch_size, progress=False)
    row = {"base": base, "task": task, "method": method, "options": json.dumps(options), "lr": lr, "seed": seed, "steps": steps,
           "count": count, "batch_size": batch_size}
    for split in SPLITS:
        rows = tasks.load(task, split)
        row[f"{split}_score"] = evaluation.exact_match(model, tokenizer, rows)
        row[f"{split}_loss"] = round(evaluation.answer_loss(model, tokenizer, rows), 5)
    return {**row, "facts_kept": evaluation.facts_kept(model, tokenizer), "final_loss": round(history.final_loss, 4),
            "trainable": training.count(model)[0], "seconds": round(history.seconds, 2)}


RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BEST = ("prefix", {"tokens": 20, "text": TEXT})
ARMS = [("full", {}), ("lora", {"rank": 8}), *(("prefix", {"tokens": p}) for p in (1, 5, 20)), ("prefix", {"tokens": 20, "mlp": True}), BEST]
COMMON = dict(run=run, seeds=(0, 1, 2), steps=80, rates=RATES)
SWEEPS = {"prefix-length": dict(COMMON, arms=[("data_to_text", *arm) for arm in ARMS]),
          "prefix-few-rows": dict(COMMON, count=50, arms=[("data_to_text", *arm) for arm in (("full", {}), ("lora", {"rank": 8}), BEST)])}
