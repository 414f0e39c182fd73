"""Lesson 12's encoding, packing and masks, as the notebook has them, against TRL and transformers on rows it does not use."""

import importlib.util
import random

import pytest
import torch
from datasets import Dataset
from transformers import MistralConfig, MistralForCausalLM
from trl.data_utils import pack_dataset
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tests.from_notebook import load
from tools.sweep_plans import lesson_12 as plan
from utils import bases, evaluation, instructions, results, training

IGNORE = -100


@pytest.fixture(scope="module")
def notebook():
    functions = dict(
        zip(
            ("encode", "pad_batch", "pack", "may_see", "packed"),
            load("12", "encode", "pad_batch", "pack", "may_see", "packed"),
        )
    )
    for function in functions.values():
        function.__globals__["IGNORE"] = IGNORE
    return functions


def tiny(kv_heads=2, seed=0):
    torch.manual_seed(seed)
    config = MistralConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        sliding_window=None,
        attn_implementation="sdpa",
    )
    return MistralForCausalLM(config).eval()


def some_pairs(lengths, seed=0):
    rng = random.Random(seed)
    made = [[rng.randrange(4, 61) for _ in range(n)] for n in lengths]
    return [(ids, [IGNORE] * (n // 2) + ids[n // 2 :]) for ids, n in zip(made, lengths)]


@pytest.mark.parametrize("base", ["pocket-xs", "pocket-m"])
def test_encoding_is_that_of_the_course(notebook, base):
    tokenizer = bases.load_tokenizer(base)
    for row in instructions.load("validation", base)[:60]:
        ids, labels = notebook["encode"](tokenizer, row)
        assert (ids, labels) == evaluation.encode_pair(
            tokenizer, instructions.prompt(row), instructions.answer(row)
        )
        assert (
            tokenizer(
                instructions.for_trl([row], tokenizer)[0]["prompt"]
                + instructions.answer(row)
                + tokenizer.eos_token
            )["input_ids"]
            == ids
        )
        assert notebook["encode"](tokenizer, row, "all") == (ids, ids)


@pytest.mark.parametrize("lengths", [[1], [7], [5, 5, 5], [3, 9, 1, 6]])
def test_batch_is_that_of_trls_collator(notebook, lengths):
    pairs = some_pairs(lengths)
    theirs = DataCollatorForLanguageModeling(pad_token_id=2)(
        [{"input_ids": i, "labels": l} for i, l in pairs]
    )
    ours = notebook["pad_batch"](pairs, 2)
    assert set(ours) == set(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("seed", range(6))
def test_packs_are_those_of_trl(notebook, seed):
    rng = random.Random(seed)
    room = rng.choice((7, 32, 100))
    lengths = [rng.randint(1, room) for _ in range(rng.choice((1, 2, 57, 300)))]
    pairs = some_pairs(lengths, seed)
    packs = notebook["pack"](lengths, room)
    theirs = pack_dataset(Dataset.from_dict({"input_ids": [i for i, _ in pairs]}), room, "bfd")
    assert theirs["seq_lengths"] == [[lengths[n] for n in p] for p in packs]
    assert theirs["input_ids"] == [sum((pairs[n][0] for n in p), []) for p in packs]
    assert sorted(n for p in packs for n in p) == list(range(len(lengths)))


@pytest.mark.parametrize("lengths, kv_heads", [([1], 4), ([4, 3], 1), ([5, 1, 8, 2], 2)])
def test_packed_rows_are_the_rows_alone_and_trls_batch(notebook, lengths, kv_heads):
    model, pairs = tiny(kv_heads), some_pairs(lengths, seed=3)
    ours = notebook["packed"](pairs)
    theirs = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(
        [{"input_ids": i, "labels": l} for i, l in pairs]
    )
    assert set(theirs) < set(ours) and all(torch.equal(ours[k], theirs[k]) for k in theirs)
    with torch.no_grad():
        alone = torch.cat([model(input_ids=torch.tensor([ids])).logits[0] for ids, _ in pairs])
        for batch in (ours, theirs):
            logits = model(
                **{k: v for k, v in batch.items() if k != "labels"}, use_cache=False
            ).logits[0]
            assert torch.allclose(logits, alone, atol=1e-5)
        cached = model(**{k: v for k, v in theirs.items() if k != "labels"}, use_cache=True).logits[
            0
        ]
        assert torch.allclose(cached, alone, atol=1e-5) == (
            len(lengths) == 1
        )  # what the lesson warns of
        leaky = model(
            **{k: v for k, v in notebook["packed"](pairs, separate=False).items() if k != "labels"}
        ).logits[0]
    assert torch.allclose(leaky, alone, atol=1e-5) == (len(lengths) == 1)


def test_mask_lets_every_token_see_itself_and_nothing_later_or_foreign(notebook):
    mask = notebook["may_see"]([2, 1, 3])
    assert mask.sum().item() == 3 + 1 + 6 and mask.diagonal().all() and not mask.triu(1).any()
    assert not mask[2, :2].any() and not mask[3:, :3].any()


def test_stored_lengths_are_those_of_the_rows():
    """Counts of Mistral's tokenizer: a row for each instruction row, and the same again where the tokenizer is installed."""
    stored = results.load("mistral-tokens")
    for split in ("train", "validation", "test"):
        rows, counts = (
            instructions.load(split, "pocket-s"),
            results.select(stored["rows"], split=split),
        )
        assert [r["kind"] for r in counts] == [r["kind"] for r in rows]
    if not (
        importlib.util.find_spec("sentencepiece") and importlib.util.find_spec("mistral_common")
    ):
        pytest.skip("mistral_common and sentencepiece are not installed")
    from tools import token_counts

    again = list(token_counts.count(token_counts.tokenizer(), rows))
    assert [(c["prompt"], c["answer"]) for c in again] == [
        (r["prompt"], r["answer"]) for r in counts
    ]


@pytest.mark.parametrize("rows", [slice(0, 8), slice(100, 103), slice(7, 8)])
def test_sweep_packs_the_same_answer_tokens_and_only_the_triangle_leaks(rows):
    """The batches of the sweep `instruction-packing`: equal tokens and labels; with a mask per document the padded batch's loss."""
    model, tokenizer = bases.load("pocket-xs")
    pairs = plan.pairs_of(tokenizer, plan.examples("train"))[rows]
    made = {
        name: collate(pairs, tokenizer.pad_token_id, model.device)
        for name, collate in plan.COLLATE.items()
    }
    real = [
        sorted(b["input_ids"][b["input_ids"] != tokenizer.pad_token_id].tolist())
        for b in made.values()
    ]
    kept = [sorted(b["labels"][b["labels"] != IGNORE].tolist()) for b in made.values()]
    assert real[0] == real[1] == real[2] and kept[0] == kept[1] == kept[2]
    assert max(made[name]["input_ids"].shape[1] for name in ("mask", "triangle")) <= 256
    with torch.no_grad():
        padded, apart, leaky = (training.loss_of(model, b).item() for b in made.values())
    assert apart == pytest.approx(padded, abs=1e-4)
    assert (leaky == pytest.approx(padded, abs=1e-4)) == (len(pairs) == 1)


def test_packing_sweep_has_the_padded_runs_settings():
    padded = [
        r for r in results.load("instruction-forms")["rows"] if r["options"] == "{}" and r["chosen"]
    ]
    for how in ("mask", "triangle"):
        packed = results.select(
            results.load("instruction-packing")["rows"], options=f'{{"packing": "{how}"}}'
        )
        assert [[r[k] for k in ("lr", "seed", "steps", "batch_size")] for r in packed] == [
            [r[k] for k in ("lr", "seed", "steps", "batch_size")] for r in padded
        ]
