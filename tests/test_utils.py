"""bases, tasks, training, evaluation, results, tables: what they promise, and what they say when the input is bad."""

import copy
import json
import pathlib

import pytest
import torch

from utils import bases, evaluation, methods, results, tasks, training
from utils.tables import Table


@pytest.fixture(scope="module")
def base():
    return bases.load("pocket-xs")


@pytest.fixture
def model(base):
    return copy.deepcopy(base[0])


ROWS = [
    {"prompt": "The capital of France is", "answer": " Paris"},
    {"prompt": "The capital of Italy is", "answer": " Rome"},
]


# --- which base ------------------------------------------------------------------------------------------------------
def test_unknown_base_names_those_there_are(monkeypatch):
    with pytest.raises(ValueError, match="no base 'gpt-5'.*pocket-s.*smollm.*mistral"):
        bases.chosen("gpt-5")
    monkeypatch.setenv("PEFT_COURSE_BASE", "pocket-m")
    assert bases.chosen().name == "pocket-m"


@pytest.mark.parametrize(
    "capability, wanted",
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_a_t4_is_never_asked_for_bfloat16(capability, wanted):
    assert bases.dtype("cuda", capability) is wanted
    assert bases.dtype("cpu") is torch.float32


def test_hub_base_without_a_network_says_what_to_do(monkeypatch):
    monkeypatch.setattr(bases, "smollm_gguf", lambda: None)
    with pytest.raises(
        OSError,
        match=r"smollm \(HuggingFaceTB/SmolLM2-135M-Instruct\) could not be fetched[\s\S]*BASE = \"pocket\"",
    ):
        bases.load("smollm")


def test_missing_weights_name_the_folder_and_the_repair(monkeypatch, tmp_path):
    monkeypatch.setitem(
        bases.BASES, "pocket-s", bases.Base("pocket-s", bases.DATA / "pocket" / "none")
    )
    with pytest.raises(FileNotFoundError, match="data/pocket/none.*make bases"):
        bases.load("pocket-s")


# --- rows ------------------------------------------------------------------------------------------------------------
def test_missing_field_and_empty_answer_are_named_by_row():
    task = tasks.TASKS["sentiment"]
    good = {"text": "Fine.", "label": "positive"}
    with pytest.raises(ValueError, match="row 2: the field 'label' is missing"):
        tasks.apply_template(task, [good, {"text": "Fine."}])
    with pytest.raises(ValueError, match="row 1: the answer is empty"):
        tasks.apply_template(task, [{"text": "Fine.", "label": "  "}])


def test_bad_json_is_named_by_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    with pytest.raises(ValueError, match="rows.jsonl, line 2: not valid JSON"):
        tasks.read_rows(path)
    path.write_text("[1]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: a list where a JSON object belongs"):
        tasks.read_rows(path)


def test_unknown_task_and_split():
    with pytest.raises(ValueError, match="no task 'sums'; there are sentiment"):
        tasks.load("sums")
    with pytest.raises(ValueError, match="no split 'dev'; it has test, train, validation"):
        tasks.load("sentiment", "dev")


# --- training --------------------------------------------------------------------------------------------------------
def test_row_longer_than_the_context_and_empty_answer(base, model):
    long = [ROWS[0], {"prompt": "word " * 600, "answer": " x"}]
    with pytest.raises(ValueError, match="Row 2 has 6.. tokens, more than the context of 512"):
        training.train(model, base[1], long, steps=1)
    with pytest.raises(ValueError, match="Row 1: the answer is empty"):
        training.train(model, base[1], [{"prompt": "x", "answer": " "}], steps=1)
    with pytest.raises(ValueError, match="No rows"):
        training.train(model, base[1], [], steps=1)


def test_nothing_trainable_is_said(base, model):
    with pytest.raises(ValueError, match="is_trainable=True"):
        training.train(model.requires_grad_(False), base[1], ROWS, steps=1)


def test_loss_is_that_of_transformers(base, model):
    batch = evaluation.collate(
        [evaluation.encode_pair(base[1], r["prompt"], r["answer"]) for r in ROWS],
        base[1].pad_token_id,
    )
    assert training.loss_of(model, batch).item() == pytest.approx(
        model(**batch).loss.item(), abs=1e-6
    )


def test_training_repeats_and_resumes_to_the_same_weights(base, tmp_path):
    """Stopped after step 6 and called again, a run ends with the weights of an unbroken one, bit for bit."""
    rows = tasks.load("facts", "train", 40)

    def go(steps, checkpoint=None):
        model = methods.apply("lora", copy.deepcopy(base[0]), rank=4)
        history = training.train(
            model,
            base[1],
            rows,
            steps=steps,
            lr=1e-2,
            batch_size=4,
            checkpoint=checkpoint,
            checkpoint_every=3,
        )
        return torch.cat([p.detach().flatten() for _, p in training.trainable(model)]), history

    class Stop(Exception):
        pass

    def stopper(model):
        raise Stop

    whole, history = go(12)
    assert torch.equal(whole, go(12)[0])
    model = methods.apply("lora", copy.deepcopy(base[0]), rank=4)
    with pytest.raises(Stop):
        training.train(
            model,
            base[1],
            rows,
            steps=12,
            lr=1e-2,
            batch_size=4,
            checkpoint=tmp_path,
            checkpoint_every=3,
            evaluate=stopper,
            evaluate_every=8,
        )
    resumed, second = go(12, tmp_path)
    assert second.start == 6 and torch.equal(whole, resumed) and second.loss == history.loss


def test_damaged_and_foreign_checkpoints_are_refused(base, model, tmp_path):
    tuned = methods.apply("lora", model, rank=4)
    training.train(tuned, base[1], ROWS, steps=2, batch_size=2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="belongs to another model or adapter"):
        training.train(
            methods.apply("lora", copy.deepcopy(base[0]), rank=2),
            base[1],
            ROWS,
            steps=2,
            batch_size=2,
            checkpoint=tmp_path,
        )
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:100])
    with pytest.raises(OSError, match="cannot be read"):
        training.train(
            methods.apply("lora", copy.deepcopy(base[0]), rank=4),
            base[1],
            ROWS,
            steps=2,
            batch_size=2,
            checkpoint=tmp_path,
        )


