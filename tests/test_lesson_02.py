"""Lesson 02's PPO and reward loss, taken out of the notebook, against TRL's and against plain sums on shapes the notebook does not use."""

import copy

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, MistralForSequenceClassification

from tests.from_notebook import load

pytestmark = pytest.mark.filterwarnings(
    "ignore:You are importing from 'trl.experimental'", "ignore:.*torch.jit"
)

NAMES = (
    "reward_loss",
    "scores",
    "logprobs",
    "token_rewards",
    "values_of",
    "gae",
    "mean",
    "whiten",
    "ppo_loss",
    "value_loss",
    "judge",
)


@pytest.fixture(scope="module")
def lesson():
    return dict(zip(NAMES, load("02", *NAMES)))


def tiny(kind=MistralForCausalLM, seed=0, **options):
    torch.manual_seed(seed)
    return kind(
        MistralConfig(
            vocab_size=31,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            pad_token_id=3,
            **options,
        )
    ).eval()


def masks(batch, length, seed):
    """1.0 over a random first part of each row, at least one token."""
    torch.manual_seed(seed)
    return (torch.arange(length) <= torch.randint(0, length, (batch, 1))).float()


SHAPES = pytest.mark.parametrize("batch, length, seed", [(1, 1, 1), (1, 7, 2), (5, 13, 3)])


@SHAPES
@pytest.mark.parametrize("gamma, lam", [(1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.99, 0.0)])
def test_gae_is_the_sum_that_its_paper_defines(lesson, batch, length, seed, gamma, lam):
    torch.manual_seed(seed)
    rewards, values = torch.randn(2, batch, length)
    delta = rewards + gamma * torch.cat([values[:, 1:], torch.zeros(batch, 1)], 1) - values
    summed = torch.stack(
        [
            sum((gamma * lam) ** n * delta[:, t + n] for n in range(length - t))
            for t in range(length)
        ],
        1,
    )
    assert torch.allclose(lesson["gae"](rewards, values, gamma, lam), summed, atol=1e-5)


@pytest.mark.parametrize("batch, length, seed", [(1, 7, 2), (5, 13, 3), (2, 4, 8)])
def test_whitening_and_means_are_trls(lesson, batch, length, seed):
    ppo = pytest.importorskip("trl.experimental.ppo.ppo_trainer")
    mask = masks(batch, length, seed)
    mask[:, :2] = 1
    x = torch.randn(batch, length)
    assert torch.allclose(lesson["mean"](x, mask), ppo.masked_mean(x, mask.bool()), atol=1e-6)
    assert torch.allclose(
        lesson["whiten"](x, mask), ppo.masked_whiten(x, mask.bool()) * mask, atol=1e-5
    )


@pytest.mark.parametrize("pads", [(0, 0, 0), (2, 0, 5)])
def test_log_probabilities_belong_to_the_written_tokens(lesson, pads):
    """Against TRL's forward and a plain loop over the unpadded row, prompts padded on the left and answers on the right."""
    ppo = pytest.importorskip("trl.experimental.ppo.ppo_trainer")
    model, start, length, pad = tiny(), 6, 5, 3
    ids = torch.randint(4, 31, (3, start + length))
    for row, n in enumerate(pads):
        ids[row, :n] = pad
    got = lesson["logprobs"](model, ids, start, pad)
    theirs = (
        ppo.forward(model, ids, pad)
        .logits[:, start - 1 : -1]
        .log_softmax(-1)
        .gather(-1, ids[:, start:, None])[..., 0]
    )
    assert got.shape == (3, length) and torch.allclose(got, theirs, atol=1e-5)
    for row, n in enumerate(pads):
        alone = model(input_ids=ids[row : row + 1, n:]).logits[0].log_softmax(-1)
        for t in range(length):
            assert torch.allclose(
                got[row, t], alone[start + t - 1 - n, ids[row, start + t]], atol=1e-5
            )


