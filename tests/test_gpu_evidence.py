"""The tool for GPU evidence: its dry run on the CPU, what it keeps, and that it never passes a CPU's figures off as a card's."""

import json
import subprocess
import sys

import pytest
import torch

from tools import gpu_evidence
from utils import DATA, ROOT, memory


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tools.gpu_evidence", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )


@pytest.fixture(scope="module")
def dry():
    """All parts once on a tiny model."""
    before = sorted((DATA / "results").glob("gpu-*"))
    done = run("--dry-run")
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted((DATA / "results").glob("gpu-*")) == before, (
        "a dry run is no evidence and must not write any"
    )
    return json.loads((gpu_evidence.WORK / "gpu-dry-run.json").read_text())


def rows(dry, part):
    return [r for r in dry["rows"] if r["part"] == part]


def test_every_part_finds_something_and_the_file_says_on_what(dry):
    assert {r["part"] for r in dry["rows"]} == set(gpu_evidence.PARTS)
    assert (
        dry["settings"]["card"]["cuda"] is None
        and dry["settings"]["weights"].startswith("random")
        and dry["provenance"]["torch"]
    )


def test_both_stacks_train_the_same_rows(dry):
    speed = rows(dry, "speed")
    assert {r["stack"] for r in speed} == {"unsloth", "transformers"} and all(
        r["outcome"] == "ran" for r in speed
    )
    first = {
        (r["batch"], r["length"]): [x["first_loss"] for x in speed if x["length"] == r["length"]]
        for r in speed
    }
    for losses in first.values():
        assert abs(losses[0] - losses[1]) < 0.05, (
            "the same random weights and rows give the same first loss"
        )
    assert all(
        r["tokens_per_second"] > 0
        and 0 < r["share_of_limit"] < 1
        and r["state_bytes"] == speed[0]["state_bytes"]
        for r in speed
    )


def test_by_hand_layers_agree_with_peft_on_the_device(dry):
    compared = {r["layer"]: r["tensors"] for r in rows(dry, "by-hand")}
    assert compared == {
        "LoRALinear": 28,
        "IA3Linear": 6,
        "PrefixTuning": 5,
        "PromptTuned": 1,
        "PTuned": 7,
    }
    assert all(r["outputs"] < 1e-4 and r["gradients"] < 1e-4 for r in rows(dry, "by-hand"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card_it_says_so_and_writes_nothing():
    done = run("by-hand")
    assert done.returncode == 2 and "no CUDA card" in done.stderr


def test_an_unknown_part_is_named_with_those_there_are():
    done = run("--dry-run", "sped")
    assert done.returncode == 2 and "sped" in done.stderr and "speed" in done.stderr


def test_what_is_there_is_not_made_again(tmp_path):
    findings = gpu_evidence.Findings("card", tmp_path)
    findings.add({"part": "capstone", "seconds": 1.0})
    again = gpu_evidence.Findings("card", tmp_path)
    assert again.has(part="capstone") and not again.has(part="speed")
    gpu_evidence.capstone(again, dry=False)  # returns at once
    assert len(again.rows) == 1


def test_the_real_base_is_mistral_7b():
    config = gpu_evidence.configuration(dry=False)
    shape = memory.from_transformers(config)
    assert shape.parameters == 7_248_023_552 and memory.lora_parameters(shape, 16) == 41_943_040
    assert 6 * 7.0e9 < gpu_evidence.flops_a_token(config, 1) < 6 * 7.2e9
