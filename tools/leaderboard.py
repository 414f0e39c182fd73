"""The leaderboard behind lesson 11: every method, the same rows, steps and search; writes data/results/leaderboard.json.

    python -m tools.leaderboard                      # or make leaderboard; hours, goes on where it was stopped
    python -m tools.leaderboard --bases pocket-s     # one base
    python -m tools.leaderboard --tasks facts        # some tasks only: two processes may share the work so
    python -m tools.leaderboard --bases smollm       # a real model, one seed: leaderboard-smollm.json (an hour)
    python -m tools.leaderboard --save               # only gather what is there

For each base, task and method a learning rate is chosen by the course's one rule (tools/sweeps.py), once on 30 rows (for 10 and
30) and once on 300 (for 100 and 300). Then five seeds run at every size; a seed draws its own rows. Facts are asked as
instructions and in cloze form, for a prompt alone cannot teach the first. Two controls must fail: LoRA on shuffled answers, and
an adapter of noise whose update has the trained one's norm in every layer.

One more method is one more line in ARMS, with a function in utils.methods.METHODS that sets it up.
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
from tools.sweep_plans import lesson_17
from tools.sweep_plans.lesson_08 import sentence
from tools.sweep_plans.lesson_09 import cloze
from utils import adapters, bases, evaluation, memory, methods, results, tasks, training

BASES, TASKS, SIZES, SEEDS = (
    ("pocket-s", "pocket-m"),
    {"facts": None, "cloze": cloze, "sentiment": sentence},
    (10, 30, 100, 300),
    (0, 1, 2, 3, 4),
)
STEPS, BATCH = 80, 8
SEARCHED_ON = {10: 30, 30: 30, 100: 300, 300: 300}  # rows whose search a size uses
SMALL, LARGE = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1e-2, 3e-2, 1e-1, 3e-1, 1.0)
ARMS = {  # name: (method, options, five rates, a grid that grows where the best one lies at its edge)
    "full": ("full", {}, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
    "head": ("head", {}, SMALL),
    "adapter": ("adapter", {"bottleneck": 16}, SMALL),
    "lora": ("lora", {"rank": 8}, SMALL),
    "qlora": ("lora", {"rank": 8, "four_bit": True}, SMALL),
    "ia3": ("ia3", {}, LARGE),
    "prefix": ("prefix", {"tokens": 10}, (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)),
    "prompt": ("prompt", {"tokens": 10, "init": "SAMPLE_VOCAB"}, LARGE),
    "p_tuning": ("p_tuning", {"tokens": 10}, SMALL),
}
# Lesson 17's variants of LoRA. They are raced in tools/sweep_plans/lesson_17.py; to race them here as well: ARMS.update(VARIANTS).
VARIANTS = {f.__name__: (f.__name__, {}, SMALL[1:4]) for f in lesson_17.RACED}
LABELS, NOISE = "random labels", "random adapter"
SEARCH_SEEDS = SEEDS[:3]
# What lesson 11 runs again: {(task, arm): rows}, with the first seed.
LIVE = {("facts", "lora"): 100, ("sentiment", "prompt"): 30}


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
    seconds = time.process_time() - began
    score, loss = evaluation.score_and_loss(model, tokenizer, held_out(task, "validation", base))
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
        "validation_score": score,
        "validation_loss": round(loss, 5),
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


def race(base, only=tuple(TASKS)):
    """All runs of a base on some tasks, from the ledger where they are there; rows with `arm` and `chosen`."""
    return [
        row
        for task in only
        for row in race_on(
            base, task, sweeps.Ledger(ledger_of(base, task), "leaderboard.one({!r})")
        )
    ]


def ledger_of(base, task):
    """Name of the ledger of a base and a task, one each, so that processes may share the work by tasks."""
    return f"leaderboard-{base}-{task}"


def one(settings):
    """The row of one run as JSON, for a process of its own with other numerics."""
    torch.set_num_threads(1)
    return json.dumps(run(**settings))


def race_on(base, task, ledger):
    """All runs of a base on one task."""

    def get(arm, lr, seed, count, noise=None, shuffled=False):
        method, options, _ = ARMS[arm]
        settings = {"method": method, "options": options, "count": count, "lr": lr, "seed": seed}
        fixed = {"shuffled": shuffled, "steps": STEPS, "batch_size": BATCH}
        return ledger.get(run, noise, base=base, task=task, **settings, **fixed)

    def told(row, arm, chosen):
        kept = {k: v for k, v in row.items() if not k.startswith("noise_") and k != "shuffled"}
        rows = [kept | {"arm": arm, "chosen": chosen}]
        noise = {k.removeprefix("noise_"): v for k, v in row.items() if k.startswith("noise_")}
        if noise and chosen and arm == "lora":
            rows.append(rows[0] | {"arm": NOISE, **noise})
        return rows

    untuned = ledger.get(run=frozen, base=base, task=task, method="none", options={})
    rows = [{**untuned, "arm": "none", "chosen": True}]
    for arm, (_, _, rates) in tqdm(ARMS.items(), desc=f"{base}, {task}"):
        best = {}
        for count in sorted(set(SEARCHED_ON.values()), reverse=True):
            searched = []

            def search(lr, seed, noise=None):
                row = get(arm, lr, seed, count, noise)
                searched.extend([] if noise or row in searched else [row])
                return row

            best[count], wobbles = sweeps.choose(search, rates, SEARCH_SEEDS)
            for row in searched:
                if row["lr"] != best[count]:
                    rows += told(row, arm, chosen=False)
        for count in SIZES:
            lr = best[SEARCHED_ON[count]]
            for seed in SEEDS:
                rows += told(get(arm, lr, seed, count), arm, chosen=True)
                if arm == "lora":
                    rows += told(get(arm, lr, seed, count, shuffled=True), LABELS, chosen=True)
        if count := LIVE.get((task, arm)):
            first = {"lr": best[SEARCHED_ON[count]], "seed": SEEDS[0], "count": count}
            moved = [get(arm, **first, noise=noise) for noise in sweeps.ALL_NOISES]
            for row in results.select(rows, arm=arm, chosen=True, **first):
                row["wobble"] = sweeps.wobble(get(arm, **first), moved)
                row["wobble_of"] = len(sweeps.ALL_NOISES)
    done_file(base, task).touch()
    return rows


def done_file(base, task):
    """The file whose presence says that all runs of a base on a task are made."""
    return sweeps.ROOT / "build" / "sweeps" / f"{ledger_of(base, task)}.done"


def save():
    """data/results/leaderboard.json from the ledgers; of what is not finished the rows stored before are kept, and it is named."""
    rows, made_on = [], {}
    there = {"rows": [], "settings": {}}
    if (results.DATA / "results" / "leaderboard.json").exists():
        there = results.load("leaderboard")
    for base in BASES:
        for task in TASKS:
            if done_file(base, task).exists():
                rows += race(base, (task,))
                made_on[f"{base}, {task}"] = results.provenance()
                continue
            kept = results.select(there["rows"], base=base, task=task)
            print(
                f"{base}, {task}: not finished; {'its stored rows are kept' if kept else 'left out'}"
            )
            if kept:
                rows += kept
                before = there["settings"].get("made_on", {})
                key = f"{base}, {task}"
                made_on[key] = before.get(key) or before.get(base) or there["provenance"]
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
            "rule": sweeps.RULE,
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
            searched = []

            def get(lr, seed, noise=None):
                settings = {"method": method, "options": options, "lr": lr, "seed": seed}
                fixed = {
                    "count": max(SIZES),
                    "shuffled": False,
                    "steps": STEPS,
                    "batch_size": BATCH,
                }
                row = ledger.get(run, noise, base=base, task=task, **settings, **fixed)
                searched.extend([] if row in searched else [row])
                return row

            chosen, _ = sweeps.choose(get, rates[1:4], (0,), noises=())
            rows += [
                {k: v for k, v in row.items() if k != "shuffled"}
                | {"arm": arm, "chosen": row["lr"] == chosen}
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
                "rule": f"{sweeps.RULE}; one seed and no noise here; a row's lr is before rate_times",
            },
        )
        print(f"{len(rows)} rows in {path.name}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", nargs="+", choices=[*BASES, "smollm"], default=BASES)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=tuple(TASKS))
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.save:
        for base in given.bases:
            os.environ["PEFT_COURSE_BASE"] = base  # its budget and its held-out rows
            race(base, given.tasks) if base in BASES else race_once(base)
    save()


if __name__ == "__main__":
    main()
