"""Ratios of times, both sides interleaved in one run: python -m tools.benchmark. Writes data/results/benchmark.json.

The course's training loop against a bare PyTorch loop doing the same work (aim: at most 1.15 times).
"""

import statistics
import time

import torch

from utils import bases, evaluation, methods, results, tasks, training

STEPS, ROUNDS = 20, 7


def bare_loop(model, pairs, pad_id, order):
    """What anyone would write: batch, loss, backward, clip, step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    model.train()
    for index in order:
        batch = evaluation.collate([pairs[i] for i in index], pad_id)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[
            :, :-1
        ]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=evaluation.IGNORE
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def training_loop():
    """Median over rounds of (seconds of utils.training.train) / (seconds of the bare loop) on the same batches."""
    rows = tasks.load("facts", "train")
    model, tokenizer = bases.load("pocket-s")
    model = methods.apply("lora", model, rank=8)
    pairs = [evaluation.encode_pair(tokenizer, r["prompt"], r["answer"]) for r in rows]
    order = list(training.batches(len(pairs), 16, STEPS, seed=0))
    ratios = []
    for round_ in range(ROUNDS + 1):
        began = time.perf_counter()
        bare_loop(model, pairs, tokenizer.pad_token_id, order)
        bare = time.perf_counter() - began
        began = time.perf_counter()
        training.train(model, tokenizer, rows, steps=STEPS, lr=1e-3, progress=False)
        if round_:  # the first round warms up
            ratios.append((time.perf_counter() - began) / bare)
    return {
        "what": "training loop / bare loop",
        "ratio": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
        "limit": 1.15,
    }


if __name__ == "__main__":
    row = training_loop()
    print(row)
    results.save(
        "benchmark",
        [row],
        {"steps": STEPS, "rounds": ROUNDS, "threads": torch.get_num_threads(), "base": "pocket-s"},
    )
