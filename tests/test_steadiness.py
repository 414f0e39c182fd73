"""What makes runs hold on other machines: noise on the weights, bands of comparison, the one rule of choice, the faster step."""

import pytest
import torch

from tools import sweeps
from utils import bases, evaluation, methods, results, tasks, training


@pytest.fixture(autouse=True)
def no_noise_of_the_suite(monkeypatch):
    """These tests set their own noise, also when the whole suite runs under one."""
    monkeypatch.delenv("PEFT_COURSE_PERTURB", raising=False)


def weights(model):
    return dict(model.named_parameters())


@pytest.mark.parametrize("name", ["pocket-xs", "pocket-s"])
def test_noise_changes_the_last_bits_and_nothing_else(name, monkeypatch):
    plain, tokenizer = bases.load(name)
    monkeypatch.setenv("PEFT_COURSE_PERTURB", "3")
    shaken, again = bases.load(name)[0], bases.load(name)[0]
    monkeypatch.setenv("PEFT_COURSE_PERTURB", "4")
    other = bases.load(name)[0]
    for n, w in weights(plain).items():
        relative = ((weights(shaken)[n] - w).abs() / w.abs().clamp(min=1e-12)).max()
        assert 0 < relative < 1e-6 and weights(shaken)[n].dtype == w.dtype
        assert torch.equal(weights(shaken)[n], weights(again)[n])
    assert any(not torch.equal(weights(other)[n], weights(shaken)[n]) for n in weights(plain))
    assert repr(shaken) == repr(plain) and shaken.config.to_dict() == plain.config.to_dict()
    rows = tasks.load("facts", "test")
    losses = [evaluation.answer_loss(m, tokenizer, rows) for m in (plain, shaken)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_noise_reaches_a_base_in_four_bits_once(monkeypatch):
    plain, _ = bases.load("pocket-xs", four_bit=True)
    monkeypatch.setenv("PEFT_COURSE_PERTURB", "1")
    shaken, tokenizer = bases.load("pocket-xs", four_bit=True)
    layers = [[m for m in x.modules() if hasattr(m, "quant_state")] for x in (plain, shaken)]
    moved = []
    for a, b in zip(*layers):
        assert torch.equal(a.weight, b.weight)  # the codes
        before, after = (layer.quant_state.state2.absmax for layer in (a, b))
        moved.append(((after - before).abs() / before).max().item())
    assert 0 < max(moved) < 1e-6
    kept = {n: w.clone() for n, w in weights(shaken).items()}
    bases.settle_four_bit(shaken)  # called again by whoever loads through another door
    assert all(torch.equal(kept[n], w) for n, w in weights(shaken).items())


@pytest.mark.parametrize("given", ["-1", "x", "1.5", "1e3"])
def test_a_noise_that_is_no_seed_is_refused_in_a_sentence(given, monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_PERTURB", given)
    with pytest.raises(ValueError, match="whole number"):
        bases.load("pocket-xs")


@pytest.mark.parametrize("given", ["", "0"])
def test_no_noise_is_none(given, monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_PERTURB", given)
    assert bases.noise_seed() is None


STORED = {"base": "pocket-s", "test_score": 0.9, "loss": 40.0, "wobble": {"test_score": 0.03}}


def test_a_live_run_is_compared_within_its_band(monkeypatch):
    assert results.band(STORED, "test_score") == pytest.approx(0.06)
    assert results.band(STORED, "loss") == pytest.approx(2.0)
    said = results.same_as_stored(STORED, test_score=0.95)
    assert "0.950 here and 0.900 stored" in said and "differ by up to 0.06" in said
    for strict, far in (("1", 0.83), ("", 0.83)):
        monkeypatch.setenv("PEFT_COURSE_TESTS", strict)
        if strict:
            with pytest.raises(AssertionError, match="further away than rounding"):
                results.same_as_stored(STORED, test_score=far)
        else:
            assert "further away" in results.same_as_stored(STORED, test_score=far)


def test_what_is_wrong_with_a_stored_run_is_a_sentence(monkeypatch):
    monkeypatch.delenv("PEFT_COURSE_TESTS", raising=False)
    bare = {k: v for k, v in STORED.items() if k != "wobble"}
    assert "was not measured" in results.same_as_stored(bare, test_score=0.9)
    assert "another version" in results.same_as_stored(bare, perplexity=3.0)
    old = results.Row(STORED, {"peft": "0.1.0"})
    assert "stored with peft 0.1.0" in results.same_as_stored(old, test_score=0.1)
    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket-xs")
    assert "yours may differ" in results.same_as_stored(STORED, test_score=0.1)


def searched(scores, losses=None, wobbles=()):
    """A `get` for `choose` over {lr: scores by seed}; noise moves the score of the rates in `wobbles`."""
    calls = []

    def get(lr, seed, noise=None):
        calls.append((lr, seed, noise))
        score = scores.get(lr, [0.0] * 3)[seed]
        score -= 0.1 if noise and lr in wobbles else 0.0
        loss = (losses or {}).get(lr, 1.0)
        return {"lr": lr, "seed": seed, "validation_score": score, "validation_loss": loss}

    return get, calls


def test_the_mean_of_three_seeds_decides_not_the_first():
    get, _ = searched({1e-3: [0.8] * 3, 3e-3: [0.9, 0.9, 0.9], 1e-2: [1.0, 0.2, 0.3]})
    assert sweeps.choose(get, (1e-3, 3e-3, 1e-2), (0, 1, 2))[0] == 3e-3


def test_ties_go_to_the_lower_loss():
    scores = {1e-3: [0.1] * 3, 3e-3: [0.9] * 3, 1e-2: [0.9] * 3, 3e-2: [0.0] * 3}
    get, _ = searched(scores, {3e-3: 0.5, 1e-2: 0.4})
    assert sweeps.choose(get, tuple(scores), (0, 1, 2))[0] == 1e-2


def test_the_grid_grows_until_the_winner_is_inside():
    get, calls = searched({1e-3: [0.5] * 3, 3e-3: [0.7] * 3, 1e-2: [0.9] * 3, 3e-2: [0.8] * 3})
    assert sweeps.choose(get, (1e-3, 3e-3), (0, 1, 2))[0] == 1e-2
    assert 3e-2 in {lr for lr, _, _ in calls}


def test_an_unsteady_rate_is_not_eligible():
    scores = {1e-3: [0.7] * 3, 3e-3: [0.8] * 3, 1e-2: [0.9] * 3, 3e-2: [0.0] * 3}
    get, _ = searched(scores, wobbles=(1e-2,))
    rate, wobbles = sweeps.choose(get, tuple(scores), (0, 1, 2))
    assert rate == 3e-3 and wobbles[1e-2] > sweeps.MAX_WOBBLE >= wobbles[3e-3]


def test_runs_that_cannot_change_the_choice_are_not_made():
    scores = {1e-3: [0.4] * 3, 3e-3: [0.9] * 3, 1e-2: [0.2] * 3}
    get, calls = searched(scores)
    sweeps.choose(get, tuple(scores), (0, 1, 2))
    assert (1e-2, 1, None) not in calls  # (0.2 + 1 + 1) / 3 is below 0.9
    full = {lr: sum(s) / 3 for lr, s in scores.items()}
    assert max(full, key=full.get) == 3e-3


@pytest.mark.parametrize(
    "method, options", [("lora", {}), ("full", {}), ("prompt", {}), ("prefix", {}), ("adapter", {})]
)
def test_the_faster_loss_is_the_plain_one(method, options):
    model, tokenizer = bases.load("pocket-xs")
    model = methods.apply(method, model, **options)
    batch = evaluation.batch_of(model, tokenizer, tasks.load("entities", "train")[:6])
    fast = training.loss_of(model, batch)
    fast.backward()
    gradients = [p.grad.clone() for _, p in training.trainable(model)]
    model.zero_grad()
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    logits = logits[:, -batch["labels"].shape[1] :][:, :-1].flatten(0, 1)
    plain = torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:].flatten())
    plain.backward()
    assert fast.item() == pytest.approx(plain.item(), abs=1e-6)
    for g, (_, p) in zip(gradients, training.trainable(model)):
        assert torch.allclose(g, p.grad, atol=1e-5)


def test_the_faster_loss_holds_under_gradient_checkpointing():
    model, tokenizer = bases.load("pocket-xs")
    batch = evaluation.batch_of(model, tokenizer, tasks.load("facts", "train")[:4])
    plain = training.loss_of(model, batch).item()
    model.gradient_checkpointing_enable()
    model.train()
    loss = training.loss_of(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(plain, abs=1e-6)


def test_the_wobble_of_a_stored_run_is_added_and_nothing_else_changes(monkeypatch, tmp_path):
    from tools import wobble

    (tmp_path / "results").mkdir()
    monkeypatch.setattr(results, "DATA", tmp_path)
    rows = [{"options": "{}", "chosen": True, "seed": 0, "task": "facts", "test_score": 0.9}]
    rows += [{**rows[0], "seed": 1}]
    results.save("instruction-forms", rows, {"steps": 3}, made_with={"processor": "another"})
    moved = {None: 0.9, 1: 0.92, 2: 0.89}

    def runs_of(name, row):
        return lambda noise: {**row, "test_score": moved.get(noise, 0.9)}

    monkeypatch.setattr(wobble, "runs_of", runs_of)
    wanted = [{"options": "{}", "chosen": True, "seed": 0}]
    monkeypatch.setattr(wobble, "LIVE", {"instruction-forms": wanted})
    wobble.measure("instruction-forms")
    there = results.load("instruction-forms")
    assert there["provenance"] == {"processor": "another"} and there["settings"] == {"steps": 3}
    assert there["rows"][0]["wobble"] == {"test_score": 0.02} and there["rows"][1] == rows[1]
    moved[None] = 0.5
    results.save("instruction-forms", rows, {})
    with pytest.raises(SystemExit, match="cannot be repeated"):
        wobble.measure("instruction-forms")
