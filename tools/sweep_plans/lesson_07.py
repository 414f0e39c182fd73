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
