"""Lesson 05's LoRA layer, taken out of the notebook, against peft's on shapes and seeds that the notebook does not use."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tests.from_notebook import load
from tests.small_models import small_mistral
from utils import modules


@pytest.fixture(scope="module")
def LoRALinear():
    return load("05", "LoRALinear")


def both(LoRALinear, model, rank, alpha, targets, seed):
    """(model with the notebook's layers, peft model) holding the same random A and B, and the pairs of layers."""
    torch.manual_seed(seed)
    theirs = get_peft_model(
        copy.deepcopy(model),
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), init_lora_weights=False),
    )
    mine = modules.replace(
        modules.freeze(copy.deepcopy(model)),
        lambda linear: LoRALinear(linear, rank, alpha),
        targets,
    )
    pairs = list(
        zip(
            (m for m in mine.modules() if isinstance(m, LoRALinear)),
            (m for m in theirs.modules() if hasattr(m, "lora_A")),
        )
    )
    with torch.no_grad():
        for ours, other in pairs:
            ours.A.copy_(other.lora_A["default"].weight)
            ours.B.copy_(other.lora_B["default"].weight)
    return mine, theirs, pairs


@pytest.mark.parametrize(
    "batch, length, rank, alpha, kv_heads, seed",
    [(1, 1, 1, 1, 1, 3), (1, 7, 3, 5, 2, 4), (5, 13, 16, 8, 4, 5)],
)
def test_equal_to_peft_in_a_small_mistral(LoRALinear, batch, length, rank, alpha, kv_heads, seed):
    model = small_mistral(seed, kv_heads)
    mine, theirs, pairs = both(LoRALinear, model, rank, alpha, modules.ALL_LINEAR, seed)
    ids = torch.randint(0, 97, (batch, length))
    outputs = [m(input_ids=ids).logits for m in (mine, theirs)]
    assert torch.allclose(*outputs, atol=1e-5)
    for out in outputs:
        out.pow(2).mean().backward()
    for m in (mine, theirs):
        torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.5).step()
    for ours, other in pairs:
        assert torch.allclose(ours.A.grad, other.lora_A["default"].weight.grad, atol=1e-6)
        assert torch.allclose(ours.B, other.lora_B["default"].weight, atol=1e-6)
        assert torch.allclose(
            ours.merged(),
            other.get_base_layer().weight + other.get_delta_weight("default"),
            atol=1e-6,
        )


def test_starts_as_the_base_and_the_base_does_not_train(LoRALinear):
    torch.manual_seed(0)
    linear = nn.Linear(6, 4, bias=False)
    before, x = linear.weight.clone(), torch.randn(3, 6)
    layer = LoRALinear(linear, rank=2, alpha=4)
    assert torch.equal(layer(x), linear(x))
    layer(x).sum().backward()
    assert (
        linear.weight.grad is None
        and layer.B.grad.abs().sum() > 0
        and layer.A.grad.abs().sum() == 0
    )
    assert torch.equal(linear.weight, before)


def test_a_wrong_scale_would_be_seen(LoRALinear):
    """The comparison above can fail: with alpha taken for alpha / rank the outputs differ."""
    linear, x = nn.Linear(6, 4, bias=False), torch.randn(3, 6)
    right, wrong = LoRALinear(linear, 2, 4), LoRALinear(linear, 2, 8)
    nn.init.normal_(right.B)
    wrong.load_state_dict(right.state_dict())
    assert not torch.allclose(right(x), wrong(x), atol=1e-5)
