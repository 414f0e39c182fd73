"""Prompt tuning: the form of the rows, how a prompt starts, and how large the base is.

`python -m tools.sweep_plans.lesson_08` trains the five prompts that vote, once the sweep prompt-start has chosen their rate.
"""

LABELS = {"tokens": 10, "init": "TEXT", "text": " positive negative"}
STARTS = [LABELS, {"tokens": 10, "init": "SAMPLE_VOCAB"}, {"tokens": 10, "init": "RANDOM"}]


def sentence(row):
    """The task as a sentence such as the base has read: its texts end in a full stop."""
    return {**row, "prompt": f"{row['text']} The sentiment is", "answer": f" {row['label']}."}


COMMON = dict(seeds=(0, 1, 2), steps=120, batch_size=8, form=sentence)
PROMPT = dict(rates=(1e-2, 3e-2, 1e-1, 3e-1, 1.0), live=[("sentiment", "prompt", LABELS)], **COMMON)
FULL = dict(rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2), **COMMON)


def against_full(size):
    """Prompt tuning and full tuning on one base, each search begins on its own grid of five rates."""
    return {
        f"prompt-scale-{size}": dict(
            base=f"pocket-{size}", arms=[("sentiment", "prompt", LABELS)], **PROMPT
        ),
        f"prompt-full-{size}": dict(
            base=f"pocket-{size}", arms=[("sentiment", "full", {})], **FULL
        ),
    }


SWEEPS = {
    "prompt-plain": dict(arms=[("sentiment", "prompt", LABELS)], **{**PROMPT, "form": None}),
    "prompt-start": dict(arms=[("sentiment", "prompt", start) for start in STARTS], **PROMPT),
    **against_full("xs"),
    **against_full("s"),
    **against_full("m"),
}
del SWEEPS["prompt-scale-s"]  # an arm of prompt-start


def train_voters(seeds=range(5)):
    """data/results/prompt-votes.safetensors: one prompt a seed, started from the vocabulary."""
    import json

    from safetensors.torch import save_file

    from utils import bases, methods, results, tasks, training

    row = next(
        r
        for r in results.select(results.load("prompt-start")["rows"], options=json.dumps(STARTS[1]))
        if r["chosen"]
    )
    prompts = {}
    for seed in seeds:
        model, tokenizer = bases.load(row["base"])
        model = methods.apply("prompt", model, seed=seed, **STARTS[1])
        training.train(
            model,
            tokenizer,
            [sentence(r) for r in tasks.load("sentiment", "train")],
            steps=row["steps"],
            lr=row["lr"],
            seed=seed,
            batch_size=row["batch_size"],
            progress=False,
        )
        prompts[f"seed {seed}"] = model.get_prompt_embedding_to_save("default").contiguous()
    made_with = {k: str(row[k]) for k in ("base", "task", "options", "lr", "steps", "batch_size")}
    save_file(
        prompts,
        results.DATA / "results" / "prompt-votes.safetensors",
        {**made_with, **results.provenance()},
    )


if __name__ == "__main__":
    train_voters()
