"""Lesson 04: the adapter taken out of the notebook against its equation and utils.adapters, and saving and loading."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, MistralConfig

from tests.from_notebook import load
from utils import adapters, memory, methods, modules, training

RENAMED = {"down.weight": "W_d", "down.bias": "b_d", "up.weight": "W_u", "up.bias": "b_u"}


@pytest.fixture(scope="module")
def AdapterLinear():
    return load("04", "AdapterLinear")


def tiny(kv_heads=1, seed=0):
    """A random Mistral of three blocks with grouped-query attention, sizes that the notebook does not use."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        MistralConfig(
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=4,
            head_dim=6,
            num_key_value_heads=kv_heads,
            intermediate_size=40,
            vocab_size=50,
        )
    ).eval()


@pytest.mark.parametrize(
    "batch, length, d_in, d, m",
    [(1, 1, 12, 24, 1), (1, 7, 24, 24, 5), (3, 11, 40, 24, 30), (5, 13, 8, 6, 2)],
)
def test_layer_agrees_with_the_equation(AdapterLinear, batch, length, d_in, d, m):
    """Outputs, gradients (also of the input) and a step of SGD, in numpy and double precision."""
    torch.manual_seed(batch * length)
    linear = nn.Linear(d_in, d, bias=False)
    layer, x, g = (
        AdapterLinear(linear, m, std=0.3),
        torch.randn(batch, length, d_in, requires_grad=True),
        torch.randn(batch, length, d),
    )
    nn.init.normal_(layer.b_d), nn.init.normal_(layer.b_u)
    W_d, b_d, W_u, b_u, W = (
        p.detach().double().numpy().copy()
        for p in (layer.W_d, layer.b_d, layer.W_u, layer.b_u, linear.weight)
    )
    X, G = x.detach().double().numpy().reshape(-1, d_in), g.double().numpy().reshape(-1, d)
    h = X @ W.T
    z = h @ W_d.T + b_d
    a = z * (z > 0)
    dz = (G @ W_u) * (z > 0)
    wanted = {"W_d": dz.T @ h, "b_d": dz.sum(0), "W_u": G.T @ a, "b_u": G.sum(0)}
    y = layer(x)
    (y * g).sum().backward()
    assert np.allclose(y.detach().reshape(-1, d), h + a @ W_u.T + b_u, atol=1e-4)
    assert np.allclose(x.grad.reshape(-1, d_in), (G + dz @ W_d) @ W, atol=1e-4)
    assert linear.weight.grad is None
    start = dict(W_d=W_d, b_d=b_d, W_u=W_u, b_u=b_u)
    for name, value in wanted.items():
        assert np.allclose(getattr(layer, name).grad, value, atol=1e-4), name
    torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=0.3).step()
    for name, value in wanted.items():
        assert np.allclose(getattr(layer, name).detach(), start[name] - 0.3 * value, atol=1e-4), (
            name
        )


def by_hand(placement, kv_heads):
    """The tiny model with the notebook's adapters in that place; its norms train."""
    model = modules.freeze(tiny(kv_heads))
    if placement == "houlsby":
        AdapterLinear = load("04", "AdapterLinear")
        modules.replace(model, lambda layer: AdapterLinear(layer, 5, std=0.2), adapters.ENDS)
    else:
        AfterSum, inner = load("04", "AfterSum"), model.model
        readers = [*(block.input_layernorm for block in inner.layers[1:]), inner.norm]
        for block, norm in zip(inner.layers, readers):
            block.adapter = AfterSum(norm, 5, std=0.2)
            block.register_forward_hook(lambda block, _, y: block.adapter(y))
    for norm in adapters.norms(model).values():
        norm.requires_grad_(True)
    return model


