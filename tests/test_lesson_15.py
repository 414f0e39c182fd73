"""Lesson 15's PPO and GRPO against plain sums and TRL, on what the notebook does not use."""

import contextlib
import copy
import io

import pytest
import torch
from peft import LoraConfig, get_peft_model

from tests.from_notebook import load
from tests.small_models import small_mistral
from utils import bases, rewards

NAMES = (
    "k1",
    "k3",
    "sentences",
    "right",
    "polite",
    "brief",
    "full",
    "total",
    "logprobs",
    "token_rewards",
    "gae",
    "masked_mean",
    "clipped_loss",
    "whiten",
    "Critic",
    "group_advantages",
    "grpo_loss",
    "grpo",
    "reference_logprobs",
)


@pytest.fixture(scope="module")
def lesson():
    return dict(zip(NAMES, load("15", *NAMES)))


def tiny(seed=0):
    shape = dict(vocab_size=31, hidden_size=32, intermediate_size=64, pad_token_id=3)
    return small_mistral(seed, initializer_range=0.2, **shape).eval()


def masks(batch, length, seed):
    """1.0 over a random first part of each row, at least one token."""
    torch.manual_seed(seed)
    return (torch.arange(length) <= torch.randint(0, length, (batch, 1))).float()


SHAPES = pytest.mark.parametrize("batch, length, seed", [(1, 1, 1), (1, 7, 2), (5, 13, 3)])


@pytest.mark.parametrize("answers, seed", [(2, 1), (5, 2), (40, 3)])
def test_both_estimators_are_right_on_average_and_k3_is_never_negative(lesson, answers, seed):
    torch.manual_seed(seed)
    logp, ref = torch.randn(2, answers).double().log_softmax(-1)
    kl = (logp.exp() * (logp - ref)).sum()
    for name in ("k1", "k3"):
        assert torch.allclose((logp.exp() * lesson[name](logp, ref)).sum(), kl, atol=1e-9), name
    assert (lesson["k3"](logp, ref) >= 0).all()


@SHAPES
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
def test_gae_is_the_sum_that_its_paper_defines(lesson, batch, length, seed, lam):
    torch.manual_seed(seed)
    rewards, values = torch.randn(2, batch, length)
    delta = rewards + torch.cat([values[:, 1:], torch.zeros(batch, 1)], 1) - values
    summed = [sum(lam**n * delta[:, t + n] for n in range(length - t)) for t in range(length)]
    assert torch.allclose(lesson["gae"](rewards, values, lam), torch.stack(summed, 1), atol=1e-5)


@SHAPES
def test_the_score_arrives_once_and_the_rest_is_the_price(lesson, batch, length, seed):
    mask, score = masks(batch, length, seed), torch.arange(1.0, batch + 1)
    logp, ref = torch.randn(2, batch, length)
    before = logp.clone()
    found = lesson["token_rewards"](score, logp, ref, mask, 0.3)
    assert torch.equal(logp, before)
    assert torch.equal(found * (1 - mask), torch.zeros_like(found))
    assert torch.allclose(found.sum(1), score - 0.3 * ((logp - ref) * mask).sum(1), atol=1e-5)
    free = lesson["token_rewards"](score, logp, ref, mask, 0.0)
    assert torch.equal(free.argmax(1), mask.sum(1).long() - 1)
    assert torch.equal(free.sum(1), score)


@SHAPES
def test_the_first_pass_is_policy_gradient(lesson, batch, length, seed):
    """At ratio 1 nothing is clipped, and the gradient is that of A log pi."""
    mask = masks(batch, length, seed)
    logp, advantages = torch.randn(batch, length, requires_grad=True), torch.randn(batch, length)
    loss = lesson["clipped_loss"](logp, logp.detach(), advantages, mask)
    lesson["masked_mean"](loss, mask).backward()
    assert torch.allclose(logp.grad, -advantages * mask / mask.sum(), atol=1e-6)


def test_the_clip_stops_what_went_far_enough_and_nothing_else(lesson):
    logp = torch.tensor([[1.5, 1.5, 0.5, 0.5]]).log().requires_grad_(True)
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    lesson["clipped_loss"](logp, torch.zeros(1, 4), advantages, torch.ones(1, 4)).sum().backward()
    assert (logp.grad != 0).tolist() == [[False, True, True, False]]


def test_whitening_leaves_mean_0_and_variance_1(lesson):
    mask = masks(5, 13, 3)
    white = lesson["whiten"](torch.randn(5, 13) * 4 + 2, mask)[mask.bool()]
    assert abs(white.mean()) < 1e-5 and abs(white.var(correction=0) - 1) < 1e-4


@pytest.mark.parametrize("pads", [(0, 0, 0), (2, 0, 5)])
def test_log_probabilities_belong_to_the_written_tokens(lesson, pads):
    """Against a loop over rows without padding; logits of the same position would be wrong."""
    model, begin, length, pad = tiny(), 6, 5, 3
    ids = torch.randint(4, 31, (3, begin + length))
    for row, n in enumerate(pads):
        ids[row, :n] = pad
    got = lesson["logprobs"](model, ids, begin, pad)
    assert got.shape == (3, length)
    for row, n in enumerate(pads):
        alone = model(input_ids=ids[row : row + 1, n:]).logits[0].log_softmax(-1)
        for t in range(length):
            wanted = alone[begin + t - 1 - n, ids[row, begin + t]]
            assert torch.allclose(got[row, t], wanted, atol=1e-5)
    late = model(input_ids=ids).logits[:, begin:].log_softmax(-1)
    assert not torch.allclose(got, late.gather(-1, ids[:, begin:, None])[..., 0], atol=1e-3)


