"""Lesson 07's prefix tuning by hand, taken out of the notebook, against peft's on shapes that the notebook does not use."""

import copy
import json

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from tests import from_notebook
from tools.sweep_plans import lesson_07 as plan
from utils import bases, methods, results, tasks, training


def tiny(heads=4, kv_heads=2, head_dim=8, layers=3):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=50,
        hidden_size=heads * head_dim,
        intermediate_size=40,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=64,
        sliding_window=None,
    )
    return MistralForCausalLM(config).eval()


def twins(base, tokens, width, seed=0):
    """(ours, peft's, pairs of parameters) with the same numbers."""
    torch.manual_seed(seed)
    ours = from_notebook.load("07", "PrefixTuning")(copy.deepcopy(base), tokens, mlp_width=width)
    theirs = get_peft_model(
        copy.deepcopy(base),
        PrefixTuningConfig(
            num_virtual_tokens=tokens,
            prefix_projection=width is not None,
            encoder_hidden_size=width,
            task_type="CAUSAL_LM",
        ),
    )
    pairs = list(
        zip(
            [p for _, p in training.trainable(ours)],
            theirs.prompt_encoder["default"].parameters(),
            strict=True,
        )
    )
    with torch.no_grad():
        for a, b in pairs:
            b.copy_(a)
    return ours, theirs, pairs


def padded(rows, length, seed=1):
    rng = torch.Generator().manual_seed(seed)
    mask = torch.ones(rows, length, dtype=torch.long)
    for row in range(1, rows):
        mask[row, length - row :] = 0
    ids = torch.randint(4, 50, (rows, length), generator=rng)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


@pytest.mark.parametrize("width", (None, 12), ids=("plain", "MLP"))
@pytest.mark.parametrize("heads, kv_heads", ((4, 4), (4, 2), (6, 1)))
@pytest.mark.parametrize("rows, length, tokens", ((1, 7, 1), (3, 11, 4), (2, 5, 9)))
def test_equals_peft(width, heads, kv_heads, rows, length, tokens):
    ours, theirs, pairs = twins(tiny(heads, kv_heads), tokens, width, seed=length)
    batch = padded(rows, length)
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    a, b = (m(**inputs).logits for m in (ours, theirs))
    assert a.shape == (rows, length, 50), "a prefix adds no logits"
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    for m in (ours, theirs):
        training.loss_of(m, batch).backward()
    for x, y in pairs:
        torch.testing.assert_close(x.grad, y.grad, atol=1e-6, rtol=1e-4)
    for m in (ours, theirs):
        torch.optim.SGD([p for _, p in training.trainable(m)], lr=0.1).step()
    torch.testing.assert_close(
        ours.keys_and_values().flatten(0, 1),
        torch.cat([torch.stack(kv) for kv in cached(theirs)])[:, 0],
        atol=1e-5,
        rtol=1e-5,
    )


def cached(theirs):
    """[(keys, values)] of each layer of peft's cache for a batch of one."""
    return [(layer.keys, layer.values) for layer in theirs.get_prompt(1).layers]


def test_count_follows_the_formula_with_grouped_attention():
    for kv_heads in (1, 2, 4):
        ours, *_ = twins(tiny(4, kv_heads), tokens=5, width=None)
        assert training.count(ours)[0] == 2 * 3 * 5 * kv_heads * 8


def test_base_stays_frozen_and_the_prefix_matters():
    ours, _, _ = twins(tiny(), 3, None)
    batch = padded(2, 6)
    training.loss_of(ours, batch).backward()
    assert all(p.grad is None for p in ours.model.parameters()) and ours.P.grad.abs().max() > 0
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    first = ours(**inputs).logits
    with torch.no_grad():
        ours.P.add_(1.0)
    assert (ours(**inputs).logits - first).abs().max() > 1e-3


def test_the_mlp_is_gone_after_saving_and_the_outputs_stay(tmp_path):
    base = tiny()
    _, theirs, _ = twins(base, 4, 12)
    theirs.eval().save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    inputs = {k: v for k, v in padded(3, 9).items() if k != "labels"}
    torch.testing.assert_close(
        again(**inputs).logits, theirs(**inputs).logits, atol=1e-5, rtol=1e-5
    )
    assert sum(p.numel() for p in again.prompt_encoder.parameters()) == 4 * 2 * 3 * 16
    with pytest.raises(ValueError, match="trainable"):
        PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=True)