def test_batches_are_shuffled_passes():
    order = list(training.batches(10, 4, 5, seed=1))
    assert sorted(sum(order, [])[:10]) == list(range(10)) and order == list(
        training.batches(10, 4, 5, seed=1)
    )
    assert order != list(training.batches(10, 4, 5, seed=2))


# --- evaluation ------------------------------------------------------------------------------------------------------
def test_exact_match_is_what_greedy_generation_gives(base):
    """The one-pass score equals generating and comparing, on rows of which some are right and some wrong."""
    model, tokenizer = base
    rows = [{**r, "answer": r["answer"] + "."} for r in evaluation.facts()[:60]]
    rows[0] = {**rows[0], "answer": " Nowhere."}
    generated = evaluation.answers(model, tokenizer, [r["prompt"] for r in rows], max_new_tokens=12)
    by_text = [text.startswith(r["answer"]) for text, r in zip(generated, rows)]
    assert (
        by_text == evaluation.correct_rows(model, tokenizer, rows, eos=False)
        and not by_text[0]
        and any(by_text)
    )


def test_virtual_tokens_do_not_shift_the_score(base):
    """A prefix model's score does not depend on padding, and its loss is the one of the text alone."""
    model = methods.apply("prompt", copy.deepcopy(base[0]), tokens=5)
    one = [
        evaluation.correct_rows(model, base[1], [r], eos=False)[0] for r in evaluation.facts()[:20]
    ]
    assert one == evaluation.correct_rows(model, base[1], evaluation.facts()[:20], eos=False)


def test_evaluation_leaves_the_mode_alone(base, model):
    model.train()
    evaluation.facts_kept(model, base[1], evaluation.facts()[:4])
    assert model.training


def test_entity_f1():
    assert evaluation.entity_f1(["person: A; place: B"], ["person: A; place: C"]) == pytest.approx(
        0.5
    )
    assert evaluation.entity_f1([""], ["person: A"]) == 0


