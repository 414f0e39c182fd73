"""Lesson 17's variants against peft's, on shapes and seeds that the notebook does not use.

Also the leaderboard with one more method, the smoke run of peft's types, and what the lesson's
prose says of its stored sweeps.
"""

import copy
import itertools
import json
import math

import pytest
import torch
from peft import LoraConfig, MissConfig, OFTConfig, get_peft_model
from peft.optimizers import create_lorafa_optimizer, create_loraplus_optimizer

from tests.from_notebook import load
from tests.small_models import small_mistral
from tools import leaderboard, ledger, peft_types, sweeps
from tools.sweep_plans import lesson_17
from utils import methods, modules, results, training

NAMES = (
    *("LoRALinear", "RsLoRALinear", "DoRALinear", "PiSSALinear", "LoRAFALinear"),
    *("lora_plus_groups", "OFTLinear", "MiSSLinear", "PLACES"),
)
LAYERS = {"target_modules": list(modules.ALL_LINEAR)}


@pytest.fixture(scope="module")
def notebook():
    return dict(zip(NAMES, load("17", *NAMES)))


def made(notebook, name, rank, alpha, block):
    """(how a layer is made by hand, peft's configuration)."""
    lora = dict(r=rank, lora_alpha=alpha, **LAYERS)
    if name == "OFT":
        config = OFTConfig(oft_block_size=block, **LAYERS)
        return lambda linear: notebook["OFTLinear"](linear, block), config
    if name == "MiSS":
        return lambda linear: notebook["MiSSLinear"](linear, rank), MissConfig(r=rank, **LAYERS)
    more = {"rsLoRA": {"use_rslora": True}, "DoRA": {"use_dora": True}}
    more |= {"PiSSA": {"init_lora_weights": "pissa"}}
    cls = {"rsLoRA": "RsLoRALinear", "DoRA": "DoRALinear", "PiSSA": "PiSSALinear"}
    cls = notebook[cls.get(name, "LoRALinear")]
    return lambda linear: cls(linear, rank, alpha), LoraConfig(**lora, **more.get(name, {}))


def both(notebook, name, model, rank=4, alpha=6, block=16, std=0.05):
    """(model by hand, peft's, pairs of parameters), holding the same numbers."""
    make, config = made(notebook, name, rank, alpha, block)
    mine = modules.replace(modules.freeze(copy.deepcopy(model)), make)
    theirs = get_peft_model(copy.deepcopy(model), config)
    pairs = []
    for path, ours in training.trainable(mine):
        layer, _, end = path.rpartition(".")
        other = theirs.get_parameter(f"base_model.model.{layer}.{notebook['PLACES'][end]}")
        with torch.no_grad():
            ours.add_(torch.randn_like(ours), alpha=std)
            other.copy_(ours)
        pairs.append((ours, other))
    return mine, theirs, pairs


@pytest.mark.parametrize(
    "name, rank, alpha, block, kv_heads, seed",
    [
        (name, *shape)
        for name in ("LoRA", "rsLoRA", "DoRA", "PiSSA", "OFT", "MiSS")
        for shape in ((4, 6, 16, 1, 3), (8, 5, 32, 4, 4))
    ],
)
def test_equal_to_peft_in_a_small_mistral(notebook, name, rank, alpha, block, kv_heads, seed):
    model = small_mistral(seed, kv_heads)
    mine, theirs, pairs = both(notebook, name, model, rank, alpha, block)
    ids = torch.randint(0, 97, (3, 11))
    outputs = [m(input_ids=ids).logits for m in (mine, theirs)]
    assert torch.allclose(*outputs, atol=1e-5)
    assert not torch.allclose(outputs[0], model(input_ids=ids).logits, atol=1e-3)
    for out in outputs:
        out.pow(2).mean().backward()
    assert len(pairs) == len(training.trainable(theirs))
    for a, b in pairs:
        assert torch.allclose(a.grad, b.grad, atol=1e-6) and b.grad.abs().max() > 0
    for m in (mine, theirs):
        torch.optim.SGD([p for _, p in training.trainable(m)], lr=0.5).step()
    for a, b in pairs:
        assert torch.allclose(a, b, atol=1e-6)
    layers = {n: m.merged() for n, m in mine.named_modules() if hasattr(m, "merged")}
    merged = theirs.merge_and_unload()
    for path, weight in layers.items():
        assert torch.allclose(weight, merged.get_submodule(path).weight, atol=1e-5), path


