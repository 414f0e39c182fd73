"""The leaderboard behind lesson 11: every method, the same rows, steps and search; writes data/results/leaderboard.json.

    python -m tools.leaderboard                      # or make leaderboard; an hour or more, goes on where it was stopped
    python -m tools.leaderboard --bases pocket-s     # one base; two bases may run side by side
    python -m tools.leaderboard --bases smollm       # a real model, one seed, three rates: leaderboard-smollm.json (an hour)
    python -m tools.leaderboard --save               # only gather what is there

For each base, task and method a rate is chosen from five with seed 0, once on 30 rows (for 10 and 30) and once on 300 (for 100
and 300), by validation score, ties by validation loss. Then five seeds run at every size; a seed draws its own rows. Two controls
must fail: LoRA on shuffled answers, and an adapter of noise whose update has the trained one's norm in every layer.
"""

import argparse
import functools
import json
import os
import pathlib
import random
import tempfile
import time

import torch
from tqdm import tqdm

from tools import sweeps
from tools.sweep_plans.lesson_08 import sentence
from utils import adapters, bases, evaluation, memory, methods, results, tasks, training

BASES, TASKS, SIZES, SEEDS = (
    ("pocket-s", "pocket-m"),
    {"facts": None, "sentiment": sentence},
    (10, 30, 100, 300),
    (0, 1, 2, 3, 4),
)
STEPS, BATCH = 80, 8
SEARCHED_ON = {10: 30, 30: 30, 100: 300, 300: 300}  # rows whose search a size uses
SMALL, LARGE = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1e-2, 3e-2, 1e-1, 3e-1, 1.0)
ARMS = {  # name: (method, options, its five rates, placed so that the best one lies inside)
    "full": ("full", {}, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    "head": ("head", {}, SMALL),
    "adapter": ("adapter", {"bottleneck": 16}, SMALL),
    "lora": ("lora", {"rank": 8}, SMALL),
    "qlora": ("lora", {"rank": 8, "four_bit": True}, SMALL),
    "ia3": ("ia3", {}, LARGE),
    "prefix": ("prefix", {"tokens": 10, "mlp": True}, SMALL),
    "prompt": ("prompt", {"tokens": 10, "init": "SAMPLE_VOCAB"}, LARGE),
    "p_tuning": ("p_tuning", {"tokens": 10}, SMALL),
}
LABELS, NOISE = "random labels", "random adapter"


def drawn(task, count, seed, shuffled=False):
    """`count` training rows of a task, drawn with the seed; with `shuffled`, each has the answer of another row."""
    rng, form = random.Random(seed), TASKS[task]
    rows = [form(r) if form else r for r in tasks.load(task, "train")]
    rows = rng.sample(rows, min(count, len(rows)))
    if shuffled:
        answers = rng.sample([r["answer"] for r in rows], len(rows))
        rows = [{**row, "answer": answer} for row, answer in zip(rows, answers)]
    return rows


@functools.cache
def held_out(task, split, base):
    """Rows that `base`, which is the chosen one, scores."""
    form = TASKS[task]
    return [form(r) if form else r for r in tasks.load(task, split)]


def made(base, method, options, seed):
    model, tokenizer = bases.load(base, four_bit=options.get("four_bit", False))
    return methods.apply(
        method, model, seed=seed, **{k: v for k, v in options.items() if k != "four_bit"}
    ), tokenizer


@functools.cache
def state_bytes(base, method, options):
    """Bytes of weights, adapter, gradients and AdamW's state, read from the tensors after one step."""
    model, tokenizer = made(base, method, json.loads(options), 0)
    optimizer = torch.optim.AdamW([p for _, p in training.trainable(model)])
    training.loss_of(model, evaluation.batch_of(model, tokenizer, drawn("facts", 2, 0))).backward()
    optimizer.step()
    return sum(memory.measured_state(model, optimizer).values())


def stored_bytes(model):
    """Bytes of the safetensors that a user would keep: what trains, or what peft leaves of it."""
    with tempfile.TemporaryDirectory() as folder:
        if hasattr(model, "adapter_config"):
            adapters.save(model, folder)
        elif hasattr(model, "peft_config"):
            model.save_pretrained(folder)
        else:
            from safetensors.torch import save_file

            save_file(
                {n: p.detach().clone() for n, p in training.trainable(model)},
                pathlib.Path(folder, "model.safetensors"),
            )
        return sum(path.stat().st_size for path in pathlib.Path(folder).glob("*.safetensors"))


def scores(model, tokenizer, task, base):
    return {
        "test_score": evaluation.exact_match(model, tokenizer, held_out(task, "test", base)),
        "facts_kept": evaluation.facts_kept(model, tokenizer),
        "world_perplexity": round(
            evaluation.perplexity(model, tokenizer, evaluation.world_texts(50)), 4
        ),
    }


def to_noise(model, seed):
    """Replace every LoRA update B A by a random one of the same rank and Frobenius norm, in place."""
    generator = torch.Generator().manual_seed(1000 + seed)
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "lora_A"):
                A, B = module.lora_A["default"].weight, module.lora_B["default"].weight
                norm = (B @ A).norm()
                A.copy_(torch.randn(A.shape, generator=generator))
                B.copy_(torch.randn(B.shape, generator=generator))
                B.mul_(norm / (B @ A).norm())
    return model


