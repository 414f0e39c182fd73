"""Lesson 10's classes, as the notebook has them, against peft's IA3 on models, shapes and seeds
that the notebook does not use."""

import copy

import pytest
import torch
from peft import IA3Config, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb

from tests.from_notebook import load
from utils import memory, modules, training

KEYS_VALUES, INNER = ("k_proj", "v_proj"), ("down_proj",)
SHAPES = {
    "grouped-query": dict(num_attention_heads=4, num_key_value_heads=2),
    "one key head": dict(num_attention_heads=4, num_key_value_heads=1, head_dim=10),
    "every head": dict(num_attention_heads=4, num_key_value_heads=4),
}


@pytest.fixture(scope="module")
def classes():
    return load("10", "IA3Linear", "MixedIA3")


def tiny(shape, kind=MistralConfig, seed=3):
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        kind(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=44,
            num_hidden_layers=2,
            **SHAPES[shape],
        )
    ).eval()


def by_hand(model, IA3Linear):
    model = modules.replace(
        modules.freeze(model), lambda linear: IA3Linear(linear, scale_input=False), KEYS_VALUES
    )
    return modules.replace(model, lambda linear: IA3Linear(linear, scale_input=True), INNER)


def with_peft(model):
    return get_peft_model(
        model,
        IA3Config(
            target_modules=[*KEYS_VALUES, *INNER],
            feedforward_modules=list(INNER),
            task_type="CAUSAL_LM",
        ),
    )


def both(shape, IA3Linear, kind=MistralConfig, seed=5):
    """(by hand, peft, pairs of their layers) with the same random vectors."""
    mine, theirs = by_hand(tiny(shape, kind), IA3Linear), with_peft(tiny(shape, kind))
    pairs = list(
        zip(
            (m for m in mine.modules() if isinstance(m, IA3Linear)),
            (m for m in theirs.modules() if hasattr(m, "ia3_l")),
            strict=True,
        )
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        for ours, other in pairs:
            ours.l.copy_(torch.randn_like(ours.l))
            other.ia3_l["default"].copy_(ours.l.view_as(other.ia3_l["default"]))
    return mine, theirs, pairs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch, length", [(1, 1), (1, 7), (3, 5), (4, 13)])
def test_outputs_gradients_step_and_merged_weights_are_those_of_peft(classes, shape, batch, length):
    mine, theirs, pairs = both(shape, classes[0], LlamaConfig if length == 5 else MistralConfig)
    ids = torch.randint(50, (batch, length), generator=torch.Generator().manual_seed(length))
    out = [m(input_ids=ids).logits for m in (mine, theirs)]
    assert torch.allclose(*out, atol=1e-5)
    for logits in out:
        logits.square().mean().backward()
    for ours, other in pairs:
        assert torch.allclose(ours.l.grad, other.ia3_l["default"].grad.flatten(), atol=1e-6)
    for m in (mine, theirs):
        torch.optim.AdamW([p for _, p in training.trainable(m)], lr=0.05).step()
    theirs.merge_and_unload(safe_merge=True)
    for ours, other in pairs:
        assert torch.allclose(ours.l, other.ia3_l["default"].flatten(), atol=1e-5)
        assert torch.allclose(ours.merged(), other.base_layer.weight, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_starts_as_the_base_and_trains_what_the_formula_says(classes, shape):
    base = tiny(shape)
    mine, ids = by_hand(copy.deepcopy(base), classes[0]), torch.arange(9)[None]
    assert torch.equal(base(input_ids=ids).logits, mine(input_ids=ids).logits)
    width = base.config.head_dim * base.config.num_key_value_heads
    assert (
        training.count(mine)[0]
        == training.count(with_peft(copy.deepcopy(base)))[0]
        == 2 * (2 * width + 44)
    )
    assert memory.trainable_parameters(base.config, "ia3") == 2 * (2 * width + 44)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("task", [[0], [1, 0, 1], [2, 2, 0, 1, 1]])
def test_each_row_of_a_mixed_batch_is_that_of_its_own_adapter(classes, shape, task):
    IA3Linear, MixedIA3 = classes
    alone = [both(shape, IA3Linear, seed=seed)[0] for seed in range(3)]
    mixed = tiny(shape)
    for name, linear in modules.linears(mixed, KEYS_VALUES + INNER).items():
        mixed.set_submodule(
            name,
            MixedIA3(
                linear,
                [m.get_submodule(name).l.detach() for m in alone],
                scale_input=name.endswith(INNER),
            ),
        )
    for module in mixed.modules():
        if isinstance(module, MixedIA3):
            module.task = torch.tensor(task)
    ids = torch.randint(50, (len(task), len(task)), generator=torch.Generator().manual_seed(0))
    out = mixed(input_ids=ids).logits
    for row, t in enumerate(task):
        assert torch.allclose(out[row], alone[t](input_ids=ids[row : row + 1]).logits[0], atol=1e-5)


def test_peft_still_ignores_adapter_names_for_ia3():
    """The lesson's break-it. If this fails, peft has learned mixed batches for IA3 (or refuses
    them): rewrite that section."""
    model = with_peft(tiny("grouped-query"))
    model.add_adapter(
        "other",
        IA3Config(
            target_modules=[*KEYS_VALUES, *INNER],
            feedforward_modules=list(INNER),
            task_type="CAUSAL_LM",
        ),
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ia3_l.other" in name:
                parameter.mul_(3.0)
    ids = torch.arange(8).view(2, 4)
    assert torch.equal(
        model(input_ids=ids, adapter_names=["default", "other"]).logits, model(input_ids=ids).logits
    )
    alone = model(input_ids=ids).logits
    model.set_adapter("other")
    assert not torch.allclose(model(input_ids=ids).logits, alone, atol=1e-3)


def test_a_scale_passes_through_the_rotation_of_keys_only_if_a_pair_shares_it():
    """Why peft's l_k, which scales before RoPE, is not the equation's on Mistral and Llama."""
    model = tiny("every head")
    keys, positions = torch.randn(1, 1, 5, model.config.head_dim), torch.arange(5)[None]
    cos, sin = model.model.rotary_emb(keys, positions)

    def rotated(x):
        return apply_rotary_pos_emb(x, x, cos, sin)[1]

    one_each = torch.rand(model.config.head_dim) + 0.5
    one_a_pair = one_each.chunk(2)[0].repeat(2)
    assert torch.allclose(rotated(one_a_pair * keys), one_a_pair * rotated(keys), atol=1e-5)
    assert not torch.allclose(rotated(one_each * keys), one_each * rotated(keys), atol=1e-2)


def test_peft_counts_as_many_parameters_in_a_whole_mistral():
    """The lesson's table computes them; here peft builds IA3 into a Mistral-7B without memory."""
    config = MistralConfig(vocab_size=32768, num_key_value_heads=8, sliding_window=None)
    with torch.device("meta"):
        model = with_peft(AutoModelForCausalLM.from_config(config))
    expected = 32 * (1024 + 1024 + 14336)
    assert training.count(model)[0] == expected
    assert memory.trainable_parameters("mistral-7b-v0.3", "ia3") == expected
    assert training.count(model)[1] - expected == memory.MODELS["mistral-7b-v0.3"].parameters


def test_peft_knows_the_layers_of_this_base_without_names():
    """The lines to take home name no layers."""
    model = get_peft_model(tiny("every head"), IA3Config(task_type="CAUSAL_LM"))
    named = with_peft(tiny("every head"))
    assert [n for n, _ in training.trainable(model)] == [n for n, _ in training.trainable(named)]