# --- results and tables ----------------------------------------------------------------------------------------------
def test_results_hold_their_provenance(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "DATA", tmp_path)
    path = results.save("x", [{"a": 1}, {"a": 3}], {"steps": 2})
    stored = json.loads(pathlib.Path(path).read_text())
    assert (
        stored["rows"] == [{"a": 1}, {"a": 3}]
        and stored["provenance"]["torch"]
        and stored["settings"] == {"steps": 2}
    )
    with pytest.raises(FileNotFoundError, match="y.json is missing.*There are: x"):
        results.load("y")


def test_paired_difference_by_hand():
    a, b = (
        [{"seed": s, "v": v} for s, v in enumerate(values)]
        for values in ((3.0, 5.0, 4.0), (2.0, 3.0, 4.0))
    )
    gap, half = results.paired_difference(a, b, "v")
    assert gap == pytest.approx(1.0) and half == pytest.approx(4.30 * 1.0 / 3**0.5, rel=1e-3)
    with pytest.raises(ValueError, match="two pairs"):
        results.paired_difference(a[:1], b[:1], "v")


def test_table_is_text_and_html():
    table = Table(["name", "value"], [("a<b", 0.5), ("c", 1200)])
    assert (
        repr(table).splitlines() == ["name  value", "a<b   0.500", "c     1,200"]
        and "a&lt;b" in table._repr_html_()
    )
    html = table._repr_html_()
    assert html.startswith('<table><thead><tr><th scope="col"') and html.count("<tbody>") == 1
    assert html.count("scope=") == 2  # a screen reader says the column's name with each cell
    with pytest.raises(ValueError, match="needs 2 values"):
        Table(["a", "b"], [(1,)])


def test_unknown_method(base):
    with pytest.raises(ValueError, match="no method 'magic'; there are none, full"):
        methods.apply("magic", base[0])


def test_another_base_turns_a_lessons_settings_into_its_own(monkeypatch):
    assert bases.BASES["pocket-s"].budget(80, 16, 3e-3, 8) == (80, 16, 3e-3, 8)
    steps, batch, lr, warmup = bases.BASES["smollm"].budget(80, 16, 3e-3, 8)
    assert (steps, batch, warmup) == (20, 8, 2) and lr == pytest.approx(9e-4)
    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    model, tokenizer = bases.load("pocket-xs")
    rows = tasks.load("facts", "train", 20)
    history = training.train(
        methods.apply("lora", model, rank=1), tokenizer, rows, steps=8, progress=False
    )
    assert len(history.loss) == 2


def test_a_large_base_scores_fewer_held_out_rows_always_the_same(monkeypatch):
    every = evaluation.facts()
    assert len(every) == 384 and bases.BASES["pocket-s"].affordable(every) is every
    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    some, count = evaluation.facts(), bases.BASES["smollm"].held_out
    assert (
        len(some) == count
        and some == evaluation.facts()
        and [r for r in every if r in some] == some
    )
    assert len({r["prompt"].split()[1] for r in some}) > 1, (
        "they should not all ask the same relation"
    )
    assert len(evaluation.world_texts(50)) == count // 4
    assert len(tasks.load("sentiment", "test")) == count < len(tasks.load("sentiment", "train"))


def test_a_row_begins_as_the_tokenizer_begins_a_text(base):
    _, tokenizer = base
    ids, labels = evaluation.encode_pair(tokenizer, "The capital of France is", " Paris")
    assert (
        ids[0] == tokenizer.bos_token_id
        and ids.count(tokenizer.bos_token_id) == 1
        and ids[-1] == labels[-1] == tokenizer.eos_token_id
    )
    prompt, answer = (
        tokenizer("The capital of France is")["input_ids"],
        tokenizer(" Paris", add_special_tokens=False)["input_ids"],
    )
    assert ids == [*prompt, *answer, tokenizer.eos_token_id]


def test_expect_fails_on_the_pocket_base_and_only_speaks_on_another(monkeypatch, capsys):
    monkeypatch.delenv("PEFT_COURSE_BASE", raising=False)
    results.expect(True, "two is even")
    if bases.device().type == "cpu":
        with pytest.raises(AssertionError, match="two is odd"):
            results.expect(False, "two is odd")
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    results.expect(False, "two is odd")
    assert capsys.readouterr().out == "Not so on smollm: two is odd.\n"