def run(base, task, method, options, count, lr, seed, shuffled, steps, batch_size):
    """Train one arm once; a flat dict. A LoRA run also holds the scores of its noise (columns that begin with noise_)."""
    model, tokenizer = made(base, method, options, seed)
    began, rows = time.process_time(), drawn(task, count, seed, shuffled)
    history = training.train(
        model, tokenizer, rows, steps=steps, lr=lr, seed=seed, batch_size=batch_size, progress=False
    )
    seconds, validation = time.process_time() - began, held_out(task, "validation", base)
    row = {
        "base": base,
        "task": task,
        "method": method,
        "options": json.dumps(options),
        "count": count,
        "rows": len(rows),
        "lr": lr,
        "seed": seed,
        "shuffled": shuffled,
        "steps": steps,
        "batch_size": batch_size,
        "final_loss": round(history.final_loss, 4),
        "validation_score": evaluation.exact_match(model, tokenizer, validation),
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, validation), 5),
        **scores(model, tokenizer, task, base),
        "trainable": training.count(model)[0],
        "stored_bytes": stored_bytes(model),
        "state_bytes": state_bytes(base, method, json.dumps(options)),
        "step_cpu_seconds": round(seconds / len(history.loss), 5),
    }
    if method == "lora" and "four_bit" not in options and not shuffled and base in BASES:
        row |= {
            f"noise_{k}": v for k, v in scores(to_noise(model, seed), tokenizer, task, base).items()
        }
    return row


def frozen(base, task, method, options):
    """The base as it is, under the method "none"."""
    model, tokenizer = bases.load(base)
    return {
        "base": base,
        "task": task,
        "method": method,
        "options": json.dumps(options),
        **scores(model, tokenizer, task, base),
        "trainable": 0,
        "stored_bytes": 0,
        "state_bytes": sum(memory.measured_state(model).values()),
    }


def race(base):
    """All runs of a base, taken from the ledger where they are there; rows with `arm` and `chosen`."""
    ledger, rows = sweeps.Ledger(f"leaderboard-{base}"), []
    bar = tqdm(total=len(TASKS) * (1 + len(ARMS) * (2 * 5 + 18) + 20), desc=base)

    def get(arm, task, lr, seed, count, shuffled=False, chosen=True):
        bar.update()
        bar.set_postfix_str(f"{task}, {arm}, {count} rows")
        method, options, _ = ARMS[arm]
        found = ledger.get(
            run=run,
            base=base,
            task=task,
            method=method,
            options=options,
            count=count,
            lr=lr,
            seed=seed,
            shuffled=shuffled,
            steps=STEPS,
            batch_size=BATCH,
        )
        row = {k: v for k, v in found.items() if not k.startswith("noise_") and k != "shuffled"} | {
            "arm": LABELS if shuffled else arm,
            "chosen": chosen,
        }
        noise = {k.removeprefix("noise_"): v for k, v in found.items() if k.startswith("noise_")}
        return [row] + ([{**row, "arm": NOISE, **noise}] if noise and chosen else [])

    for task in TASKS:
        rows.append(
            {
                **ledger.get(run=frozen, base=base, task=task, method="none", options={}),
                "arm": "none",
                "chosen": True,
            }
        )
        for arm, (_, _, rates) in ARMS.items():
            best = {}
            for count in sorted(set(SEARCHED_ON.values()), reverse=True):
                searched = [get(arm, task, lr, 0, count, chosen=False)[0] for lr in rates]
                best[count] = sweeps.best(searched)["lr"]
                rows += [row for row in searched if row["lr"] != best[count]]
            for count in SIZES:
                for seed in SEEDS:
                    rows += get(arm, task, best[SEARCHED_ON[count]], seed, count)
                    if arm == "lora":
                        rows += get(arm, task, best[SEARCHED_ON[count]], seed, count, shuffled=True)
    return rows


