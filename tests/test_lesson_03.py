"""Lesson 03: its Adam against torch.optim, its selective method against peft's, the old head put back, the rule of its sweep."""

import copy
import warnings

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from tests.from_notebook import load
from tools import sweeps
from tools.sweep_plans.lesson_03 import REPLAYED, halves, norms
from utils import methods, modules, training


@pytest.fixture(scope="module")
def MixedAdam():
    return load("03", "MixedAdam")


def tiny(kv_heads=2, tied=True, seed=7):
    torch.manual_seed(seed)
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=61,
            hidden_size=32,
            intermediate_size=44,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
            tie_word_embeddings=tied,
        )
    ).eval()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("betas, lr, seed", [((0.9, 0.999), 1e-2, 11), ((0.5, 0.9), 3e-4, 12)])
def test_adam_is_that_of_torch(MixedAdam, dtype, betas, lr, seed):
    rng = torch.Generator().manual_seed(seed)
    shapes = [(1,), (7,), (5, 3), (2, 1, 9)]
    weights = [torch.randn(s, generator=rng).to(dtype).requires_grad_() for s in shapes]
    mine, copies = (
        MixedAdam(weights, lr, betas),
        [w.detach().float().clone().requires_grad_() for w in weights],
    )
    library = torch.optim.AdamW(copies, lr=lr, betas=betas, weight_decay=0)
    start = [c.detach().clone() for c in copies]
    for _ in range(5):
        for w, c in zip(weights, copies):
            w.grad = torch.randn(w.shape, generator=rng).to(dtype)
            c.grad = w.grad.float()
        mine.step()
        library.step()
    for w, master, c, before in zip(weights, mine.master, copies, start):
        assert (
            torch.allclose(master, c, atol=1e-6)
            and torch.equal(w, master.to(dtype))
            and not torch.equal(c, before)
        )
    for m, v, c in zip(mine.m, mine.v, copies):
        assert torch.allclose(m, library.state[c]["exp_avg"], atol=1e-6) and torch.allclose(
            v, library.state[c]["exp_avg_sq"], atol=1e-6
        )


def test_adam_holds_sixteen_bytes_for_each_trained_parameter_and_none_for_a_frozen_one(MixedAdam):
    model = modules.freeze(tiny().bfloat16())
    norms(model)
    adam = MixedAdam(model.parameters(), lr=1e-3)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    model(torch.randint(61, (1, 5))).logits.float().square().mean().backward()
    adam.step()
    held = [*adam.weights, *(p.grad for p in adam.weights), *adam.master, *adam.m, *adam.v]
    assert sum(t.numel() * t.element_size() for t in held) == 16 * training.count(model)[0]
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


def test_a_wrong_adam_would_be_seen(MixedAdam):
    """The comparison can fail: with the step count off by one, the weights differ."""
    one, two = (torch.ones(4, requires_grad=True) for _ in range(2))
    right, wrong = MixedAdam([one], 1e-2), MixedAdam([two], 1e-2)
    wrong.t = 1
    for p, optimizer in ((one, right), (two, wrong)):
        p.grad = torch.full((4,), 0.3)
        optimizer.step()
    assert not torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("batch, length, kv_heads", [(1, 1, 1), (1, 7, 2), (4, 13, 4)])
def test_training_the_norms_in_place_is_what_peft_does_with_copies(batch, length, kv_heads):
    from peft import LNTuningConfig, get_peft_model

    mine = norms(modules.freeze(tiny(kv_heads)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft knows LayerNorm by name, not RMSNorm; it works
        theirs = get_peft_model(
            tiny(kv_heads),
            LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"]),
        )
    ids = torch.randint(61, (batch, length), generator=torch.Generator().manual_seed(length))
    for model in (mine, theirs):
        assert training.count(model)[0] == 5 * 32
        model(input_ids=ids).logits.square().mean().backward()
    for (_, p), (_, q) in zip(training.trainable(mine), training.trainable(theirs), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)
    for model in (mine, theirs):
        torch.optim.SGD([p for _, p in training.trainable(model)], lr=0.3).step()
    a, b = (m(input_ids=ids).logits for m in (mine, theirs))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("batch, length", [(1, 1), (3, 9)])
def test_an_old_head_put_back_gives_the_base_to_the_last_bit(tied, batch, length):
    base, ids = tiny(tied=tied), torch.randint(61, (batch, length))
    model = methods.apply("head", copy.deepcopy(base))
    model(ids).logits.square().mean().backward()
    torch.optim.SGD([p for _, p in training.trainable(model)], lr=1.0).step()
    assert not torch.equal(model(ids).logits, base(ids).logits)
    model.lm_head = base.lm_head
    assert torch.equal(model(ids).logits, base(ids).logits)


def test_a_head_that_is_still_tied_takes_the_body_with_it():
    base, ids = tiny(), torch.randint(61, (2, 5))
    model = modules.freeze(copy.deepcopy(base))
    model.lm_head.requires_grad_(True)
    model(ids).logits.square().mean().backward()
    torch.optim.SGD([p for _, p in training.trainable(model)], lr=1.0).step()
    model.lm_head = base.lm_head
    assert not torch.equal(model(ids).logits, base(ids).logits)


def test_the_rate_is_chosen_by_the_mean_over_seeds():
    def rows(lr, *scores, loss=0.1):
        return [
            {"lr": lr, "seed": n, "validation_score": s, "validation_loss": loss}
            for n, s in enumerate(scores)
        ]

    assert sweeps.best_rate(rows(1e-3, 1.0, 0.8) + rows(1e-2, 0.95, 0.95)) == 1e-2
    assert sweeps.best_rate(rows(1e-3, 0.9, 1.0, loss=0.3) + rows(1e-2, 1.0, 0.9, loss=0.2)) == 1e-2


def test_no_country_that_is_asked_for_is_ever_replayed():
    old, asked = halves()
    countries = [{f["country"] for f in part} for part in (old, asked)]
    assert not countries[0] & countries[1] and len(countries[0]) == len(countries[1]) == 48
    assert len(old) == len(asked) == 192 >= REPLAYED
    assert not any(c in f["prompt"] for c in countries[1] for f in old)
