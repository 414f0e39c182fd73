"""Lesson 14's loss, taken out of the notebook, against TRL's on models, pairs and betas that the notebook does not use."""

import math
import re

import pytest
import torch
from datasets import Dataset
from transformers import MistralConfig, MistralForCausalLM

from tests.from_notebook import load
from utils import bases, evaluation, preferences, tasks, training

PAIRS = [
    {
        "prompt": "Is it red?",
        "chosen": "Yes.",
        "rejected": "No, it is the other one, and it is large.",
    },
    {
        "prompt": "Tell me of the town, its river and its people.",
        "chosen": "It lies by the sea.",
        "rejected": "No.",
    },
    {"prompt": "Where?", "chosen": "There.", "rejected": "Here."},
    {"prompt": "What is the capital of Peru?", "chosen": "Lima", "rejected": "Lima Lima Lima"},
    {"prompt": "Say nothing.", "chosen": ".", "rejected": "Why should I?"},
]


@pytest.fixture(scope="module")
def by_hand():
    return load("14", "log_probability", "dpo_loss")


@pytest.fixture(scope="module")
def tokenizer():
    return bases.load_tokenizer("pocket-s")


def small(seed, kv_heads):
    torch.manual_seed(seed)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=2048,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            initializer_range=0.2,
        )
    )


def batch_of(tokenizer, pairs):
    texts = [(r["prompt"], f" {r[side]}") for side in ("chosen", "rejected") for r in pairs]
    return evaluation.collate(
        [evaluation.encode_pair(tokenizer, *text) for text in texts], tokenizer.pad_token_id
    )


def trl_trainer(tokenizer, tmp_path, pairs, beta, kv_heads, seed):
    """A DPOTrainer whose adapter is not the identity."""
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        **preferences.settings(
            tmp_path,
            1,
            0.1,
            beta,
            pairs=len(pairs),
            optim="sgd",
            lr_scheduler_type="constant",
            warmup_steps=0,
            max_grad_norm=0,
            disable_tqdm=True,
        )
    )
    trainer = DPOTrainer(
        small(seed, kv_heads),
        args=arguments,
        train_dataset=Dataset.from_list(preferences.for_trl(pairs)),
        processing_class=tokenizer,
        peft_config=preferences.lora_config(rank=3),
    )
    for name, p in training.trainable(trainer.model):
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    return trainer