def save():
    """data/results/leaderboard.json from the ledgers; of a base that is not finished the rows stored before are kept, or it is left out and named."""
    rows, made_on = [], {}
    for base in BASES:
        done = len(sweeps.Ledger(f"leaderboard-{base}").rows)
        if done >= runs_of_a_base():
            rows, made_on[base] = rows + race(base), results.provenance()
            continue
        there = (
            results.load("leaderboard")
            if (results.DATA / "results" / "leaderboard.json").exists()
            else {"rows": []}
        )
        kept = results.select(there["rows"], base=base)
        print(
            f"{base}: {done} of {runs_of_a_base()} runs are done; {'its stored rows are kept' if kept else 'left out'}"
        )
        if kept:
            rows, made_on[base] = (
                rows + kept,
                there["settings"].get("made_on", {}).get(base, there["provenance"]),
            )
    path = results.save(
        "leaderboard",
        rows,
        {
            "steps": STEPS,
            "batch_size": BATCH,
            "sizes": SIZES,
            "seeds": SEEDS,
            "threads": torch.get_num_threads(),
            "rates": {arm: rates for arm, (_, _, rates) in ARMS.items()},
            "searched_on": SEARCHED_ON,
            "made_on": made_on,
            "rule": "rate by validation score with seed 0, ties by validation loss; every arm five rates",
        },
    )
    print(f"{len(rows)} rows in {path.name}")


def race_once(base):
    """One run of each task, method and rate (the middle three), with all rows and seed 0, at the base's own budget; saved task by task."""
    ledger, rows, about = sweeps.Ledger(f"leaderboard-{base}"), [], bases.BASES[base]
    steps, batch_size, rate, warmup = about.budget(STEPS, BATCH, 1.0, 8)
    asked = [fact["prompt"] for fact in evaluation.facts()[:4]]
    untouched = dict(zip(asked, evaluation.answers(*bases.load(base), asked, max_new_tokens=6)))
    for task in TASKS:
        rows.append(
            {
                **ledger.get(run=frozen, base=base, task=task, method="none", options={}),
                "arm": "none",
                "chosen": True,
            }
        )
        for arm, (method, options, rates) in tqdm(ARMS.items(), desc=f"{base}, {task}"):
            searched = [
                ledger.get(
                    run=run,
                    base=base,
                    task=task,
                    method=method,
                    options=options,
                    count=max(SIZES),
                    lr=lr,
                    seed=0,
                    shuffled=False,
                    steps=STEPS,
                    batch_size=BATCH,
                )
                for lr in rates[1:4]
            ]
            rows += [
                {
                    **{k: v for k, v in row.items() if k != "shuffled"},
                    "arm": arm,
                    "chosen": row is sweeps.best(searched),
                }
                for row in searched
            ]
        path = results.save(
            f"leaderboard-{base}",
            rows,
            {
                "steps": steps,
                "batch_size": batch_size,
                "rate_times": rate,
                "warmup": warmup,
                "held_out_rows": about.held_out,
                "seeds": (0,),
                "untouched": untouched,
                "threads": torch.get_num_threads(),
                "rates": {arm: rates[1:4] for arm, (_, _, rates) in ARMS.items()},
                "rule": "rate by validation score with seed 0, ties by validation loss; every arm three rates; a row's lr is before rate_times",
            },
        )
        print(f"{len(rows)} rows in {path.name}")


def runs_of_a_base():
    """Different runs that a base needs: the frozen base, the search, the seeds (the search holds two of them), shuffled answers."""
    sizes, seeds, searches = len(SIZES), len(SEEDS), len(set(SEARCHED_ON.values()))
    return len(TASKS) * (1 + len(ARMS) * (5 * searches + sizes * seeds - searches) + sizes * seeds)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", nargs="+", choices=[*BASES, "smollm"], default=BASES)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if not given.save:
        for base in given.bases:
            os.environ["PEFT_COURSE_BASE"] = base  # its budget and its held-out rows
            race(base) if base in BASES else race_once(base)
    save()


if __name__ == "__main__":
    main()
