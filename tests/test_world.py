"""The pocket world and its bases: what the lessons rely on, measured on the committed files."""

import itertools
import json

import pytest

from tools import build_world
from tools.world import corpus, grammar, lexicon, tasks
from utils import DATA, bases, evaluation
from utils import tasks as task_rows

SIZES = ("xs", "s", "m")


@pytest.fixture(scope="module")
def built():
    return tasks.build_all()


def test_committed_rows_are_what_the_generator_writes(built):
    for name, splits in built.items():
        for split, rows in splits.items():
            assert task_rows.read_rows(DATA / "tasks" / name / f"{split}.jsonl") == rows, (
                f"{name}/{split}: run `python -m tools.build_world`"
            )


def test_every_task_has_three_splits_and_none_shares_a_row(built):
    for name, splits in built.items():
        assert {"train", "validation", "test"} <= set(splits)
        keys = {
            s: {
                json.dumps(
                    {k: v for k, v in row.items() if k not in ("kind", "output")}, sort_keys=True
                )
                for row in rows
            }
            for s, rows in splits.items()
        }
        for a, b in itertools.combinations(keys, 2):
            assert not keys[a] & keys[b], f"{name}: {a} and {b} share rows"


def test_countries_names_and_wording_are_held_out(built):
    for name, field in (("facts", "country"), ("cloze", "subject")):
        seen = [{row[field] for row in rows} for rows in built[name].values()]
        assert not any(a & b for a, b in itertools.combinations(seen, 2)), name
    people = [
        {e["text"] for row in rows for e in row["entities"]} for rows in built["entities"].values()
    ]
    assert not any(a & b for a, b in itertools.combinations(people, 2))
    words = {w for grade in lexicon.GRADED.values() for w in grade}
    used = {
        s: {
            w
            for row in rows
            for w in row["text"].replace(".", " ").replace(",", " ").split()
            if w in words
        }
        for s, rows in built["sentiment"].items()
    }
    assert not used["train"] & used["test"]


def test_no_task_row_stands_in_the_pretraining_text(built):
    """Plain substring search, independent of how the generator avoids them, over a sample of the
    training documents.
    """
    text = "\n".join(build_world.pretraining_documents(12_000))
    found = [
        row
        for row in tasks.forbidden_texts(built)
        if f"{row}." in text or f'"{row}"' in text or f"\n{row} " in text or f"\n{row}\n" in text
    ]
    assert not found, found[:3]


def test_the_search_for_task_rows_can_fail(built):
    row = built["translation"]["test"][0]["source"]
    assert row in set(corpus.parts_of(f'In Velan, "{row}" is written "…".'))


def test_instructions_are_alpaca_rows_of_many_kinds(built):
    rows = built["instructions"]["train"]
    assert len(rows) >= 1000 and len({r["kind"] for r in rows}) >= 8
    assert all(
        {"instruction", "input", "output"} <= set(r) and r["instruction"] and r["output"]
        for r in rows
    )
    assert any(r["input"] == "" for r in rows) and any(r["input"] for r in rows)


def test_facts_file_holds_four_facts_of_each_country():
    rows = evaluation.facts()
    assert len(rows) == 4 * len(lexicon.COUNTRIES) == 384
    assert rows[0] == {
        "prompt": grammar.RECALL_PROMPTS["capital"].format(c="France"),
        "answer": " Paris",
        "country": "France",
        "relation": "capital",
    }


@pytest.mark.parametrize("size", ["s", "m"])
def test_base_recalls_the_facts(size):
    model, tokenizer = bases.load(f"pocket-{size}")
    assert evaluation.facts_kept(model, tokenizer) >= 0.99


@pytest.mark.parametrize("size", SIZES)
def test_base_is_what_the_datasheet_says(size):
    model, tokenizer = bases.load(f"pocket-{size}")
    c, stored = (
        model.config,
        json.loads((DATA / "results" / f"pretraining-{size}.json").read_text()),
    )
    assert c.model_type == "mistral" and tokenizer.pad_token_id not in (
        tokenizer.eos_token_id,
        None,
    )
    assert all(
        n % 64 == 0
        for m in model.modules()
        if isinstance(m, __import__("torch").nn.Linear)
        for n in m.weight.shape
    )
    assert stored["parameters"] == model.num_parameters()
    assert (
        abs(
            evaluation.perplexity(model, tokenizer, evaluation.world_texts(400))
            - stored["heldout_perplexity"]
        )
        < 0.01
    )
    assert evaluation.facts_kept(model, tokenizer) == pytest.approx(
        stored["facts_recalled"], abs=0.01
    )


def test_bases_take_15_mb_in_all_and_are_safetensors_only():
    files = [p for p in (DATA / "pocket").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 15_000_000
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".jinja"}


def test_datasheet_says_what_the_files_hold():
    from tools import datasheet

    page = datasheet.PAGE.read_text(encoding="utf-8")
    assert "| s | 1,967,808" in page and datasheet.filled(page) == page, (
        "run `python -m tools.datasheet`"
    )
