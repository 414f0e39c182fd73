"""Prefix tuning against full tuning and LoRA on data-to-text: length and MLP; then with 50 training rows."""
import json

import torch

from utils import bases, evaluation, methods, tasks, training


def scored(model, tokenizer, rows):
    """(exact match, loss a token) in one pass over the rows."""
    pairs, hits, total, count = [evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows], 0, 0.0, 0
    with evaluation.evaluating(model):
        for _, logits, labels in evaluation._scored_batches(model, tokenizer, pairs, 100):
            hits += ((logits.argmax(-1) == labels) | (labels == evaluation.IGNORE)).all(-1).sum().item()
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=evaluation.IGNORE, reduction="sum").item()
            count += (labels != evaluation.IGNORE).sum().item()
    return hits / len(rows), round(total / count, 5)


def run(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """As tools.sweeps.run, with score and loss on the held-out topic as well."""
    model, tokenizer = bases.load(base)
    model = methods.apply(method, model, seed=seed, **options)
    history = training.train(model, tokenizer, tasks.load(task, "train", count), steps=steps, lr=lr, seed=seed,
                             batch_size=batch_size, progress=False)
    row = {"base": base, "task": task, "method": method, "options": json.dumps(options), "lr": lr, "seed": seed, "steps": steps,
           "count": count, "batch_size": batch_size}
    for split in ("validation", "test", "shifted"):
        row[f"{split}_score"], row[f"{split}_loss"] = scored(model, tokenizer, tasks.load(task, split))
    return {**row, "facts_kept": evaluation.facts_kept(model, tokenizer), "final_loss": round(history.final_loss, 4),
            "trainable": training.count(model)[0], "seconds": round(history.seconds, 2)}


TEXT = " Red Fox is a shop near the harbour. It offers flowers at fair prices." * 2  # real words to start from: the wording of the task
PREFIX, LORA, FULL = ("prefix", {"tokens": 20}), ("lora", {"rank": 8}), ("full", {})
ARMS = [PREFIX, LORA, FULL, ("prefix", {"tokens": 20, "mlp": True}), ("prefix", {"tokens": 5}), ("prefix", {"tokens": 1}),
        ("prefix", {"tokens": 20, "text": TEXT})]
COMMON = dict(run=run, seeds=(0, 1, 2), steps=120, batch_size=8, rates=(1e-3, 3e-3, 1e-2, 1e-1, 3e-1))
SWEEPS = {"prefix-length": dict(COMMON, arms=[("data_to_text", *arm) for arm in ARMS]),
          "prefix-few-rows": dict(COMMON, count=50, arms=[("data_to_text", *arm) for arm in (PREFIX, FULL)])}
