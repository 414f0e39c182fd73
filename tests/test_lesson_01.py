"""Lesson 01's loss, taken out of the notebook, against the library's; its forms of prompt against the sweep's; its stored runs."""

import ast
import json

import nbformat
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from tests.from_notebook import load
from tools.sweep_plans import lesson_01 as plan
from utils import ROOT, bases, evaluation, results, tasks, training


@pytest.fixture(scope="module")
def answer_loss():
    return load("01", "answer_loss")


def small(kind, kv_heads=2):
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=97,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=64,
                resid_pdrop=0,
                embd_pdrop=0,
                attn_pdrop=0,
            )
        )
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=97,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=kv_heads,
        )
    )


def random_batch(batch, length, seed):
    """Ids, attention mask and labels: each row with its own length and its own length of prompt, at least one token learned."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 97, (batch, length), generator=rng)
    mask, labels = torch.ones_like(ids), ids.clone()
    for i in range(batch):
        end = length - int(torch.randint(0, length // 2, (1,), generator=rng)) if i else length
        mask[i, end:], labels[i, end:] = 0, -100
        labels[i, : int(torch.randint(0, end - 1, (1,), generator=rng))] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize(
    "kind, batch, length, kv_heads, seed",
    [
        ("mistral", 1, 3, 1, 1),
        ("mistral", 1, 17, 4, 2),
        ("mistral", 5, 13, 2, 3),
        ("mistral", 3, 31, 1, 4),
        ("gpt2", 4, 9, 2, 5),
    ],
)
def test_loss_gradients_and_a_step_equal_the_librarys(
    answer_loss, kind, batch, length, kv_heads, seed
):
    torch.manual_seed(seed)
    mine = small(kind, kv_heads).train()
    theirs = small(kind, kv_heads).train()
    theirs.load_state_dict(mine.state_dict())
    inputs = random_batch(batch, length, seed)
    losses = [
        answer_loss(
            mine(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits,
            inputs["labels"],
        ),
        theirs(**inputs).loss,
    ]
    assert torch.allclose(*losses, atol=1e-6)
    assert torch.allclose(losses[0], training.loss_of(mine, inputs), atol=1e-6)
    for model, loss in zip((mine, theirs), losses):
        loss.backward()
        torch.optim.SGD(model.parameters(), lr=0.5).step()
    for a, b in zip(mine.parameters(), theirs.parameters()):
        assert torch.allclose(a.grad, b.grad, atol=1e-6) and torch.allclose(a, b, atol=1e-6)


def test_padding_and_prompt_do_not_change_the_loss(answer_loss):
    """What is masked may hold anything; two rows of unlike length count by their tokens, not by half each."""
    torch.manual_seed(0)
    logits, labels = (
        torch.randn(2, 6, 11),
        torch.tensor([[-100, -100, 3, 4, 5, 6], [-100, 7, -100, -100, -100, -100]]),
    )
    whole = answer_loss(logits, labels)
    changed = logits.clone()
    changed[1, 1:] += 100.0
    changed[0, 5] -= 50.0
    assert torch.allclose(whole, answer_loss(changed, labels))
    one, two = (answer_loss(logits[i : i + 1], labels[i : i + 1]) for i in (0, 1))
    assert torch.allclose(whole, (4 * one + two) / 5) and not torch.allclose(whole, (one + two) / 2)


def test_a_missing_shift_would_be_seen(answer_loss):
    model, inputs = small("mistral"), random_batch(2, 9, 0)
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    wrong = torch.nn.functional.cross_entropy(logits.flatten(0, 1), inputs["labels"].flatten())
    assert not torch.allclose(answer_loss(logits, inputs["labels"]), wrong, atol=1e-4)
    twice = model(**{**inputs, "labels": inputs["labels"].roll(-1, 1)}).loss
    assert not torch.allclose(answer_loss(logits, inputs["labels"]), twice, atol=1e-4)


def notebook_value(name, **space):
    """The value of a top-level assignment in the notebook."""
    (path,) = (ROOT / "notebooks").glob("01_*.ipynb")
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
                    return eval(compile(ast.Expression(node.value), path.name, "eval"), space)
    raise LookupError(name)


def test_the_notebook_asks_as_the_sweep_did():
    wordings, forms = notebook_value("wordings"), notebook_value("forms")
    for task, wording in wordings.items():
        row = tasks.load(task, "test")[7]
        assert wording(row) == plan.FORMS[task][forms[task]][0](row)
    draw = load("01", "draw")
    assert draw("entities", 10, 2) == plan.subset(tasks.load("entities", "train"), 10, 2)


@pytest.mark.parametrize(
    "text, wanted",
    [
        (
            " Ada Weber is a person, Silver Labs is an organisation, Arden is a place. In this note",
            "person: Ada Weber; organisation: Silver Labs; place: Arden",
        ),
        (" Arden is a place.", "place: Arden"),
        (" Ada Weber", ""),
        ("", ""),
        (" the person is a place", ""),
    ],
)
def test_entities_are_read_out_of_words(text, wanted):
    for read in (load("01", "entities_read"), plan.entities_read):
        assert read(text).strip() == wanted


def test_metrics_agree_with_hand_counts():
    assert evaluation.accuracy(
        [" positive", "negative ", " x"], [" positive", " negative", " negative"]
    ) == pytest.approx(2 / 3)
    assert (
        evaluation.chrf([" gafo vefo"], [" gafo vefo"]) == pytest.approx(1.0)
        and evaluation.chrf([" zzz"], [" gafo vefo"]) == 0.0
    )
    said, right = (
        ["abcd"],
        ["abce"],
    )  # pieces of 1 to 4 characters: 3 of 4, 2 of 3, 1 of 2, 0 of 1 agree; precision = recall
    assert evaluation.chrf(said, right) == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["rows-sentiment", "rows-entities", "rows-translation", "rates-translation", "starts"]
)
def test_every_arm_had_the_same_search_and_three_seeds(name):
    rows, made = results.load(name)["rows"], plan.SWEEPS[name]
    for task, method, options in made["arms"]:
        arm = results.select(rows, task=task, method=method, options=json.dumps(options))
        assert {r["lr"] for r in arm} >= set(made["rates"])  # the grid may have grown
        assert len({r["lr"] for r in arm if r["chosen"]}) == 1
        assert {r["seed"] for r in arm if r["chosen"]} == set(plan.SEEDS)


def test_the_wording_was_chosen_on_validation_rows():
    rows, forms = results.load("prompts")["rows"], notebook_value("forms")
    for task, form in forms.items():
        runs = [
            (json.loads(r["options"]), r["validation_score"])
            for r in results.select(rows, task=task)
        ]
        found = {options["form"]: score for options, score in runs if not options["shots"]}
        assert max(found, key=found.get) == form and set(found) == set(plan.FORMS[task])


def test_from_scratch_keeps_the_shape_and_nothing_else():
    base = bases.load("pocket-xs")[0]
    torch.manual_seed(0)
    fresh = plan.from_scratch(base)
    assert {n: p.shape for n, p in fresh.named_parameters()} == {
        n: p.shape for n, p in base.named_parameters()
    }
    a, b = (
        base.model.layers[0].self_attn.q_proj.weight,
        fresh.model.layers[0].self_attn.q_proj.weight,
    )
    assert not torch.allclose(a, b) and all(p.requires_grad for p in fresh.parameters())
