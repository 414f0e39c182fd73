"""Pre-training stops and goes on to the same weights; its parts do what the datasheet says."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from tools import pretrain
from utils import DATA


@pytest.fixture
def here(monkeypatch, tmp_path):
    """pretrain.py with its folders in tmp_path and twelve steps for size xs."""
    shutil.copytree(DATA / "pocket" / "tokenizer", tmp_path / "pocket" / "tokenizer")
    monkeypatch.setattr(pretrain, "DATA", tmp_path)
    monkeypatch.setattr(pretrain, "BUILD", tmp_path / "build")
    monkeypatch.setitem(
        pretrain.SIZES,
        "xs",
        {**pretrain.SIZES["xs"], "tokens": 12 * pretrain.BATCH * pretrain.BLOCK},
    )
    monkeypatch.setattr(pretrain, "record", lambda *_: None)
    return tmp_path


def test_a_stopped_run_ends_with_the_same_weights(here, monkeypatch):
    pretrain.pretrain("xs", save_every=4)
    weights = load_file(here / "pocket" / "xs" / "model.safetensors")
    shutil.rmtree(here / "pocket" / "xs")
    calls, schedule = [], pretrain.learning_rate

    def stop_in_the_tenth_step(step, *rest):
        calls.append(step)
        if step == 9:
            raise KeyboardInterrupt
        return schedule(step, *rest)

    monkeypatch.setattr(pretrain, "learning_rate", stop_in_the_tenth_step)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain("xs", save_every=4)
    assert not (here / "pocket" / "xs").exists() and (here / "build" / "xs.pt").exists()
    resumed = []
    monkeypatch.setattr(
        pretrain, "learning_rate", lambda step, *rest: resumed.append(step) or schedule(step, *rest)
    )
    pretrain.pretrain("xs", save_every=4)
    again = load_file(here / "pocket" / "xs" / "model.safetensors")
    assert min(resumed) == 8 and all(torch.equal(weights[k], again[k]) for k in weights)
    assert not (here / "build" / "xs.pt").exists()


def test_blocks_hold_whole_documents_in_order(here):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(here / "pocket" / "tokenizer")
    data = pretrain.blocks(tokenizer, 4, seed=1)
    assert data.shape == (4, pretrain.BLOCK) and data[0, 0] == tokenizer.bos_token_id
    text = tokenizer.decode(data.flatten().tolist())
    assert "</s><s>" in text and text.count("<s>") > 5
    assert torch.equal(data, pretrain.blocks(tokenizer, 4, seed=1)) and not torch.equal(
        data, pretrain.blocks(tokenizer, 4, seed=2)
    )


def test_schedule_warms_up_and_ends_at_a_hundredth():
    rates = [pretrain.learning_rate(s, 1000, 1.0) for s in range(1000)]
    assert rates[0] < rates[30] < rates[59] == pytest.approx(1.0) and rates[-1] == pytest.approx(
        0.01, abs=1e-3
    )
