"""utils.results: what was timed on cards, and what is said when nothing was."""

import pytest

from utils import results


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(results, "DATA", tmp_path)
    return tmp_path / "results"


def test_without_a_card_it_says_so(folder):
    assert "No run on a GPU is stored" in repr(results.on_cards())


def test_rows_are_named_by_their_card(folder):
    rows = [
        {
            "part": "speed",
            "stack": s,
            "dtype": "float16",
            "batch": 2,
            "accumulation": 4,
            "length": 2048,
            "outcome": "ran",
            "tokens_per_second": t,
        }
        for s, t in (("unsloth", 900.5), ("transformers", 600.25))
    ] + [{"part": "capstone", "seconds": 1.0}]
    results.save("gpu-card-x", rows, {"card": {"name": "Card X"}}, folder)
    shown = repr(results.on_cards(batch=2))
    assert shown.count("Card X") == 2 and "900" in shown and "capstone" not in shown
    assert "No run on a GPU" in repr(results.on_cards(batch=64))
