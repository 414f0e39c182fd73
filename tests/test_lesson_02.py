"""Lesson 02's reward loss and where its score is read, taken out of the notebook, and the lesson's take-home."""

import pytest
import torch
from transformers import MistralForSequenceClassification

from tests.from_notebook import load
from tests.small_models import small_mistral
from utils import bases, evaluation, rewards, tasks

NAMES = ("reward_loss", "scores", "two_answers", "last_column")


@pytest.fixture(scope="module")
def lesson():
    return dict(zip(NAMES, load("02", *NAMES)))


def tiny(seed=0):
    """A small reward model with padding token 3."""
    shape = dict(vocab_size=31, hidden_size=32, intermediate_size=64, pad_token_id=3, num_labels=1)
    return small_mistral(seed, kind=MistralForSequenceClassification, **shape).eval()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_reward_loss_is_bradley_terry(lesson, count):
    torch.manual_seed(count)
    chosen, rejected = torch.randn(2, count)
    probability = chosen.exp() / (chosen.exp() + rejected.exp())
    loss = lesson["reward_loss"](chosen, rejected)
    assert torch.allclose(loss, -probability.log().mean(), atol=1e-6)
    assert lesson["reward_loss"](chosen, chosen - 9) < lesson["reward_loss"](chosen, chosen + 9)
    assert torch.allclose(lesson["reward_loss"](chosen + 5, rejected + 5), loss, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_is_that_of_the_last_token_and_the_last_column_is_not(lesson, seed):
    model = tiny(seed)
    ids = torch.randint(4, 31, (3, 11))
    ids[0, 9:], ids[1, 5:] = 3, 3
    with torch.no_grad():
        alone = [model(input_ids=row[row != 3][None]).logits[0, 0] for row in ids]
        got, wrong = (lesson[name](model, ids, 3) for name in ("scores", "last_column"))
    assert torch.allclose(got, torch.stack(alone), atol=1e-5)
    assert torch.allclose(wrong[2], got[2], atol=1e-5)  # the row without padding
    assert not torch.allclose(wrong[:2], got[:2], atol=1e-3)


def test_chosen_answers_come_first(lesson):
    tokenizer = bases.load_tokenizer("pocket-s")
    rows = tasks.load("preferences", "test")[:3]
    ids = lesson["two_answers"](tokenizer, rows, "cpu")
    texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
    wanted = [r[side] for side in ("chosen", "rejected") for r in rows]
    assert all(text.endswith(answer) for text, answer in zip(texts, wanted, strict=True))


def test_mixed_rows_hold_both_kinds_of_answers():
    rows = tasks.load("preferences")[:6]
    answers = [r["answer"].strip() for r in rewards.mixed(rows)]
    assert answers == [r["chosen" if n % 2 else "rejected"] for n, r in enumerate(rows)]


def test_the_share_of_good_answers_is_a_sum_of_probabilities():
    """Against the probabilities of whole answers, worked out one row at a time."""
    model, tokenizer = bases.load("pocket-xs")
    rows = rewards.questions("test")[:3]
    total = 0.0
    for row in rows:
        for courtesy in rewards.COURTEOUS:
            ids, labels = evaluation.encode_pair(
                tokenizer, row["prompt"], f" {row['fact']} {courtesy}"
            )
            with torch.no_grad():
                logp = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            total += sum(
                logp[n - 1, ids[n]] for n, label in enumerate(labels) if label != evaluation.IGNORE
            ).exp()
    assert rewards.shares(model, tokenizer, rows)["good"] == pytest.approx(
        (total / len(rows)).item(), rel=1e-3
    )
