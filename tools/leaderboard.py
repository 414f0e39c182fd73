"""The leaderboard behind lesson 11: every method, the same rows, steps and search; writes data/results/leaderboard.json.

    python -m tools.leaderboard                      # or make leaderboard; hours, goes on where it was stopped
    python -m tools.leaderboard --bases pocket-s     # one base
    python -m tools.leaderboard --tasks facts        # some tasks only
    python -m tools.leaderboard --workers 2          # so many runs at a time; all processors by default
    ENGINE=ray python -m tools.leaderboard           # on a Ray cluster (tools/engine.py); the same rows
    python -m tools.leaderboard --bases smollm       # a real model: leaderboard-smollm.json (an hour)
    python -m tools.leaderboard --save               # only gather what is there

For each base, task and method a learning rate is chosen by the course's one rule (tools/sweeps.py), once on 30 rows (for 10 and
30) and once on 300 (for 100 and 300). Then five seeds run at every size; a seed draws its own rows. Facts are asked as
instructions and in cloze form, for a prompt alone cannot teach the first. Two controls must fail: LoRA on shuffled answers, and
an adapter of noise whose update has the trained one's norm in every layer.

SmolLM2 gets what two cores can afford: all rows only, three seeds, no noise (one of its 48 held-out rows is .021, so that a single
answer that flips would exceed the limit), grids that begin with an arm's middle three rates and grow.

One more method is one more line in ARMS, with a function in utils.methods.METHODS that sets it up.
"""

import argparse
import collections
import functools
import json
import os
import pathlib
import random
import tempfile
import time

import torch

from tools import engine, sweeps
from tools import ledger as ledgers
from tools.ledger import Ledger, rows_of, together
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


def tuned(base, method, options, seed):
    model, tokenizer = bases.load(base, four_bit=options.get("four_bit", False))
    return methods.apply(
        method, model, seed=seed, **{k: v for k, v in options.items() if k != "four_bit"}
    ), tokenizer


@functools.cache
def state_bytes(base, method, options):
    """Bytes of weights, adapter, gradients and AdamW's state, read from the tensors after one step."""
    model, tokenizer = tuned(base, method, json.loads(options), 0)
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
    model, tokenizer = tuned(base, method, options, seed)
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


def made(settings, noise):
    """The row of one run; what a worker does. The run's base is the chosen one: its budget, its held-out rows."""
    torch.set_num_threads(1)
    maker = frozen if settings["method"] == "none" else run
    again = f"leaderboard.one({settings!r})"
    return ledgers.made(maker, settings, noise, again, settings["base"])


def one(settings):
    """The row of one run as JSON, for a process of its own with other numerics."""
    torch.set_num_threads(1)
    return json.dumps(run(**settings))


def ledger_of(base, task):
    """Name of the ledger of a base and a task, one each; of a base that is raced once, one for all."""
    return f"leaderboard-{base}-{task}" if base in BASES else f"leaderboard-{base}"


def searches(base, only, rows_of_arm):
    """{(base, task, arm): function that gives the arm's rows}, the untouched base first."""
    names = dict.fromkeys(ledger_of(base, task) for task in only)
    found, books = {}, {name: Ledger(name, made) for name in names}
    for task in only:
        ledger = books[ledger_of(base, task)]
        found[base, task, "none"] = functools.partial(rows_untuned, ledger, base, task)
        for arm in ARMS:
            found[base, task, arm] = functools.partial(rows_of_arm, ledger, base, task, arm)
    return found


def rows_untuned(ledger, base, task):
    untuned = ledger.find(base=base, task=task, method="none", options={})
    return [{**untuned, "arm": "none", "chosen": True}]


def finder(ledger, base, task, arm):
    """get(lr, seed, count, noise, shuffled): the row of a run of an arm, or Missing."""
    method, options, _ = ARMS[arm]

    def get(lr, seed, count, noise=None, shuffled=False):
        settings = {"method": method, "options": options, "count": count, "lr": lr, "seed": seed}
        fixed = {"shuffled": shuffled, "steps": STEPS, "batch_size": BATCH}
        return ledger.find(noise, base=base, task=task, **settings, **fixed)

    return get


def search(get, count, rates, seeds, noises):
    """(the rate that the rule chooses on `count` rows, the rows without noise that it looked at)."""
    looked_at = []

    def asked(lr, seed, noise=None):
        row = get(lr, seed, count, noise)
        looked_at.extend([] if noise or row in looked_at else [row])
        return row

    return sweeps.choose(asked, rates, seeds, noises)[0], looked_at


def told(row, arm, chosen):
    """What is stored of a run; of plain LoRA's chosen ones also the scores of its noise."""
    kept = {k: v for k, v in row.items() if not k.startswith("noise_") and k != "shuffled"}
    rows = [kept | {"arm": arm, "chosen": chosen}]
    noise = {k.removeprefix("noise_"): v for k, v in row.items() if k.startswith("noise_")}
    if noise and chosen and arm == "lora":
        rows.append(rows[0] | {"arm": NOISE, **noise})
    return rows