@pytest.mark.parametrize("name", ["LoRA", "rsLoRA", "DoRA", "PiSSA", "OFT", "MiSS"])
def test_each_variant_starts_as_the_base(notebook, name):
    model = small_mistral(5)
    mine, theirs, _ = both(notebook, name, model, std=0.0)
    ids = torch.randint(0, 97, (2, 9))
    want = model(input_ids=ids).logits
    for one in (mine, theirs):
        assert torch.allclose(one(input_ids=ids).logits, want, atol=1e-5)


def test_lora_plus_steps_as_the_library_does(notebook):
    mine, theirs, pairs = both(notebook, "LoRA", small_mistral(6))
    ids = torch.randint(0, 97, (2, 9))
    for m in (mine, theirs):
        m(input_ids=ids).logits.pow(2).mean().backward()
    ours = torch.optim.AdamW(notebook["lora_plus_groups"](mine, 1e-3), weight_decay=0.0)
    library = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=16, weight_decay=0.0
    )
    start = [a.detach().clone() for a, _ in pairs]
    ours.step(), library.step()
    steps = set()
    for (a, b), was in zip(pairs, start):
        assert torch.allclose(a, b, atol=1e-6)
        steps.add(round((a - was).abs().max().item(), 4))
    assert steps == {0.001, 0.016}


def test_lora_fa_steps_as_the_library_does(notebook, monkeypatch):
    monkeypatch.setattr("peft.optimizers.lorafa.is_bf16_available", lambda: False)  # exact products
    model = small_mistral(7)
    mine, theirs, pairs = both(notebook, "LoRA", model)
    modules_fa = modules.replace(
        modules.freeze(copy.deepcopy(model)), lambda linear: notebook["LoRAFALinear"](linear, 4, 6)
    )
    del mine
    at = {n: m for n, m in theirs.named_modules() if hasattr(m, "lora_A")}
    layers = {n: m for n, m in modules_fa.named_modules() if isinstance(m, notebook["LoRALinear"])}
    with torch.no_grad():
        for path, layer in layers.items():
            other = at[f"base_model.model.{path}"]
            other.lora_A["default"].weight.copy_(layer.A)
            layer.B.copy_(other.lora_B["default"].weight)
    library = create_lorafa_optimizer(theirs, r=4, lora_alpha=6, lr=1e-3)
    eps = 1e-6 / math.sqrt(1 - 0.999)  # peft adds its 1e-6 before the bias is corrected
    ours = torch.optim.AdamW(
        [p for _, p in training.trainable(modules_fa)], lr=1e-3, eps=eps, weight_decay=0.0
    )
    ids = torch.randint(0, 97, (2, 9))
    for m in (modules_fa, theirs):
        m(input_ids=ids).logits.pow(2).mean().backward()
    ours.step(), library.step()
    for path, layer in layers.items():
        other = at[f"base_model.model.{path}"]
        assert torch.allclose(layer.B, other.lora_B["default"].weight, atol=1e-6)
        assert torch.equal(layer.A, other.lora_A["default"].weight)


def test_the_race_trains_what_the_lesson_shows(notebook):
    """The methods of the sweep are the variants by hand: same numbers, groups and hook."""
    plus = methods.apply("lora_plus", small_mistral(8), rank=4)
    groups = plus.optimizer_groups(1e-3)
    assert [g["lr"] for g in groups] == [1e-3, 16e-3]
    assert {id(p) for g in groups for p in g["params"]} == {
        id(p) for _, p in training.trainable(plus)
    }
    fa = methods.apply("lora_fa", small_mistral(8), rank=4)
    assert all("lora_B" in n for n, _ in training.trainable(fa))
    layer = next(m for m in fa.modules() if hasattr(m, "lora_A"))
    ours = notebook["LoRAFALinear"](copy.deepcopy(layer.get_base_layer()), 4, 8)
    ours.A.data.copy_(layer.lora_A["default"].weight)
    assert layer.scaling["default"] == ours.scale


def test_a_wrong_variant_would_be_seen(notebook):
    """The comparison can fail: rsLoRA's scale in plain LoRA's place gives other outputs."""
    linear, x = torch.nn.Linear(8, 6, bias=False), torch.randn(3, 8)
    a, b = notebook["LoRALinear"](linear, 4, 8), notebook["RsLoRALinear"](linear, 4, 8)
    torch.nn.init.normal_(a.B)
    b.load_state_dict(a.state_dict())
    assert not torch.allclose(a(x), b(x), atol=1e-3)