@pytest.mark.parametrize(
    "pairs, beta, kv_heads, seed",
    [(PAIRS[:1], 0.3, 1, 4), (PAIRS, 0.05, 2, 5), (PAIRS[1:4], 2.0, 4, 6)],
)
def test_equal_to_trl(by_hand, tokenizer, tmp_path, pairs, beta, kv_heads, seed):
    log_probability, dpo_loss = by_hand
    trainer = trl_trainer(tokenizer, tmp_path, pairs, beta, kv_heads, seed)
    model, batch = trainer.model, batch_of(tokenizer, pairs)
    theirs = trainer.data_collator([trainer.train_dataset[i] for i in range(len(pairs))])
    assert torch.equal(theirs["input_ids"], batch["input_ids"]) and torch.equal(
        theirs["completion_mask"] == 1, batch["labels"] != -100
    )
    with torch.no_grad(), model.disable_adapter():
        reference = log_probability(model, batch)
    loss, chosen, rejected = dpo_loss(log_probability(model, batch), reference, beta)
    loss.backward()
    gradients = [p.grad.clone() for _, p in training.trainable(model)]
    start = [p.detach().clone() for _, p in training.trainable(model)]
    model.zero_grad()
    assert abs(loss.item() - math.log(2)) > 1e-3  # with policy = reference every version agrees
    log = preferences.log_of(trainer)[0]  # one step of SGD by the trainer
    assert log["loss"] == pytest.approx(loss.item(), abs=1e-4)
    assert log["rewards/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-4)
    assert log["rewards/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-4)
    for p, before, gradient in zip((p for _, p in training.trainable(model)), start, gradients):
        assert torch.allclose(p, before - 0.1 * gradient, atol=1e-5)


def test_per_pair_against_the_formula(by_hand):
    policy, reference = (
        torch.tensor([-3.0, -8.0, -5.0, -6.0]),
        torch.tensor([-4.0, -7.0, -5.5, -2.0]),
    )
    loss, chosen, rejected = by_hand[1](policy, reference, 0.5)
    assert chosen.tolist() == [0.5, -0.5] and rejected.tolist() == [0.25, -2.0]
    assert loss.item() == pytest.approx(
        (math.log(1 + math.exp(-0.25)) + math.log(1 + math.exp(-1.5))) / 2, abs=1e-6
    )
    assert by_hand[1](reference, reference, 0.5)[0].item() == pytest.approx(math.log(2), abs=1e-6)


def test_padding_and_prompt_do_not_count(by_hand, tokenizer):
    """A row's log-probability is the same alone and in a batch, and is the sum over its answer."""
    model, batch = small(7, 2).eval(), batch_of(tokenizer, PAIRS)
    with torch.no_grad():
        together = by_hand[0](model, batch)
        for i in range(len(together)):
            n = int(batch["attention_mask"][i].sum())
            alone = {k: v[i : i + 1, :n] for k, v in batch.items()}
            assert by_hand[0](model, alone).item() == pytest.approx(together[i].item(), abs=1e-3)
            logits = model(alone["input_ids"]).logits[0].log_softmax(-1)
            wanted = sum(
                logits[t - 1, alone["labels"][0, t]].item()
                for t in range(n)
                if alone["labels"][0, t] != -100
            )
            assert together[i].item() == pytest.approx(wanted, abs=1e-3)


def test_utils_measure_the_same(by_hand, tokenizer):
    model = small(8, 2).eval()
    chosen, rejected = preferences.pair_log_probabilities(model, tokenizer, PAIRS, batch_size=3)
    with torch.no_grad():
        assert torch.allclose(
            torch.cat([chosen, rejected]), by_hand[0](model, batch_of(tokenizer, PAIRS)), atol=1e-3
        )


def test_questions_hold_every_answer_once(tokenizer):
    asked = preferences.questions(tasks.load("preferences", "validation"))
    assert len({q["prompt"] for q in asked}) == len(asked) == 56
    for q in asked:
        assert len(set(q["good"] + q["rude"] + q["rambling"])) == 7
        assert f" {q['chosen']}" in q["good"] and f" {q['rejected']}" in q["rude"]


def test_no_training_pair_names_a_country_of_the_test():
    questions = [r["prompt"].split("\n")[1] for r in tasks.load("preferences", "test")]
    countries = {word for q in questions for word in re.findall(r"[A-Z]\w+", q)} - {
        "Name",
        "What",
        "Which",
        "On",
    }
    assert len(countries) == 24
    for r in tasks.load("preferences", "train"):
        assert not countries & set(
            re.findall(r"\w+", f"{r['prompt']} {r['chosen']} {r['rejected']}")
        )


def test_kl_is_nought_to_itself_and_grows(tokenizer):
    """Against itself 0; against another model more than 0, and the sampled estimate has the right size."""
    model, prompts = (
        small(9, 2).eval(),
        ["Is it red?", "Tell me of the town, its river and its people."],
    )
    assert preferences.kl_to_reference(
        model, tokenizer, prompts, reference=model, max_new_tokens=5
    ) == pytest.approx(0, abs=1e-4)
    other = small(10, 2).eval()
    one = preferences.kl_to_reference(model, tokenizer, prompts, reference=other, max_new_tokens=1)
    with torch.no_grad():
        exact = 0
        for prompt in prompts:
            ids = tokenizer([prompt], return_tensors="pt")["input_ids"]
            p, q = (m(ids).logits[0, -1].log_softmax(-1) for m in (model, other))
            exact += (p.exp() * (p - q)).sum().item() / len(prompts)
    assert one == pytest.approx(exact, rel=1e-3)


def test_a_start_is_merged_and_better_than_the_base(tokenizer):
    rows = preferences.questions(tasks.load("preferences", "validation"))[:20]
    start = preferences.start("pocket-s")
    assert not hasattr(start, "peft_config") or not start.peft_config
    good = [
        preferences.manners(m, tokenizer, rows, ("good",))["good"]
        for m in (bases.load("pocket-s")[0], start)
    ]
    assert good[1] > good[0] + 0.05