def rows_of_arm(ledger, base, task, arm):
    """All rows of an arm on a task; Missing while the ledger lacks some."""
    get, rates = finder(ledger, base, task, arm), ARMS[arm][2]
    counts, rows, best = sorted(set(SEARCHED_ON.values()), reverse=True), [], {}
    rule = (rates, SEARCH_SEEDS, sweeps.NOISES)
    found = together(*(functools.partial(search, get, count, *rule) for count in counts))
    for count, (chosen, looked_at) in zip(counts, found):
        best[count] = chosen
        for row in looked_at:
            if row["lr"] != chosen:
                rows += told(row, arm, chosen=False)
    kinds = (False, True) if arm == "lora" else (False,)
    runs = [
        (best[SEARCHED_ON[count]], seed, count, None, shuffled)
        for count in SIZES
        for seed in SEEDS
        for shuffled in kinds
    ]
    for row in rows_of(get, runs):
        rows += told(row, LABELS if row["shuffled"] else arm, chosen=True)
    if count := LIVE.get((task, arm)):
        first = {"lr": best[SEARCHED_ON[count]], "seed": SEEDS[0], "count": count}
        moved = rows_of(get, [(*first.values(), noise) for noise in sweeps.ALL_NOISES])
        for row in results.select(rows, arm=arm, chosen=True, **first):
            row["wobble"] = sweeps.wobble(get(**first), moved)
            row["wobble_of"] = len(sweeps.ALL_NOISES)
    return rows


def raced(found, task_done, title, **how):
    """Make the runs of some searches; task_done((base, task), rows) when all arms of a task are there."""
    rows, left = {}, collections.Counter(name[:2] for name in found)

    def finished(name, its_rows):
        rows[name], on = its_rows, name[:2]
        left[on] -= 1
        if not left[on]:
            task_done(on, [row for other in found if other[:2] == on for row in rows[other]])

    ledgers.complete(found, finished, title, **how)
    return [row for name in found for row in rows[name]]


def race(*of_bases, only=tuple(TASKS), **how):
    """All runs of bases on some tasks; rows with `arm` and `chosen`. `how`: workers and engine of engine.run_all."""
    found = {}
    for base in of_bases:
        found |= searches(base, only, rows_of_arm)
    return raced(found, lambda on, rows: done_file(*on).touch(), "leaderboard", **how)


def done_file(base, task):
    """The file whose presence says that all runs of a base on a task are made."""
    return ledgers.ROOT / "build" / "sweeps" / f"{ledger_of(base, task)}.done"


def save(**how):
    """data/results/leaderboard.json from the ledgers; of what is not finished the rows stored before are kept, and it is named."""
    rows, made_on = [], {}
    there = {"rows": [], "settings": {}}
    if (results.DATA / "results" / "leaderboard.json").exists():
        there = results.load("leaderboard")
    for base in BASES:
        for task in TASKS:
            if done_file(base, task).exists():
                rows += race(base, only=(task,), **how)
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


def rows_of_arm_on_all(ledger, base, task, arm):
    """The search of an arm on all rows; its three seeds are the runs that count."""
    get = finder(ledger, base, task, arm)
    chosen, rows = search(get, max(SIZES), ARMS[arm][2][1:4], SEARCH_SEEDS, noises=())
    return [
        {k: v for k, v in row.items() if k != "shuffled"}
        | {"arm": arm, "chosen": row["lr"] == chosen}
        for row in rows
    ]


def race_large(base, only=tuple(TASKS), **how):
    """The race of a base that is too large for all sizes and noises, at its own budget; saved task by task.

    Of a task that is not raced this time, or not finished, the rows stored before are kept, and it is named.
    """
    about, by_task, name = bases.BASES[base], {}, f"leaderboard-{base}"
    stored = (results.DATA / "results" / f"{name}.json").exists()
    before = results.load(name)["rows"] if stored else []
    steps, batch_size, rate, warmup = about.budget(STEPS, BATCH, 1.0, 8)
    asked = [fact["prompt"] for fact in evaluation.facts()[:4]]
    untouched = dict(zip(asked, evaluation.answers(*bases.load(base), asked, max_new_tokens=6)))
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "rate_times": rate,
        "warmup": warmup,
        "held_out_rows": about.held_out,
        "seeds": SEARCH_SEEDS,
        "untouched": untouched,
        "threads": torch.get_num_threads(),
        "rates": {arm: rates[1:4] for arm, (_, _, rates) in ARMS.items()},
        "rule": f"{sweeps.RULE}; no noise here; a row's lr is before rate_times",
    }

    def task_done(on, its_rows):
        by_task[on[1]] = its_rows
        kept = [row for row in before if row["task"] not in by_task]
        rows = [row for task in TASKS for row in by_task.get(task, results.select(kept, task=task))]
        path = results.save(name, rows, settings)
        old = ", ".join(dict.fromkeys(row["task"] for row in kept))
        print(f"{len(rows)} rows in {path.name}" + (f"; stored before: {old}" if old else ""))

    raced(searches(base, only, rows_of_arm_on_all), task_done, f"leaderboard, {base}", **how)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bases", nargs="+", choices=[*BASES, "smollm"], default=BASES)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=tuple(TASKS))
    sweeps.add_workers(parser)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    how = {"workers": sweeps.workers_of(given)}
    with engine.told():
        if not given.save:
            if pocket := [base for base in given.bases if base in BASES]:
                race(*pocket, only=given.tasks, **how)
            for base in given.bases:
                if base not in BASES:
                    os.environ["PEFT_COURSE_BASE"] = base  # for its answers before any training
                    race_large(base, only=given.tasks, **how)
        save(**how)


if __name__ == "__main__":
    from tools import leaderboard  # by this name workers know its functions

    leaderboard.main()
