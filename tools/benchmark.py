"""Ratios of times, all sides interleaved in one run: python -m tools.benchmark. Writes data/results/benchmark.json.

Three rows: the training step against the step that the course had before (all logits, plain AdamW, deterministic kernels; aim: at
most 0.65 times), the training loop against a bare loop that does the same work (aim: at most 1.15 times), and the step's share of
what the cores' sgemm reaches. Times are CPU seconds of this process, so that other programs disturb them little.
"""

import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from utils import bases, evaluation, methods, results, tasks, training

STEPS, ROUNDS = 20, 7


def all_logits(model, batch):
    """The loss as it was computed before: logits at every position, most of which have no label."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits[:, -batch["labels"].shape[1] :][:, :-1].float()
    labels = batch["labels"][:, 1:].flatten()
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels, ignore_index=evaluation.IGNORE
    )


def loop(model, pairs, pad_id, order, loss_of, fused):
    """What anyone would write: batch, loss, backward, clip, step. Returns the losses."""
    learnable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnable, lr=1e-3, weight_decay=0.0, fused=fused)
    losses = []
    model.train()
    for step, index in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * training.schedule(step, len(order), 8)
        loss = loss_of(model, evaluation.collate([pairs[i] for i in index], pad_id))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def before(*run):
    """The loop as it was: all logits, plain AdamW, deterministic kernels."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        return loop(*run, all_logits, fused=False)
    finally:
        torch.use_deterministic_algorithms(False)


def sgemm(size=1024, repeats=10):
    """Floating-point operations a CPU second that a product of two square matrices reaches."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    return repeats * 2 * size**3 / seconds(lambda: [a @ b for _ in range(repeats)])


def seconds(function):
    """CPU seconds of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def measure(task, method, **options):
    """The three rows for one method on one task's rows."""
    rows = tasks.load(task, "train")
    fresh = {}
    for name in ("before", "bare", "now"):
        model, tokenizer = bases.load("pocket-s")
        fresh[name] = methods.apply(method, model, **options)
    pairs = training.encode(fresh["now"], tokenizer, rows)
    order, pad = list(training.batches(len(pairs), 16, STEPS, seed=0)), tokenizer.pad_token_id
    given = {"steps": STEPS, "lr": 1e-3, "progress": False}
    losses = {}
    calls = {
        "before": lambda: losses.setdefault("before", before(fresh["before"], pairs, pad, order)),
        "bare": lambda: loop(fresh["bare"], pairs, pad, order, training.loss_of, True),
        "now": lambda: losses.setdefault(
            "now", training.train(fresh["now"], tokenizer, rows, **given).loss
        ),
    }
    took, peak = {name: [] for name in calls}, []
    for round_ in range(ROUNDS + 1):
        peak.append(sgemm())
        for name, call in calls.items():
            once = seconds(call)
            if round_:  # the first round warms up
                took[name].append(once)
    apart = max(abs(a - b) for a, b in zip(losses["before"][:10], losses["now"][:10]))
    with FlopCounterMode(display=False) as counter:
        batch = evaluation.collate([pairs[i] for i in order[0]], pad)
        training.loss_of(fresh["now"], batch).backward()
    rate = counter.get_total_flops() * STEPS / statistics.median(took["now"])
    where = f"{method} on {task}"

    def row(what, ratios, limit):
        return {
            "what": f"{what}, {where}",
            "ratio": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "limit": limit,
        }

    against = {n: [a / b for a, b in zip(took["now"], took[n])] for n in ("before", "bare")}
    return [
        row("training step / step before", against["before"], 0.65)
        | {"losses_of_ten_steps_apart": float(f"{apart:.1e}")},
        row("training loop / bare loop", against["bare"], 1.15),
        {
            "what": f"share of sgemm, {where}",
            "gflops_a_second": round(rate / 1e9, 1),
            "sgemm_gflops_a_second": round(statistics.median(peak) / 1e9, 1),
            "share": round(rate / statistics.median(peak), 3),
            "milliseconds_a_step": round(1000 * statistics.median(took["now"]) / STEPS, 1),
        },
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = measure("facts", "lora", rank=8) + measure("entities", "full")
    for line in found:
        print(line)
    settings = {"steps": STEPS, "rounds": ROUNDS, "threads": 1, "base": "pocket-s"}
    results.save("benchmark", found, settings)
