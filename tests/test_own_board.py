"""The reader's own race (utils/own_board.py): what it holds back, says first, and refuses."""

import pytest

from utils import own_board, tasks

ROWS = [{"prompt": f"{n} is", "answer": f" {n % 7}."} for n in range(30)]


def fake(merits):
    """A run that costs nothing: the score of (method, learning rate) in `merits`, else 0.1."""

    def run(self, arm, lr, seed, steps=None):
        score = merits.get((arm, lr), 0.1)
        return {
            "arm": arm,
            "lr": lr,
            "seed": seed,
            "validation_score": score,
            "validation_loss": 1 - score,
            "test_score": score / 2,
            "test_loss": 1.0,
            "trainable": 10,
        }

    return run


def test_nobody_trains_on_held_out_rows():
    board = own_board.Board(ROWS)
    parts = [[r["prompt"] for r in board.parts[name]] for name in ("train", "validation", "test")]
    assert sorted(sum(parts, [])) == sorted(r["prompt"] for r in ROWS)
    assert [len(part) for part in parts] == [18, 6, 6]


def test_the_learning_rate_is_chosen_on_validation_rows(monkeypatch, capsys):
    monkeypatch.setattr(own_board.Board, "run", fake({("lora", 3e-3): 0.8, ("full", 1e-3): 0.6}))
    table = own_board.race(ROWS, arms=("lora", "full"), seeds=(0, 1))
    assert [row[2] for row in table.rows] == ["0.003", "0.001 (edge)"]
    assert [row[3][:4] for row in table.rows] == ["0.40", "0.30"]
    told = capsys.readouterr().out
    assert "12 runs of 60 steps, about 0 s; rows: 6 test, 6 validation, 18 train" in told
    assert "6 test rows" in told


def test_too_long_is_said_and_not_run(monkeypatch, capsys):
    monkeypatch.setattr(own_board.Board, "run", fake({}))
    monkeypatch.setattr(own_board.Board, "seconds", lambda self: 500.0)
    assert own_board.race(ROWS, most_seconds=60) is None
    assert "over 60 s, so nothing was run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "rows, how, fault",
    [
        (ROWS[:11], {}, "11 rows are too few"),
        (ROWS + [{"prompt": "x"}], {}, "row 31 has no prompt or no answer"),
        (ROWS, {"arms": ("lora", "magic")}, "no method 'magic'"),
    ],
)
def test_what_cannot_be_raced_is_named(rows, how, fault):
    with pytest.raises(ValueError, match=fault):
        own_board.race(rows, **how)


def test_a_real_run_on_the_smallest_base():
    board = own_board.Board(tasks.load("sentiment", "train")[:20], base="pocket-xs")
    row = board.run("lora", 1e-3, 0, steps=1)
    assert row["trainable"] > 0 and 0 <= row["test_score"] <= 1 and row["validation_loss"] > 0