@pytest.mark.parametrize("placement", adapters.PLACEMENTS)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("batch, length", [(1, 9), (4, 5)])
def test_notebook_and_utils_agree_in_a_model(placement, kv_heads, batch, length):
    mine = by_hand(placement, kv_heads)
    theirs = methods.apply("adapter", tiny(kv_heads), seed=9, bottleneck=5, placement=placement)
    own, pairs = dict(training.trainable(mine)), []
    for name, p in training.trainable(theirs):
        for new, old in RENAMED.items() if placement == "houlsby" else ():
            name = name.replace(new, old)
        p.data.copy_(own[name])
        pairs.append((own[name], p))
    assert len(pairs) == len(own)
    ids = torch.randint(50, (batch, length))
    for model in (mine, theirs):
        model(input_ids=ids, labels=ids).loss.backward()
        torch.optim.AdamW([p for _, p in training.trainable(model)], lr=1e-2).step()
    with torch.no_grad():
        assert torch.allclose(mine(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-5)
    for p, q in pairs:
        assert torch.allclose(p.grad, q.grad, atol=1e-6) and torch.allclose(p, q, atol=1e-5)


def test_pfeiffers_adapter_stands_after_the_sum_and_reads_the_norm_that_follows():
    """A block's output y becomes y + change(norm(y)), where the norm is the next block's first, at the end the last."""
    model = methods.apply(
        "adapter", tiny(), bottleneck=4, std=0.5, placement="pfeiffer", train_norms=False
    )
    plain, x, inner = tiny(), torch.randn(2, 5, 24), model.model
    positions = inner.rotary_emb(x, torch.arange(5)[None])
    norms = [inner.layers[1].input_layernorm, inner.layers[2].input_layernorm, inner.norm]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    plain.load_state_dict(model.state_dict(), strict=False)
    for block, same, norm in zip(inner.layers, plain.model.layers, norms):
        with torch.no_grad():
            y = same(x, position_embeddings=positions)
            wanted = y + block.adapter.up(torch.relu(block.adapter.down(norm(y))))
            assert torch.allclose(block(x, position_embeddings=positions), wanted, atol=1e-6)
            assert not torch.allclose(y, wanted, atol=1e-2)


def test_pfeiffers_adapter_owns_no_norm():
    model = methods.apply("adapter", tiny(), placement="pfeiffer")
    assert set(adapters.norms(model)) == set(adapters.norms(tiny()))
    again = copy.deepcopy(model)
    assert again.model.layers[0].adapter.next[0] is again.model.layers[1].input_layernorm


@pytest.mark.parametrize("m", [1, 5, 64])
def test_counts_follow_the_formula(m):
    model = tiny()
    houlsby = training.count(methods.apply("adapter", tiny(), bottleneck=m))[0]
    assert (
        houlsby
        == 2 * 3 * (2 * m * 24 + 24 + m) + 7 * 24
        == memory.trainable_parameters(model.config, "adapter", bottleneck=m)
    )
    assert (
        training.count(methods.apply("adapter", tiny(), bottleneck=m, placement="pfeiffer"))[0]
        == 3 * (2 * m * 24 + 24 + m) + 7 * 24
    )
    assert training.count(methods.apply("adapter", tiny(), bottleneck=m, train_norms=False))[
        0
    ] == 2 * 3 * (2 * m * 24 + 24 + m)


@pytest.mark.parametrize("placement", adapters.PLACEMENTS)
def test_a_silent_way_up_is_the_identity(placement):
    ids = torch.randint(50, (2, 9))
    model = methods.apply("adapter", tiny(), std=0.5, placement=placement)
    with torch.no_grad():
        assert not torch.allclose(
            tiny()(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-3
        )
        for name, p in training.trainable(model):
            if ".up." in name:
                p.zero_()
        assert torch.equal(tiny()(input_ids=ids).logits, model(input_ids=ids).logits)


def test_initial_weights_are_truncated_normal_with_zero_biases():
    model = methods.apply("adapter", tiny(), bottleneck=64, std=0.1)
    weights = torch.cat(
        [
            p.flatten()
            for n, p in training.trainable(model)
            if n.endswith(("down.weight", "up.weight"))
        ]
    )
    assert (
        weights.abs().max() <= 0.2 and abs(weights.std().item() - 0.088) < 0.003
    )  # 0.880 sigma is left after cutting at 2
    assert not any(p.any() for n, p in training.trainable(model) if n.endswith("bias"))


@pytest.mark.parametrize("placement", adapters.PLACEMENTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_base_keeps_its_precision_and_trains_in_fp32(dtype, placement):
    model = methods.apply("adapter", tiny().to(dtype), bottleneck=4, placement=placement)
    assert {p.dtype for _, p in training.trainable(model)} == {torch.float32}
    ids = torch.randint(50, (2, 9))
    out = model(input_ids=ids, labels=ids)
    assert out.logits.dtype == dtype
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in training.trainable(model))


def test_saved_and_loaded_answers_are_equal_and_it_trains_on(tmp_path):
    model, ids = (
        methods.apply("adapter", tiny(), bottleneck=3, placement="pfeiffer"),
        torch.randint(50, (2, 9)),
    )
    for _, p in training.trainable(model):
        nn.init.normal_(p, std=0.5)
    adapters.save(model, tmp_path)
    again = adapters.load(tiny(), tmp_path)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, again(input_ids=ids).logits)
    assert training.count(again) == training.count(model)


def test_a_file_without_norms_is_refused_by_name(tmp_path):
    from safetensors.torch import load_file, save_file

    path = adapters.save(methods.apply("adapter", tiny(), bottleneck=3), tmp_path)
    save_file({n: w for n, w in load_file(path).items() if "norm" not in n}, path)
    with pytest.raises(ValueError, match="does not fit this base: 7 tensors .*norm"):
        adapters.load(tiny(), tmp_path)


def test_an_unknown_placement_or_size_says_so():
    with pytest.raises(ValueError, match="houlsby, pfeiffer"):
        methods.apply("adapter", tiny(), placement="everywhere")
    with pytest.raises(ValueError, match="1 or more, not 0"):
        methods.apply("adapter", tiny(), bottleneck=0)