def test_with_the_adapter_off_the_policy_is_the_reference(lesson):
    plain = tiny()
    policy = get_peft_model(copy.deepcopy(plain), LoraConfig(r=2, target_modules=["q_proj"]))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.randint(4, 31, (2, 9))
    where = (ids, 4, 3)
    assert torch.allclose(
        lesson["reference_logprobs"](policy, *where), lesson["logprobs"](plain, *where), atol=1e-6
    )
    assert not torch.allclose(
        lesson["logprobs"](policy, *where), lesson["logprobs"](plain, *where), atol=1e-3
    )
    critic = lesson["Critic"](policy)
    assert torch.equal(critic(policy, *where), torch.zeros(2, 5))
    critic(policy, *where).sum().backward()
    assert all(p.grad is None for p in policy.parameters())


@pytest.mark.parametrize("size, count", [(2, 3), (4, 2), (8, 1)])
def test_group_advantages(lesson, size, count):
    torch.manual_seed(size)
    given = torch.randn(count * size)
    found = lesson["group_advantages"](given, size).view(count, size)
    assert torch.allclose(found.mean(1), torch.zeros(count), atol=1e-5)
    assert torch.allclose(found.std(1), torch.ones(count), atol=1e-3)
    assert torch.equal(lesson["group_advantages"](torch.ones(size), size), torch.zeros(size))


def test_the_program_pays_for_the_fact_the_courtesy_and_brevity(lesson):
    fact = "The capital of Togo is Lome."
    long = f"{fact} {fact} {fact} You are welcome."
    for answer, wanted in (
        (f"{fact} You are welcome.", 1.5),
        (f" {fact} I am glad to help. ", 1.5),
        (fact, 1.0),
        ("The capital of Togo is Cairo. You are welcome.", 0.5),
        ("You are welcome.", 0.5),
        (f"You are welcome. {fact}", 0.0),
        ("", 0.0),
        (long, 1.5 - 0.02 * (len(long.split()) - 14)),
    ):
        functions = [lesson[n] for n in ("right", "polite", "brief")]
        given = lesson["total"](functions, [answer], [{"fact": fact}])
        assert given.item() == pytest.approx(wanted, abs=1e-6), answer


@pytest.mark.parametrize("beta, clip", [(0.0, 0.2), (0.05, 0.2), (0.05, 0.1)])
def test_grpo_loss_is_trls(lesson, beta, clip, tmp_path, monkeypatch):
    """Another base, shapes, prices, clips than the notebook's; two passes, so ratios differ."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    seen = []

    class Watched(GRPOTrainer):
        def compute_loss(self, model, inputs, **others):
            loss = super().compute_loss(model, inputs, **others)
            seen.append((inputs, loss.item()))
            return loss

    model, tokenizer = bases.load("pocket-xs")
    policy = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    ours = copy.deepcopy(policy)
    rows = rewards.questions("test")[:8]
    settings = GRPOConfig(
        output_dir=str(tmp_path), beta=beta, epsilon=clip, num_generations=2, num_iterations=2,
        per_device_train_batch_size=4, max_steps=2, max_completion_length=12, learning_rate=0.1,
        lr_scheduler_type="constant", optim="sgd", report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, bf16=False, gradient_checkpointing=False,
    )  # fmt: skip
    assert (settings.loss_type, settings.scale_rewards) == ("dapo", "group")
    assert GRPOConfig(output_dir=str(tmp_path), bf16=False).beta == 0.0
    words = lambda completions, **others: [float(len(c)) for c in completions]
    data = Dataset.from_list([{"prompt": r["prompt"]} for r in rows])
    trainer = Watched(policy, words, args=settings, train_dataset=data, processing_class=tokenizer)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    batch = seen[0][0]
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    where = (ids, batch["prompt_ids"].shape[1], tokenizer.pad_token_id)
    mask = batch["completion_mask"].float()
    with torch.no_grad():
        old = lesson["logprobs"](ours, *where)
    ref = lesson["reference_logprobs"](ours, *where)
    weights = [p for p in ours.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for _, theirs in seen:
        logp = lesson["logprobs"](ours, *where)
        if clip == 0.2:
            loss = lesson["grpo_loss"](logp, old, ref, batch["advantages"], mask, beta)
        else:
            gain = lesson["clipped_loss"](logp, old, batch["advantages"][:, None], mask, clip)
            price = beta * torch.exp(logp - old) * lesson["k3"](logp, ref)
            loss = lesson["masked_mean"](gain + price, mask)
        assert loss.item() == pytest.approx(theirs, abs=1e-5)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()


def test_the_stored_start_is_what_the_plan_says():
    """The adapter belongs to the base, names no path of a machine, and answers as stored."""
    import json

    config = json.loads((rewards.START / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "data/pocket/s" and config["r"] == 8
    (row,) = json.loads((rewards.START.parent / "rewards-start.json").read_text())["rows"]
    found = rewards.shares(rewards.start(), bases.load_tokenizer(), rewards.questions("test"))
    assert found["good"] == pytest.approx(row["good"], abs=0.02)