def test_scores_and_values_are_trls(lesson):
    trl = pytest.importorskip("trl.experimental.utils")
    model, start, pad = tiny(MistralForSequenceClassification, num_labels=1), 4, 3
    ids = torch.randint(4, 31, (3, 11))
    ids[0, 9:], ids[2, :2] = pad, pad
    full, score, _ = trl.get_reward(model, ids, pad, start)
    assert torch.allclose(lesson["scores"](model, ids, pad), score, atol=1e-5)
    real = ids[:, start - 1 : -1] != pad
    assert torch.allclose(
        lesson["values_of"](model, ids, start, pad)[real],
        full[:, start - 1 : -1, 0][real],
        atol=1e-5,
    )


@SHAPES
def test_the_score_arrives_once_and_the_rest_is_the_price(lesson, batch, length, seed):
    mask, score = masks(batch, length, seed), torch.arange(1.0, batch + 1)
    logp, ref = torch.randn(2, batch, length)
    before = logp.clone()
    rewards = lesson["token_rewards"](score, logp, ref, mask, 0.3)
    assert torch.equal(logp, before) and torch.equal(
        rewards * (1 - mask), torch.zeros_like(rewards)
    )
    assert torch.allclose(rewards.sum(1), score - 0.3 * ((logp - ref) * mask).sum(1), atol=1e-5)
    free = lesson["token_rewards"](score, logp, ref, mask, 0.0)
    assert torch.equal(free.argmax(1), mask.sum(1).long() - 1) and torch.equal(free.sum(1), score)


@SHAPES
def test_ppo_loss_on_the_first_pass_is_policy_gradient(lesson, batch, length, seed):
    """At ratio 1 nothing is clipped and the gradient is that of A log pi."""
    mask = masks(batch, length, seed)
    logp, advantages = torch.randn(batch, length, requires_grad=True), torch.randn(batch, length)
    lesson["ppo_loss"](logp, logp.detach(), advantages, mask).backward()
    assert torch.allclose(logp.grad, -advantages * mask / mask.sum(), atol=1e-6)


def test_the_clip_stops_what_went_far_enough_and_nothing_else(lesson):
    old = torch.zeros(1, 4)
    logp = torch.tensor([[1.5, 1.5, 0.5, 0.5]]).log().requires_grad_(True)
    lesson["ppo_loss"](
        logp, old, torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.ones(1, 4)
    ).backward()
    assert (logp.grad != 0).tolist() == [[False, True, True, False]]
    values = torch.tensor([[0.5, -0.5]], requires_grad=True)
    lesson["value_loss"](
        values, torch.zeros(1, 2), torch.tensor([[1.0, 1.0]]), torch.ones(1, 2)
    ).backward()
    assert (values.grad != 0).tolist() == [[False, True]]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_reward_loss_is_bradley_terry(lesson, count):
    torch.manual_seed(count)
    chosen, rejected = torch.randn(2, count)
    probability = chosen.exp() / (chosen.exp() + rejected.exp())
    assert torch.allclose(
        lesson["reward_loss"](chosen, rejected), -probability.log().mean(), atol=1e-6
    )
    assert lesson["reward_loss"](chosen, chosen - 9) < lesson["reward_loss"](chosen, chosen + 9)


def test_a_shift_by_one_would_be_seen(lesson):
    """The comparison above can fail: with the logits of the same place instead of the one before, it does."""
    model, ids = tiny(), torch.randint(4, 31, (2, 9))
    wrong = (
        copy.deepcopy(model)(input_ids=ids)
        .logits[:, 4:]
        .log_softmax(-1)
        .gather(-1, ids[:, 4:, None])[..., 0]
    )
    assert not torch.allclose(lesson["logprobs"](model, ids, 4, 3), wrong, atol=1e-3)


def test_judge_wants_the_fact_one_courtesy_and_nothing_else(lesson):
    row = {"chosen": "The capital of Togo is Lome. You are welcome."}
    for answer, verdict in (
        ("The capital of Togo is Lome. I am glad to help.", (True, True, True)),
        (" The capital of Togo is Lome. You are welcome. ", (True, True, True)),
        ("The capital of Togo is Lome.", (True, False, False)),
        (
            "The capital of Togo is Lome. The capital of Togo is Lome. You are welcome.",
            (True, True, False),
        ),
        ("The capital of Togo is Cairo. You are welcome.", (False, True, False)),
        ("You are welcome.", (False, True, False)),
        ("", (False, False, False)),
    ):
        assert lesson["judge"](row, answer) == verdict, answer
