"""Rewards: the start, PPO with a learned judge, GRPO with programs, and the plain alternatives.

The functions that train are those of the notebooks 02 and 15, taken out by their syntax trees.
"""

import copy
import functools

import torch
from peft import get_peft_model

from tools.sweep_plans import about
from utils import bases, evaluation, preferences, results, rewards, tasks, training

LESSON = (
    "k1",
    "k3",
    "sentences",
    "right",
    "polite",
    "brief",
    "full",
    "total",
    "rollout",
    "logprobs",
    "token_rewards",
    "gae",
    "masked_mean",
    "clipped_loss",
    "whiten",
    "Critic",
    "ppo_round",
    "group_advantages",
    "grpo_loss",
    "reference_logprobs",
    "grpo",
)
JUDGE = ("reward_loss", "scores", "two_answers", "scorer", "train_reward")


@functools.cache
def lesson():
    """{name: function} of the notebooks; read when a run starts, so that other sweeps need no notebook."""
    from tests.from_notebook import load

    return {
        **dict(zip(LESSON, load("15", *LESSON))),
        **dict(zip(JUDGE, load("02", *JUDGE))),
    }


def run_start(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """Train the start and keep its adapter; seed 0 is the stored one."""
    model, tokenizer = rewards.train_start(seed)
    save_start(model)
    model = model.merge_and_unload()
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        **measured(model, tokenizer),
    }


def save_start(model, folder=rewards.START):
    """The adapter in 16 bits, its configuration without the path of the machine that made it."""
    from safetensors.torch import load_file, save_file

    model.peft_config["default"].base_model_name_or_path = "data/pocket/s"
    model.save_pretrained(folder)
    file = folder / "adapter_model.safetensors"
    save_file({n: w.half().contiguous() for n, w in load_file(file).items()}, file)
    (folder / "README.md").unlink(missing_ok=True)


def measured(model, tokenizer, before=None):
    """What is stored of a model: shares of good answers on validation and test questions, KL to `before`, facts kept."""
    validation, test = rewards.questions("validation"), rewards.questions("test")
    found = rewards.shares(model, tokenizer, test)
    held_out = rewards.shares(model, tokenizer, validation)["good"]
    kl = 0.0
    if before is not None:
        prompts = [r["prompt"] for r in test]
        kl = preferences.kl_to_reference(model, tokenizer, prompts, before)
    torch.manual_seed(0)
    prompts = [r["prompt"] for r in test[:6]]
    said = evaluation.answers(model, tokenizer, prompts, do_sample=True, top_k=0, max_new_tokens=32)
    return {
        "validation_score": round(held_out, 4),
        "validation_loss": round(evaluation.answer_loss(model, tokenizer, validation), 5),
        "good": round(found["good"], 4),
        "greedy": round(found["greedy"], 4),
        "kl": round(kl, 3),
        "facts_kept": round(evaluation.facts_kept(model, tokenizer), 4),
        "answers": [a.strip() for a in said],
    }


def fresh(options, seed):
    """(model to train, the start, tokenizer): LoRA of a rank on the start, or the start itself."""
    before, tokenizer = rewards.start(), bases.load_tokenizer()
    torch.manual_seed(seed)
    model = copy.deepcopy(before)
    if options.get("rank"):
        return get_peft_model(model, preferences.lora_config(options["rank"])), before, tokenizer
    return model.requires_grad_(True), before, tokenizer


def run_grpo(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=32):
    """GRPO of the notebook: `steps` batches of 4 questions with 8 answers each."""
    model, before, tokenizer = fresh(options, seed)
    functions = [lesson()[name] for name in options["reward"]]
    beta = options.get("beta", 0.0)
    history = lesson()["grpo"](
        model, tokenizer, rewards.questions("train"), functions, steps, lr, beta=beta, seed=seed
    )
    by_step = {
        f"{name}_by_step": [round(h[name], 3) for h in history]
        for name in ("reward", "no_spread", "words")
    }
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        **measured(model, tokenizer, before),
        **by_step,
    }


def run_copy(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=16):
    """SFT from the start: on the chosen answers, or on the start's own answers that the program gives the full reward."""
    model, before, tokenizer = fresh(options, seed)
    rows = rewards.questions("train")
    if options["answers"] == "own":
        rows = passed(before, tokenizer, rows, seed)
    training.train(
        model, tokenizer, rows, steps=steps, lr=lr, seed=seed, batch_size=batch_size, progress=False
    )
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "rows": len(rows),
        **measured(model, tokenizer, before),
    }


