"""Mistral's tokenizer, and lesson 13's cells on random weights of Mistral's shapes: the small form
runs here, the figures of the true size are stored (`make true-size`).
"""

import json
import os
import subprocess
import sys
import zipfile

import pytest
import torch

from tools import gpu_evidence, mistral_tokenizer, true_size
from utils import DATA, ROOT, bases, memory, results

# --- the tokenizer ------------------------------------------------------------------------------

TINY = ROOT / "tests" / "data" / "tiny-sentencepiece.model"  # trained on the README
SAID = json.loads(TINY.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A folder of wheels with a mistral_common in it that holds the tiny model."""
    with zipfile.ZipFile(tmp_path / "mistral_common-1.0.0-py3-none-any.whl", "w") as archive:
        archive.write(TINY, f"mistral_common/data/{mistral_tokenizer.FILE}")
    monkeypatch.setattr(mistral_tokenizer, "WHEELS", tmp_path)


def test_it_encodes_as_sentencepiece_does(wheel):
    tokenizer = gpu_evidence.mistral_tokenizer()
    assert len(tokenizer) == SAID["pieces"] > 500
    for one in SAID["texts"]:
        ids = tokenizer(one["text"]).input_ids
        assert ids == [tokenizer.bos_token_id, *one["ids"]], one["text"]
        if one["text"].isascii() and "\t" not in one["text"]:
            assert tokenizer.decode(ids, skip_special_tokens=True) == one["text"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.pad_token_id == 0 and tokenizer.padding_side == "right"
    assert len(tokenizer("[INST] x [/INST]").input_ids) < len(
        tokenizer("(INST) x (/INST)").input_ids
    )


def test_saved_and_loaded_by_transformers_it_is_the_same(wheel, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = mistral_tokenizer.load()
    tokenizer.save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert len(loaded) == len(tokenizer)
    for one in SAID["texts"]:
        assert loaded(one["text"]).input_ids == tokenizer(one["text"]).input_ids


def test_the_pieces_are_read_without_protobuf():
    pieces = mistral_tokenizer.pieces(TINY.read_bytes())
    assert [p for p, _, _ in pieces[:3]] == ["<unk>", "<s>", "</s>"]
    assert {k for _, _, k in pieces} >= {mistral_tokenizer.NORMAL, mistral_tokenizer.CONTROL}
    assert sum(kind == 6 for _, _, kind in pieces) == 256  # one for each byte


def test_without_the_file_it_says_how_to_get_it_and_pockets_takes_its_place(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(mistral_tokenizer, "WHEELS", ROOT / "build" / "no-wheels")
    monkeypatch.setattr(mistral_tokenizer, "FILE", "no-such.model")
    with pytest.raises(FileNotFoundError, match="pip download --no-deps .*mistral_common=="):
        mistral_tokenizer.load()
    assert len(gpu_evidence.mistral_tokenizer()) == len(bases.load_tokenizer("pocket-s"))
    assert "takes its place" in capsys.readouterr().err


def test_the_whole_tokenizer_where_its_file_is():
    try:
        tokenizer = mistral_tokenizer.load()
    except FileNotFoundError:
        pytest.skip("Mistral's tokenizer is not here (tools/mistral_tokenizer.py says how)")
    stored = results.load("mistral-tokens")
    from utils import instructions

    assert len(tokenizer) == stored["settings"]["vocabulary"] == 32768
    rows = instructions.examples(instructions.load("train", "pocket-s"))[:200]
    for row, said in zip(rows, stored["rows"]):
        ids = tokenizer(row["prompt"] + row["answer"] + tokenizer.eos_token).input_ids
        assert len(ids) == said["prompt"] + said["answer"]


# --- the base -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows, columns", [(512, 256), (64, 4096), (16, 14336)])
def test_the_quantised_matrix_rolled_is_the_rolled_matrix_quantised(rows, columns):
    weight = true_size.random_matrix((rows, columns), 5)
    kept = true_size.quantise(weight)
    shift = true_size.shifted_by(3, rows, columns)
    assert 0 < shift < rows
    wanted = true_size.quantise(weight.roll(shift, 0))
    made = true_size.rolled(kept, shift, rows)
    assert made.keys() == wanted.keys()
    for key in made:
        if "bitsandbytes" in key:  # a JSON text; its offset is a mean, whose last bit may differ
            continue
        assert torch.equal(made[key], wanted[key]), key
    assert not torch.equal(made[""], kept[""])


def test_it_is_mistral_7b():
    shape = memory.from_transformers(true_size.configuration())
    assert shape.parameters == 7_248_023_552 and shape.layers == 32
    assert {(x.name, x.d_in, x.d_out) for x in shape.linears} == {
        (x.name, x.d_in, x.d_out) for x in memory.MODELS["mistral-7b-v0.3"].linears
    }


# --- the run ------------------------------------------------------------------------------------


def test_the_lessons_own_cells_are_run_and_nothing_that_scores():
    cells = true_size.lesson_cells()
    for call in (
        "FastLanguageModel.from_pretrained(",
        "FastLanguageModel.get_peft_model(",
        "capstone.preflight(",
        "instructions.check_rows(",
        "SFTConfig(",
        "checkpoints.train(",
        "memory.measured_state(",
        "checkpoints.save_adapter(",
    ):
        assert any(call in cell for cell in cells), call
    assert not any("generate(" in cell or "evaluation." in cell for cell in cells)


@pytest.fixture(scope="module")
def small():
    """What the small form found, in a process of its own."""
    stored = DATA / "results" / "true-size.json"
    before = stored.read_bytes() if stored.exists() else None
    done = subprocess.run(
        [sys.executable, "-m", "tools.true_size", "--small"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "closed_network")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (stored.read_bytes() if stored.exists() else None) == before
    return json.loads((true_size.WORK / "small.json").read_text(encoding="utf-8"))


def test_the_small_form_trains_saves_and_loads(small):
    assert small["equal"] and small["largest in B"] > 0 and len(small["losses"]) == true_size.STEPS
    shape = memory.from_transformers(true_size.configuration(small=True))
    assert small["trainable"] == memory.lora_parameters(shape, 16)
    assert small["layers in NF4"] == 2 and small["matrices compared with their numbers"] == 14
    assert all(0.08 < error < 0.1 for error in small["relative error of NF4"])


def test_the_small_forms_bytes_are_the_planned_ones(small):
    rows = {row["what"]: row for row in true_size.table(small)}
    for what in ("weights", "adapter", "gradients"):
        assert rows[what]["measured"] == rows[what]["planned"], what
    assert rows["optimiser"]["measured"] == pytest.approx(rows["optimiser"]["planned"], rel=0.001)
    assert 0 < rows["the adapter's file"]["measured"] - 4 * small["trainable"] < 10_000
    assert rows["at the peak of a step"]["measured"] > rows["weights"]["measured"]
