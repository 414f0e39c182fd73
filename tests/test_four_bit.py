"""Training on a 4-bit base after an evaluation gives the right gradients on every processor, because utils.bases settles the path.

On processors with AVX512-BF16, bitsandbytes 0.50 repacks 4-bit weights at the first evaluation, and what runs on them after that has
no backward pass. The tests that show it need such a processor; the others hold everywhere.
"""

import json

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import has_avx512bf16

from utils import DATA, bases, evaluation, methods, tasks, training

needs_the_instruction = pytest.mark.skipif(
    not has_avx512bf16(),
    reason="this processor has no AVX512-BF16, so bitsandbytes never repacks here",
)


def unsettle(model):
    """What bitsandbytes sets by itself on a processor with the instruction."""
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = has_avx512bf16()
    return model


def linear(d_in=128, d_out=64):
    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(
        d_in, d_out, bias=False, compute_dtype=torch.float32, quant_type="nf4"
    )
    layer.weight = bitsandbytes.nn.Params4bit(
        torch.randn(d_out, d_in), requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    return layer.to("cpu")


def input_gradient(layer, x, evaluate_first):
    """Gradient of sum(layer(x)**2) at x, or None if nothing reaches it."""
    if evaluate_first:
        layer.eval()
        with torch.inference_mode():
            layer(x)
    layer.train()
    x = x.clone().requires_grad_()
    loss = layer(x).square().sum()
    if not loss.requires_grad:
        return None
    loss.backward()
    return x.grad


X = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))


def test_a_settled_layer_has_the_gradient_of_its_dequantised_weight_after_an_evaluation():
    layer = bases.settle_four_bit(linear())
    W = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert torch.allclose(input_gradient(layer, X, evaluate_first=True), 2 * X @ W.T @ W, atol=1e-3)
    assert torch.equal(
        input_gradient(layer, X, evaluate_first=True),
        input_gradient(bases.settle_four_bit(linear()), X, evaluate_first=False),
    )


@needs_the_instruction
@pytest.mark.filterwarnings("ignore:.*gemv_4bit")
def test_an_unsettled_layer_passes_no_gradient_after_an_evaluation():
    assert input_gradient(unsettle(linear()), X, evaluate_first=False) is not None
    assert input_gradient(unsettle(linear()), X, evaluate_first=True) is None


@pytest.fixture(scope="module")
def batch():
    tokenizer = bases.load_tokenizer("pocket-s")
    pairs = [
        evaluation.encode_pair(tokenizer, r["prompt"], r["answer"])
        for r in tasks.load("facts", "train", 4)
    ]
    return evaluation.collate(pairs, tokenizer.pad_token_id)


def gradients(batch, change=lambda model: model, evaluate_first=True):
    """(gradient at the input of layer 0, gradients of A and B) of LoRA on the 4-bit base, B not zero."""
    model, _ = bases.load("pocket-s", four_bit=True)
    model = methods.apply("lora", change(model), rank=4)
    torch.manual_seed(0)
    for name, p in training.trainable(model):
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.02)
    seen = []

    def keep(module, inputs, output):
        output.requires_grad_().retain_grad()
        seen.append(output)

    handle = model.get_input_embeddings().register_forward_hook(keep)
    if evaluate_first:
        handle.remove()
        with evaluation.evaluating(model):
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        handle = model.get_input_embeddings().register_forward_hook(keep)
    model.train()
    training.loss_of(model, batch).backward()
    handle.remove()
    return seen[0].grad, [p.grad for _, p in training.trainable(model)]


def test_the_base_as_loaded_has_the_right_gradient_at_layer_0_after_an_evaluation(batch):
    before, after = gradients(batch, evaluate_first=False), gradients(batch)
    assert before[0].norm() > 0
    assert torch.equal(before[0], after[0]) and all(
        torch.equal(a, b) for a, b in zip(before[1], after[1])
    )


@needs_the_instruction
@pytest.mark.filterwarnings("ignore:.*gemv_4bit")
def test_without_settling_the_gradient_at_layer_0_is_wrong_after_an_evaluation(batch):
    right, wrong = gradients(batch, evaluate_first=False), gradients(batch, unsettle)
    assert (wrong[0] - right[0]).norm() > 0.5 * right[0].norm()


def test_settling_reaches_layers_that_peft_has_wrapped():
    model = bases.settle_four_bit(
        methods.apply("lora", unsettle(bases.load("pocket-s", four_bit=True)[0]))
    )
    flags = [
        m.support_avx512bf16_for_cpu
        for m in model.modules()
        if hasattr(m, "support_avx512bf16_for_cpu")
    ]
    assert flags and not any(flags)


@pytest.mark.parametrize(
    "size", sorted(p.parent.name for p in (DATA / "pocket").glob("*/config.json"))
)
def test_every_dimension_of_a_base_is_a_multiple_of_64(size):
    c = json.loads((DATA / "pocket" / size / "config.json").read_text(encoding="utf-8"))
    widths = (
        c["hidden_size"],
        c["intermediate_size"],
        c["num_key_value_heads"] * c["head_dim"],
        c["num_attention_heads"] * c["head_dim"],
    )
    assert all(width % 64 == 0 for width in widths), widths