def passed(model, tokenizer, rows, seed, answers=640):
    """The rows with answers that the model itself wrote and that got the full reward; `answers` are written."""
    torch.manual_seed(seed)
    some = [rows[i] for index in training.batches(len(rows), answers, 1, seed) for i in index]
    said = evaluation.answers(
        model,
        tokenizer,
        [r["prompt"] for r in some],
        do_sample=True,
        top_k=0,
        max_new_tokens=32,
        batch_size=160,
    )
    program = [lesson()[name] for name in ("right", "polite", "brief")]
    given = lesson()["total"](program, said, some)
    return [
        {**r, "answer": f" {a.strip()}"} for r, a, g in zip(some, said, given.tolist()) if g >= 1.5
    ]


@functools.cache
def judge_of(seed):
    """The reward model of lesson 02 at its chosen learning rate, and a function that scores answers with it."""
    chosen = results.select(results.load("ways-reward")["rows"], chosen=True, seed=0)[0]
    tokenizer = bases.load_tokenizer()
    model = lesson()["scorer"](tokenizer, seed)
    rows = tasks.load("preferences")
    lesson()["train_reward"](model, tokenizer, rows, chosen["steps"], chosen["lr"], seed)

    @torch.no_grad()
    def judge(answers, rows):
        pairs = [
            evaluation.encode_pair(tokenizer, r["prompt"], f" {a.strip()}")
            for r, a in zip(rows, answers)
        ]
        ids = evaluation.collate(pairs, tokenizer.pad_token_id, model.device)["input_ids"]
        return lesson()["scores"](model, ids, tokenizer.pad_token_id)

    return judge


def run_ppo(task, method, options, lr, seed, steps, base="pocket-s", count=None, batch_size=32):
    """PPO of the notebook with the learned judge: `steps` rounds of 32 answers."""
    model, before, tokenizer = fresh(options, seed)
    judge, critic = judge_of(seed), lesson()["Critic"](model)
    groups = [
        {"params": [p for _, p in training.trainable(model)], "lr": lr},
        {"params": list(critic.parameters()), "lr": 1e-2},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    torch.manual_seed(seed)
    rows, scores = rewards.questions("train"), []
    for index in training.batches(len(rows), batch_size, steps, seed):
        some = [rows[i] for i in index]
        score, _, _ = lesson()["ppo_round"](
            model, critic, optimizer, judge, tokenizer, some, options["beta"]
        )
        scores.append(round(score, 3))
    test = rewards.questions("test")
    torch.manual_seed(seed)
    said = evaluation.answers(
        model,
        tokenizer,
        [r["prompt"] for r in test],
        do_sample=True,
        top_k=0,
        max_new_tokens=32,
        batch_size=len(test),
    )
    return {
        **about(base, task, method, options, lr, seed, steps, count, batch_size),
        "beta": options["beta"],
        "score": round(judge(said, test).mean().item(), 3),
        **measured(model, tokenizer, before),
        "score_by_round": scores,
    }


PROGRAM, PAID = ["right", "polite", "brief"], ["right", "polite", "full"]
GRPO = dict(run=run_grpo, steps=20, seeds=(0, 1, 2), batch_size=32, noises=())


def grpo_arm(rank, reward=PROGRAM, **options):
    return ("preferences", "grpo", {"rank": rank, "reward": reward, **options})


SWEEPS = {
    "rewards-start": dict(
        run=run_start,
        steps=rewards.STEPS,
        rates=(rewards.RATE,),
        arms=[("preferences", "lora", {})],
        seeds=(0,),
        batch_size=rewards.ROWS,
        noises=(),
    ),
    # Two betas at the same learning rate: nothing is chosen.
    "ppo-judge": dict(
        run=run_ppo,
        steps=16,
        rates=(3e-3,),
        arms=[("preferences", "ppo", {"rank": 8, "beta": beta}) for beta in (0.0, 0.1)],
        seeds=(0, 1, 2),
        batch_size=32,
        noises=(),
    ),
    "grpo-lora": dict(rates=(1e-3, 3e-3, 1e-2), arms=[grpo_arm(1), grpo_arm(8)], **GRPO),
    "grpo-full": dict(rates=(1e-4, 3e-4, 1e-3), arms=[grpo_arm(0)], **GRPO),
    "grpo-cheated": dict(
        rates=(3e-3,),
        arms=[grpo_arm(8, PAID)],
        **GRPO,
    ),
    "rewards-copied": dict(
        run=run_copy,
        steps=40,
        rates=(1e-3, 3e-3, 1e-2),
        arms=[("preferences", "sft", {"rank": 8, "answers": a}) for a in ("chosen", "own")],
        seeds=(0, 1, 2),
        batch_size=16,
        noises=(),
    ),
}
