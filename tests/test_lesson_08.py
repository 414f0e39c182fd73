"""The notebook's own PromptTuned against peft, on models, shapes and seeds that the notebook does
not use."""

import re

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from safetensors import safe_open

from tests.from_notebook import load
from tests.small_models import small_mistral
from utils import bases, evaluation, results, tasks, training


def tiny(heads, kv_heads, seed):
    shape = dict(hidden_size=48, num_hidden_layers=3, intermediate_size=80)
    shape |= dict(num_attention_heads=heads, max_position_embeddings=64)
    return small_mistral(seed, kv_heads, **shape).eval()


def pair(heads, kv_heads, tokens, seed):
    """(the notebook's, peft's, peft's prompt) around equal models."""
    theirs = get_peft_model(
        tiny(heads, kv_heads, seed),
        PromptTuningConfig(num_virtual_tokens=tokens, task_type="CAUSAL_LM"),
    ).eval()
    table = theirs.prompt_encoder["default"].embedding.weight
    return load("08", "PromptTuned")(tiny(heads, kv_heads, seed), table.detach()), theirs, table


def padded(batch, length, seed):
    """A batch whose rows have different lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randint(1, 97, (max(2, length - i),), generator=generator).tolist()
        for i in range(batch)
    ]
    return evaluation.collate([(ids, ids) for ids in rows], 0)


@pytest.mark.parametrize("batch, length, tokens", [(1, 7, 3), (4, 13, 5), (3, 2, 1)])
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (6, 2), (8, 1)])
def test_equals_peft(heads, kv_heads, batch, length, tokens):
    mine, theirs, table = pair(heads, kv_heads, tokens, seed=7)
    inputs = padded(batch, length, seed=11)
    out = [
        m(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        for m in (mine, theirs)
    ]
    assert out[0].shape == out[1].shape == (batch, tokens + length, 97)
    assert torch.allclose(out[0], out[1], atol=1e-5)
    for m in (mine, theirs):
        training.loss_of(m, inputs).backward()
    assert (
        torch.allclose(mine.prompt.grad, table.grad, atol=1e-6) and mine.prompt.grad.abs().max() > 0
    )
    for prompt in (mine.prompt, table):
        torch.optim.AdamW([prompt], lr=0.1).step()
    assert torch.allclose(mine.prompt, table, atol=1e-4)


def test_only_the_prompt_trains_and_the_start_is_left_alone():
    start = torch.randn(5, 48)
    kept = start.clone()
    mine = load("08", "PromptTuned")(tiny(6, 2, 0), start)
    assert training.count(mine)[0] == 5 * 48
    training.loss_of(mine, padded(2, 9, 0)).backward()
    torch.optim.SGD([mine.prompt], lr=1.0).step()
    assert torch.equal(start, kept) and not torch.equal(mine.prompt, start)


@pytest.mark.parametrize("with_prompt", [False, True])
def test_label_log_p_is_that_of_each_row_alone(with_prompt):
    """Rows of different lengths, padded, with virtual tokens in front and without."""
    PromptTuned, label_log_p = load("08", "PromptTuned", "label_log_p")
    model, tokenizer = bases.load("pocket-xs")
    rows = tasks.load("sentiment", "validation", 7)
    if with_prompt:
        model = PromptTuned(model, torch.randn(4, model.config.hidden_size))
    together = label_log_p(model, tokenizer, rows)
    assert together.shape == (7, 2)
    labels = [
        tokenizer(label, add_special_tokens=False)["input_ids"][0]
        for label in (" positive", " negative")
    ]
    for row, answer in zip(rows, together):
        ids = tokenizer(row["prompt"], return_tensors="pt")
        with torch.inference_mode():
            logits = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits
        alone = logits[0, -1, labels].log_softmax(-1).cpu()
        assert torch.allclose(alone, answer, atol=1e-4)


def test_the_voting_prompts_were_trained_at_the_chosen_rate():
    """Made anew by `python -m tools.sweep_plans.lesson_08` when the search chooses another one."""
    with safe_open(results.DATA / "results" / "prompt-votes.safetensors", "pt") as file:
        made, seeds = file.metadata(), list(file.keys())
    rows = results.load("prompt-start")["rows"]
    (lr,) = {r["lr"] for r in results.select(rows, options=made["options"], chosen=True)}
    assert float(made["lr"]) == lr and len(seeds) == 5


def test_the_adjectives_of_the_test_rows_are_new():
    words = {
        split: {
            w
            for r in tasks.load("sentiment", split)
            for w in re.findall("[a-z]+", r["text"].lower())
        }
        for split in ("train", "test")
    }
    new = words["test"] - words["train"]
    assert len(new) == 16 and all(
        new & set(re.findall("[a-z]+", r["text"].lower())) for r in tasks.load("sentiment", "test")
    )