# ---- the leaderboard takes one more method ----


def test_a_reader_can_race_one_more_method(monkeypatch):
    """As CONTRIBUTING says: one function in METHODS, one line in ARMS; scored as all others."""

    def norms_only(model):
        for name, p in model.named_parameters():
            p.requires_grad_("norm" in name)
        return model

    monkeypatch.setitem(methods.METHODS, "norms_only", norms_only)
    monkeypatch.setitem(leaderboard.ARMS, "norms_only", ("norms_only", {}, (1e-3, 3e-3, 1e-2)))
    method, options, rates = leaderboard.ARMS["norms_only"]
    row = leaderboard.run(
        base="pocket-xs",
        task="facts",
        method=method,
        options=options,
        count=16,
        lr=rates[0],
        seed=0,
        shuffled=False,
        steps=2,
        batch_size=4,
    )
    assert row["method"] == "norms_only" and row["trainable"] > 0 and row["stored_bytes"] > 0


def test_a_reader_can_race_one_more_method_beside_the_variants(monkeypatch, tmp_path):
    """As CONTRIBUTING says: a function in METHODS and a line in GRIDS; at both learning rates."""

    def norms_only(model, rank=8):
        for name, p in model.named_parameters():
            p.requires_grad_("norm" in name)
        return model

    def fake(task, method, options, lr, seed, more, **rest):
        model = methods.apply(method, small_mistral(1), **options)
        score = 1.0 if lr == {"lora": 3e-3, "norms_only": 1e-2}[method] else 0.2
        row = {"task": task, "method": method, "options": json.dumps(options), "lr": lr}
        row |= {"seed": seed, "validation_score": score, "validation_loss": 1.0, **rest}
        return row | {"trainable": training.count(model)[0]}

    monkeypatch.setitem(methods.METHODS, "norms_only", norms_only)
    monkeypatch.setitem(lesson_17.GRIDS, "norms_only", {8: lesson_17.MIDDLE})
    assert [a for a in lesson_17.arms("facts", 32) if a[1] == "norms_only"] == []
    arms = [a for a in lesson_17.arms("facts", 8) if a[1] in ("lora", "norms_only")]
    plan = dict(lesson_17.RACE, noises=(), run=fake, arms=arms)
    monkeypatch.setitem(sweeps.SWEEPS, "race-of-a-test", plan)
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    saved = {}
    monkeypatch.setattr(results, "save", lambda name, rows, settings: saved.update(rows=rows))
    sweeps.sweep("race-of-a-test", engine="here")
    mine = results.select(saved["rows"], method="norms_only")
    assert {r["lr"] for r in mine if r["common"]} == {3e-3}
    assert {r["lr"] for r in mine if r["chosen"]} == {1e-2}
    assert len(results.select(mine, chosen=True)) == 3 and mine[0]["trainable"] > 0


def test_adalora_trains_as_peft_asks():
    """Its hooks add the gradient of peft's penalty, and what is left has the wanted rank."""
    model = methods.apply("adalora", small_mistral(10), rank=4, steps=10)
    ids = torch.randint(0, 97, (2, 9))
    for name, p in model.named_parameters():
        if "lora_E" in name:
            torch.nn.init.normal_(p, std=0.1)
    parts = [p for _, p in training.trainable(model)]
    logits = model(input_ids=ids).logits[:, :-1].flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    ours = [p.grad.clone() for p in parts]
    hooks = [p._backward_hooks for p in parts]
    for p in parts:
        p.grad, p._backward_hooks = None, None
    model(input_ids=ids, labels=ids).loss.backward()  # peft's loss, with its penalty
    assert all(torch.allclose(a, p.grad, atol=1e-7) for a, p in zip(ours, parts))
    for p, hook in zip(parts, hooks):
        p._backward_hooks = hook
    optimizer = torch.optim.AdamW(parts, lr=1e-2)
    for _ in range(10):
        model(input_ids=ids).logits.pow(2).mean().backward()
        optimizer.step(), optimizer.zero_grad()
    left = [(p != 0).sum().item() for n, p in model.named_parameters() if "lora_E" in n]
    assert sum(left) == 4 * len(left) and max(left) <= 6


