"""The notebook's own PromptEncoder and PTuned against peft, on models, shapes and seeds that the notebook does not use."""

import pytest
import torch
from peft import PromptEncoderConfig, get_peft_model

from tests.from_notebook import load
from tests.small_models import small_mistral
from utils import evaluation, methods, modules, training


def tiny(heads, kv_heads, seed):
    shape = dict(vocab_size=89, hidden_size=48, intermediate_size=64)
    shape |= dict(num_attention_heads=heads, max_position_embeddings=64)
    return small_mistral(seed, kv_heads, **shape).eval()


def pair(kind, heads, kv_heads, tokens, hidden, layers, seed):
    """(the notebook's, peft's) with the same weights."""
    options = {"encoder_num_layers": layers} if kind == "LSTM" else {}
    config = PromptEncoderConfig(
        num_virtual_tokens=tokens,
        encoder_hidden_size=hidden,
        encoder_reparameterization_type=kind,
        task_type="CAUSAL_LM",
        **options,
    )
    theirs = get_peft_model(tiny(heads, kv_heads, seed), config).eval()
    PromptEncoder, PTuned = load("09", "PromptEncoder", "PTuned")
    mine = PTuned(tiny(heads, kv_heads, seed), PromptEncoder(tokens, 48, hidden, kind, layers))
    mine.encoder.load_state_dict(theirs.prompt_encoder["default"].state_dict())
    return mine, theirs


def padded(batch, length, seed):
    """A batch whose rows have different lengths."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randint(1, 89, (max(2, length - i),), generator=generator).tolist()
        for i in range(batch)
    ]
    return evaluation.collate([(ids, ids) for ids in rows], 0)


@pytest.mark.parametrize("kind, hidden, layers", [("MLP", 40, 2), ("LSTM", 24, 1), ("LSTM", 56, 3)])
@pytest.mark.parametrize(
    "heads, kv_heads, batch, length, tokens", [(4, 4, 1, 7, 3), (6, 2, 3, 11, 5), (8, 1, 2, 2, 1)]
)
def test_equals_peft(kind, hidden, layers, heads, kv_heads, batch, length, tokens):
    mine, theirs = pair(kind, heads, kv_heads, tokens, hidden, layers, seed=5)
    inputs = padded(batch, length, seed=3)
    out = [
        m(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        for m in (mine, theirs)
    ]
    assert out[0].shape == (batch, tokens + length, 89) and torch.allclose(
        out[0], out[1], atol=1e-5
    )
    for m in (mine, theirs):
        training.loss_of(m, inputs).backward()
    ours, others = ([p for _, p in training.trainable(m)] for m in (mine, theirs))
    assert len(ours) == len(others) and all(
        torch.allclose(a.grad, b.grad, atol=1e-6) for a, b in zip(ours, others)
    )
    for weights in (ours, others):
        torch.optim.SGD(weights, lr=0.1).step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, others))


@pytest.mark.parametrize("kind", ["MLP", "LSTM"])
def test_the_stored_prompt_is_the_encoders_output(kind, tmp_path):
    from safetensors.torch import load_file

    mine, theirs = pair(kind, 6, 2, 4, 24, 2, seed=1)
    theirs.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    assert {name: t.shape for name, t in stored.items()} == {"prompt_embeddings": (4, 48)}
    assert torch.allclose(stored["prompt_embeddings"], mine.encoder(), atol=1e-6)


def test_the_file_alone_answers_and_trains_on_as_a_raw_prompt_only(tmp_path):
    """The lesson's break-it: peft refuses; forced into a trainable model, the stored prompt lands where a new encoder rewrites it."""
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    _, theirs = pair("MLP", 6, 2, 4, 24, 2, seed=1)
    theirs.save_pretrained(tmp_path)
    prompt = theirs.get_prompt_embedding_to_save("default")
    again = PeftModel.from_pretrained(tiny(6, 2, 1), tmp_path)
    assert torch.allclose(again.get_prompt(1)[0], prompt, atol=1e-6)
    training.loss_of(again, padded(2, 9, 0)).backward()
    (stored,) = [p for _, p in training.trainable(again)]
    assert stored.shape == (4, 48) and stored.grad.abs().max() > 0, (
        "loaded without is_trainable, the vectors still train"
    )
    with pytest.raises(ValueError, match="trainable"):
        PeftModel.from_pretrained(tiny(6, 2, 1), tmp_path, is_trainable=True)
    _, forced = pair("MLP", 6, 2, 4, 24, 2, seed=2)
    set_peft_model_state_dict(forced, load_file(tmp_path / "adapter_model.safetensors"))
    assert torch.allclose(forced.prompt_encoder["default"].embedding.weight, prompt, atol=1e-6)
    assert not torch.allclose(forced.get_prompt(1)[0], prompt, atol=1e-2)


@pytest.mark.parametrize(
    "method, options", [("prompt", {}), ("prefix", {}), ("prefix", {"mlp": True}), ("p_tuning", {})]
)
def test_peft_refuses_to_load_any_prompt_as_trainable(method, options, tmp_path):
    from peft import PeftModel

    getattr(methods, method)(modules.freeze(tiny(6, 2, 1)), tokens=3, **options).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="trainable"):
        PeftModel.from_pretrained(tiny(6, 2, 1), tmp_path, is_trainable=True)