@pytest.mark.parametrize("width", (None, 12), ids=("plain", "MLP"))
def test_a_loaded_prefix_trains_on_as_a_plain_one(width, tmp_path):
    """peft refuses is_trainable=True for either kind; loaded without it, the stored numbers still take a gradient."""
    base = tiny()
    twins(base, 4, width)[1].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="trainable"):
        PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=True)
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    training.loss_of(again, padded(2, 6)).backward()
    (stored,) = [p for _, p in training.trainable(again)]
    assert stored.numel() == 4 * 2 * 3 * 16 and stored.grad.abs().max() > 0


def test_a_prefix_from_text_starts_as_that_text():
    model, tokenizer = bases.load()
    text = "The Blue Inn is a shop near the river."
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    made = methods.apply("prefix", bases.load()[0], tokens=ids.shape[1], text=text)
    more = tokenizer(" It offers books", return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        plain = model(input_ids=torch.cat([ids, more], 1)).logits[:, ids.shape[1] :]
        prefixed = made(input_ids=more, attention_mask=torch.ones_like(more)).logits
    torch.testing.assert_close(plain, prefixed, atol=1e-3, rtol=1e-3)


def test_the_notebook_writes_rows_as_the_sweeps_do():
    guide, exchanged = from_notebook.load("07", "guide", "exchanged")
    rows = tasks.load("data_to_text", "shifted")
    assert [guide(r) for r in rows] == [plan.guide(r) for r in rows] and exchanged(
        rows
    ) == plan.exchanged(rows)
    assert (
        guide({"data": "name: Red Fox | kind: shop"})["prompt"]
        == "Guide entry (name Red Fox; kind shop)."
    )
    assert [(r["answer"], r["prompt"]) for r in exchanged(rows[:3])] == [
        (rows[i]["answer"], rows[(i + 1) % 3]["prompt"]) for i in range(3)
    ]


def test_the_first_layer_shares_attention_among_the_words_as_the_base_does():
    """With any prefix; in the second layer it does not. So the notebook's comparison can fail."""
    base, ours = tiny(), twins(tiny(), 5, None, seed=3)[0]
    for model in (base, ours.model):
        model.set_attn_implementation("eager")
    inputs = {k: v for k, v in padded(1, 9).items() if k != "labels"}
    with torch.inference_mode():
        without = base(**inputs, output_attentions=True).attentions
        ours.model.config.output_attentions = True
        text = [a[..., 5:] for a in ours(**inputs).attentions]
    again = [a / a.sum(-1, keepdim=True) for a in text]
    torch.testing.assert_close(again[0], without[0], atol=1e-5, rtol=1e-4)
    assert (text[0] - without[0]).abs().max() > 1e-2 and (again[1] - without[1]).abs().max() > 1e-3


def test_stored_sweep_is_the_plan():
    """Every arm has the planned grid, perhaps wider, and a winner with all seeds inside it."""
    spec, rows = plan.SWEEPS["prefix-guide"], results.load("prefix-guide")["rows"]
    for _, method, options in spec["arms"]:
        arm = [r for r in rows if r["method"] == method and json.loads(r["options"]) == options]
        rates = sorted({r["lr"] for r in arm})
        chosen = [r for r in arm if r["chosen"]]
        assert set(spec["rates"]) <= set(rates)
        assert sorted(r["seed"] for r in chosen) == sorted(spec["seeds"])
        assert len({r["lr"] for r in chosen}) == 1 and rates[0] < chosen[0]["lr"] < rates[-1]
        assert {r["steps"] for r in arm} == {spec["steps"]}
        best = results.mean(chosen, "validation_score")
        for lr in rates:
            some = results.select(arm, lr=lr)
            if all(r.get("eligible") is not False for r in some) and len(some) == len(chosen):
                assert results.mean(some, "validation_score") <= best