@pytest.mark.parametrize("arm", leaderboard.VARIANTS)
def test_every_variant_can_be_raced(arm):
    method, options, rates = leaderboard.VARIANTS[arm]
    assert method in methods.METHODS and len(rates) == 3 and arm not in leaderboard.ARMS
    model = methods.apply(method, small_mistral(9), **options)
    assert training.count(model)[0] > 0


# ---- the smoke run and the sweeps ----


def test_the_smoke_run_knows_the_installed_types():
    from peft import PeftType

    assert set(peft_types.KNOWN) == {t.value for t in PeftType}
    stored = {r["type"] for r in results.load("peft-types")["rows"]}
    assert stored == set(peft_types.KNOWN)


def test_a_type_is_built_trained_saved_loaded_and_merged():
    row = peft_types.smoke("MISS")
    assert not row["failed"] and row["merges"] and row["learns"] and row["converted_gap"] < 0.01


def test_a_type_that_fails_says_where_and_why(monkeypatch):
    monkeypatch.setitem(peft_types.KNOWN, "MISS", ("adds to weights", "", {"r": 0}))
    row = peft_types.smoke("MISS")
    assert row["failed"] == "build" and "positive integer" in row["reason"]


def test_the_design_of_the_knobs_is_balanced():
    assert len(set(lesson_17.L18)) == 18
    for a, b in itertools.combinations(range(6), 2):
        met = [(levels[a], levels[b]) for levels in lesson_17.L18]
        assert sorted(met) == sorted(2 * [(x, y) for x in "012" for y in "012"])


def test_a_common_rate_is_run_with_all_seeds(monkeypatch, tmp_path):
    """Each later arm of a race is also run at the rate that the first one chose, and says so."""
    best = {"lora": 3e-3, "dora": 1e-2}

    def fake(task, method, options, lr, seed, **rest):
        score = 1.0 if lr == best[method] else 0.2
        kept = {"validation_score": score, "validation_loss": 1.0, "lr": lr, "seed": seed}
        return {"task": task, "method": method, "options": json.dumps(options), **kept, **rest}

    plan = dict(
        seeds=(0, 1, 2),
        steps=1,
        noises=(),
        rates=lambda method, options: (1e-3, 3e-3, 1e-2),
        common=lambda task, options: (task, "lora", json.dumps(options)),
        run=fake,
        arms=[("facts", "lora", {}), ("facts", "dora", {})],
    )
    monkeypatch.setitem(sweeps.SWEEPS, "race-of-a-test", plan)
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    saved = {}
    monkeypatch.setattr(results, "save", lambda name, rows, settings: saved.update(rows=rows))
    sweeps.sweep("race-of-a-test", engine="here")
    dora = results.select(saved["rows"], method="dora")
    assert {r["seed"] for r in dora if r["common"]} == {0, 1, 2}
    assert {r["lr"] for r in dora if r["common"]} == {3e-3}
    assert {r["lr"] for r in dora if r["chosen"]} == {1e-2}
    assert all(r["common"] == r["chosen"] for r in results.select(saved["rows"], method="lora"))


# ---- what is stored ----


@pytest.mark.parametrize("name", ["beyond-lora", "beyond-lora-32", "beyond-kept", "beyond-more"])
def test_a_stored_sweep_is_whole(name):
    """All arms of the plan are there, each with three seeds at its own rate and a wobble."""
    stored = results.load(name)
    assert stored["settings"]["arms_done"] == stored["settings"]["arms"]
    for task, method, options in sweeps.SWEEPS[name]["arms"]:
        rows = results.select(stored["rows"], task=task, method=method, options=json.dumps(options))
        best = results.select(rows, chosen=True)
        assert {r["seed"] for r in best} == {0, 1, 2} and len({r["lr"] for r in best}) == 1
        assert best[0]["wobble"]["test_score"] >= 0 and best[0]["wobble_of"] >= 1
        if "common" in sweeps.SWEEPS[name]:
            assert {r["seed"] for r in rows if r["common"]} == {0, 1, 2}, (task, method)


def test_what_is_kept_is_counted_on_countries_that_no_remedy_saw():
    shown, asked = lesson_17.world_facts(0), lesson_17.world_facts(1)
    assert {r["country"] for r in shown}.isdisjoint(r["country"] for r in asked)
    rows = results.load("beyond-kept")["rows"]
    assert all("facts_unseen" in r for r in rows)
    assert all(("damped_unseen" in r) == (r["method"] in ("lora", "replay")) for r in rows)
