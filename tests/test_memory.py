"""utils.memory against facts, real tensors (transformers, peft, bitsandbytes on a CPU) and two published T4 runs."""

import contextlib
import io
import os
import subprocess
import sys
import types

import pytest
import torch

from utils import DATA, ROOT, memory

GB, GIB = memory.GB, memory.GIB
V01, V03 = memory.MODELS["mistral-7b-v0.1"], memory.MODELS["mistral-7b-v0.3"]
POCKET = DATA / "pocket" / "s"
ATTENTION = ["q_proj", "v_proj"]


def tiny(hidden=128, layers=2, ffn=320, vocab=512, tied=False, dtype=torch.float32):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=ffn,
        max_position_embeddings=256,
        sliding_window=None,
        tie_word_embeddings=tied,
    )
    return MistralForCausalLM(config).to(dtype)


def lora(model, rank=8, target_modules="all-linear"):
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=rank, target_modules=target_modules, task_type="CAUSAL_LM")
    )


def in_nf4(model, double_quant=True):
    """The blocks' linear layers replaced by bitsandbytes' Linear4bit, quantised on the CPU."""
    import bitsandbytes

    for path, module in list(model.model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            new = bitsandbytes.nn.Linear4bit(
                module.in_features,
                module.out_features,
                bias=False,
                compute_dtype=torch.float32,
                compress_statistics=double_quant,
                quant_type="nf4",
            )
            new.weight = bitsandbytes.nn.Params4bit(
                module.weight.data,
                requires_grad=False,
                quant_type="nf4",
                compress_statistics=double_quant,
            )
            new.support_avx512bf16_for_cpu = (
                False  # its repacked weights would depend on the machine
            )
            parent, name = path.rsplit(".", 1)
            setattr(model.model.get_submodule(parent), name, new.to("cpu"))
    return model.requires_grad_(False)


def step(model, optimizer):
    ids = torch.randint(0, 100, (2, 16), generator=torch.Generator().manual_seed(1))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()


# --- parameters ---------------------------------------------------------------------------------------------------------


def test_mistral_has_the_published_number_of_parameters():
    assert (V01.parameters, V03.parameters) == (7_241_732_096, 7_248_023_552)
    assert V01.block_weights == V03.block_weights == 6_979_321_856


@pytest.mark.parametrize(
    "name, vocab, context",
    [
        ("mistral-7b-v0.1", 32000, 32768),
        ("mistral-7b-v0.3", 32768, 32768),
        ("llama-3-8b", 128256, 8192),
    ],
)
def test_built_in_shapes_equal_transformers_on_the_meta_device(name, vocab, context):
    from transformers import MistralConfig

    config = MistralConfig(vocab_size=vocab, max_position_embeddings=context, sliding_window=None)
    built_in, real = memory.MODELS[name], memory.from_transformers(config, memory.MODELS[name].name)
    assert set(built_in.linears) == set(real.linears)
    assert real == memory.dataclasses.replace(built_in, linears=real.linears)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_and_its_config_give_the_same_shape(tied):
    model = tiny(tied=tied)
    assert memory.model_shape(model) == memory.model_shape(model.config)
    assert memory.model_shape(model).parameters == sum(p.numel() for p in model.parameters())


def test_an_architecture_with_other_names():
    from transformers import GPT2Config

    shape = memory.from_transformers(GPT2Config())
    assert shape.parameters == 124_439_808
    assert {(x.name, x.d_in, x.d_out) for x in shape.linears} == {
        ("c_attn", 768, 2304),
        ("c_proj", 768, 768),
        ("c_fc", 768, 3072),
        ("c_proj", 3072, 768),
    }


def test_lora_on_gpt3_claim_21():
    gpt3 = memory.MODELS["gpt-3-175b"]
    count = {r: memory.lora_parameters(gpt3, r, ATTENTION) for r in (1, 4, 8)}
    assert round(count[4] / 1e6, 2) == 18.87
    assert [round(gpt3.parameters / count[r]) for r in (4, 8, 1)] == [9285, 4643, 37142]
    assert (
        abs(gpt3.block_weights / gpt3.parameters - 1) < 0.01
    )  # the stated total and the shapes belong together


def test_lora_on_mistral():
    assert memory.lora_parameters("mistral-7b-v0.1", 16) == 41_943_040
    assert memory.lora_parameters("mistral-7b-v0.1", 16) // 32 == 1_310_720
    assert round(100 * 41_943_040 / V01.parameters, 4) == 0.5792
    each = {
        n: memory.lora_parameters("mistral-7b-v0.1", 16, n) // 32
        for n in ("q_proj", "k_proj", "up_proj", "down_proj")
    }
    assert each == {"q_proj": 131_072, "k_proj": 81_920, "up_proj": 294_912, "down_proj": 294_912}


@pytest.mark.parametrize(
    "method, settings",
    [
        ("lora", dict(rank=4)),
        ("lora", dict(rank=3, target_modules=ATTENTION)),
        ("ia3", {}),
        ("prefix", dict(virtual_tokens=7)),
        ("prompt", dict(virtual_tokens=7)),
        ("p-tuning", dict(virtual_tokens=7)),
    ],
)
def test_counts_equal_peft(method, settings):
    import peft

    tokens = dict(num_virtual_tokens=settings.get("virtual_tokens"), task_type="CAUSAL_LM")
    model = tiny()
    shape = memory.model_shape(model)
    config = {
        "lora": lambda: peft.LoraConfig(
            r=settings["rank"], target_modules=settings.get("target_modules", "all-linear")
        ),
        "ia3": lambda: peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
        "prefix": lambda: peft.PrefixTuningConfig(**tokens),
        "prompt": lambda: peft.PromptTuningConfig(**tokens),
        "p-tuning": lambda: peft.PromptEncoderConfig(encoder_hidden_size=128, **tokens),
    }[method]()
    trained = peft.get_peft_model(model, config).get_nb_trainable_parameters()[0]
    assert memory.trainable_parameters(shape, method, **settings) == trained


def test_adapter_head_and_full():
    model = tiny()
    d, m = 128, 16
    bottleneck = torch.nn.Sequential(torch.nn.Linear(d, m), torch.nn.ReLU(), torch.nn.Linear(m, d))
    norms = sum(p.numel() for n, p in model.named_parameters() if "norm" in n)
    expected = (
        2 * 2 * sum(p.numel() for p in bottleneck.parameters()) + norms
    )  # two a layer, two layers
    assert memory.trainable_parameters(model, "adapter", bottleneck=m) == expected
    assert memory.trainable_parameters(model, "head") == model.lm_head.weight.numel()
    assert memory.trainable_parameters(model, "full") == model.num_parameters()
    head = memory.plan(
        model, "head"
    )  # the head stays in 16-bit beside a 4-bit base: 2 + 12 bytes a parameter on top
    assert head.gradients + head.optimiser < 14 * 512 * 128 and head.adapter == 0


def test_ia3_on_mistral_and_on_t0():
    assert memory.trainable_parameters("mistral-7b-v0.1", "ia3") == 32 * (1024 + 1024 + 14336)


# --- bytes of weights, files, states --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "double_quant, blocks, base", [(False, 3.926, 4.451), (True, 3.600, 4.125)]
)
def test_nf4_bytes_of_mistral(double_quant, blocks, base):
    assert round(memory.nf4_bytes(V01.block_weights, double_quant, tables=False) / GB, 3) == blocks
    assert round(memory.weight_bytes(V01, "nf4-dq" if double_quant else "nf4") / GB, 3) == base


@pytest.mark.parametrize("double_quant", [False, True])
@pytest.mark.parametrize("d_in, d_out", [(64, 64), (192, 128), (320, 128), (512, 640)])
def test_nf4_bytes_equal_bitsandbytes(d_in, d_out, double_quant):
    import bitsandbytes

    layer = bitsandbytes.nn.Linear4bit(
        d_in, d_out, bias=False, compress_statistics=double_quant, quant_type="nf4"
    ).to("cpu")
    state = layer.weight.quant_state
    tensors = [layer.weight.data, state.absmax, state.code]
    tensors += [state.offset, state.state2.absmax, state.state2.code] if double_quant else []
    assert memory.nf4_bytes(d_in * d_out, double_quant) == sum(
        t.numel() * t.element_size() for t in tensors
    )
    assert memory.measured_state(layer.requires_grad_(False))["weights"] == memory.nf4_bytes(
        d_in * d_out, double_quant
    )


def test_adapter_files(tmp_path):
    assert round(memory.adapter_file_bytes(V01) / 1e6, 1) == 83.9
    assert round(memory.adapter_file_bytes(V01, dtype="float32") / 1e6, 1) == 167.8
    assert memory.adapter_file_bytes(V01, "p-tuning") == 2 * 20 * 4096  # the encoder is not saved
    model = lora(tiny())
    model.save_pretrained(tmp_path)
    header = (tmp_path / "adapter_model.safetensors").stat().st_size - memory.adapter_file_bytes(
        tiny(), dtype="float32", rank=8
    )
    assert 0 < header < 20_000


def test_full_mixed_precision_adam():
    assert [round(memory.full_tuning_bytes(V01.parameters, n) / GB, 1) for n in (16, 18)] == [
        115.9,
        130.4,
    ]
    full = memory.plan(V01, "full", quantisation=None, optimizer="adamw")
    assert full.state == memory.full_tuning_bytes(V01.parameters, 16)


def bases():
    yield "hidden 64", lambda: tiny(64, 2, 192, 256)
    yield "hidden 128, tied", lambda: tiny(128, 3, 320, 512, tied=True)
    yield "hidden 192", lambda: tiny(192, 4, 512, 2048)
    if (POCKET / "model.safetensors").exists():
        from transformers import MistralForCausalLM

        yield "pocket s", lambda: MistralForCausalLM.from_pretrained(POCKET, dtype=torch.float32)


@pytest.mark.parametrize(
    "kind", ["full", "lora", "lora on nf4", "lora on nf4-dq", "lora, 8-bit Adam"]
)
@pytest.mark.parametrize("base", [pytest.param(make, id=name) for name, make in bases()])
def test_planned_state_is_what_real_tensors_hold(base, kind):
    model = base()
    shape = memory.model_shape(model)
    quantisation = kind.split()[-1] if "nf4" in kind else None
    if quantisation:
        model = in_nf4(model, double_quant=quantisation == "nf4-dq")
    method = "full" if kind == "full" else "lora"
    model = lora(model) if method == "lora" else model
    trained = [p for p in model.parameters() if p.requires_grad]
    if "8-bit" in kind:
        import bitsandbytes

        optimizer = bitsandbytes.optim.AdamW8bit(trained, lr=1e-3)
    else:
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
    step(model, optimizer)
    planned = memory.plan(
        shape,
        method,
        rank=8,
        quantisation=quantisation,
        dtype="float32",
        optimizer="adamw_8bit" if "8-bit" in kind else "adamw",
        checkpointing=False,
    )
    measured = memory.measured_state(model, optimizer)
    for (
        part,
        size,
    ) in measured.items():  # only PyTorch's step counters, 4 bytes a tensor, are not planned
        assert getattr(planned, part) == pytest.approx(size, rel=0.001), part
    assert measured["weights"] + measured["adapter"] >= sum(
        p.numel() * p.element_size() for p in model.parameters()
    )


def test_measured_state_counts_a_tied_weight_once_and_works_without_an_optimizer():
    model = tiny(tied=True)
    state = memory.measured_state(model)
    assert state == {
        "weights": 4 * model.num_parameters(),
        "adapter": 0,
        "gradients": 0,
        "optimiser": 0,
    }
    views = torch.nn.ParameterList(
        [torch.nn.Parameter(p.data) for p in (torch.ones(10, 10),) for _ in range(3)]
    )
    assert memory.measured_state(views)["weights"] == 400  # three parameters, one storage


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "method, targets",
    [("full", None), ("lora", "all-linear"), ("lora", ATTENTION), ("prompt", None)],
)
def test_planned_activations_are_what_autograd_keeps(method, targets, dtype):
    """Two models that differ in depth only: the difference is what one layer keeps for the backward pass."""
    batch, length = 2, 64

    def kept(layers):
        model = tiny(layers=layers, dtype=getattr(torch, dtype))
        if method == "lora":
            model = lora(model, target_modules=targets)
        elif method == "prompt":
            model.requires_grad_(False)
        own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage  # held, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            embedded = (
                model.get_input_embeddings()(torch.randint(0, 512, (batch, length)))
                .detach()
                .requires_grad_()
            )
            model(inputs_embeds=embedded, use_cache=False)
        return sum(s.nbytes() for s in storages.values())

    def planned(layers):
        text = (
            length - 20 if method == "prompt" else length
        )  # the 20 virtual tokens are part of the sequence
        return memory.plan(
            tiny(layers=layers),
            method,
            rank=8,
            target_modules=targets or "all-linear",
            quantisation=None,
            batch=batch,
            length=text,
            checkpointing=False,
            dtype=dtype,
        ).activations

    assert planned(3) - planned(2) == pytest.approx(kept(3) - kept(2), rel=0.05)


# --- a published run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, length, loaded, peak",
    [("mistral-7b-v0.3", 1304, 4.52, 5.836), ("llama-3-8b", 1044, 5.594, 7.535)],
)
def test_published_t4_runs_within_five_percent(model, length, loaded, peak):
    """Unsloth prints bytes / 1024**3. No term holds a constant that was fitted to either run; one derivation serves both."""
    planned = memory.published_t4_run(model, length)
    assert planned.trainable == 41_943_040
    assert planned.loaded / GIB == pytest.approx(loaded, rel=0.01)
    assert planned.total / GIB == pytest.approx(peak, rel=0.05)


def test_the_assumed_length_does_not_carry_the_agreement():
    for length in range(1000, 1701, 100):
        assert memory.published_t4_run(length=length).total / GIB == pytest.approx(5.836, rel=0.05)
    assert (
        memory.published_t4_run(length=2048).total / GIB > 1.05 * 5.836
    )  # max_seq_length was never reached


def test_the_parts_add_up_and_grow_as_they_should():
    small, large = memory.plan(batch=1, length=512), memory.plan(batch=4, length=1024)
    for p in (small, large):
        assert p.total == sum(
            getattr(p, n)
            for n in (
                "weights",
                "adapter",
                "gradients",
                "optimiser",
                "rope_tables",
                "activations",
                "logits",
                "buffers",
            )
        )
    assert large.activations == 8 * small.activations and large.logits == 8 * small.logits
    assert large.state == small.state
    totals = [memory.plan(checkpointing=c).total for c in ("unsloth", True, False)]
    assert totals == sorted(totals) and len(set(totals)) == 3
    assert (
        memory.plan(checkpointing="unsloth").host == 2 * 2048 * 2 * 32 * 4096
        and memory.plan(checkpointing=True).host == 0
    )


# --- does it fit ----------------------------------------------------------------------------------------------------------


def test_claim_53_a_t4_holds_the_run_and_not_full_tuning():
    assert memory.plan().fits("T4") and memory.plan().why_not("T4") == ""
    full = memory.plan(method="full", quantisation=None, optimizer="adamw")
    assert not any(full.fits(card) for card in memory.CARDS)
    assert "take a smaller base or a larger card" in memory.plan("gpt-3-175b").why_not("T4")


@pytest.mark.parametrize(
    "settings",
    [
        dict(batch=16),
        dict(batch=4, quantisation=None, checkpointing=True),
        dict(batch=8, checkpointing=False, dtype="bfloat16"),
    ],
)
def test_every_turn_that_is_offered_is_enough_and_the_next_larger_is_not(settings):
    p, room = memory.plan(**settings), memory.usable_bytes("T4")
    sentence = p.why_not("T4")
    assert (
        f"needs {p.total / GIB:.2f} GiB" in sentence
        and f"{(p.total - room) / GIB:.2f} GiB too little" in sentence
    )
    offered = sentence.split("is enough: ")[1].rstrip(".").split("; ")
    assert offered
    for one in offered:
        key, value = one.split(" (")[0].split("=")
        value = value.strip("'") if "'" in value else int(value)
        assert memory.plan(**{**settings, key: value}).fits("T4"), one
        if key in ("batch", "length"):
            assert not memory.plan(**{**settings, key: value + (1 if key == "batch" else 64)}).fits(
                "T4"
            ), one


def test_turns_that_only_together_are_enough():
    p = memory.plan(batch=32, length=4096, quantisation=None, checkpointing=True)
    together = memory.plan(batch=1, length=64, quantisation="nf4-dq").total
    sentence = p.advice(together)
    assert "All of" in sentence and "is enough." in sentence
    assert "is not enough" in p.advice(together - 1)


def test_refusing_before_loading():
    p = memory.plan()
    memory.refuse_if_too_small(p, p.total)
    with pytest.raises(MemoryError, match="GiB too little.*batch=1"):
        memory.refuse_if_too_small(p, p.total - 1)
    assert issubclass(memory.DoesNotFit, MemoryError)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(method="bitfit"),
        dict(quantisation="int4"),
        dict(optimizer="lion"),
        dict(checkpointing="yes"),
        dict(dtype="float64"),
        dict(target_modules=["qproj"]),
        dict(rank=0),
        dict(method="full"),
        dict(model="mistral-8b"),
    ],
)
def test_unknown_choices_are_refused_with_the_choices(wrong):
    with pytest.raises(
        ValueError, match="is not one of|at least 1|4-bit weights cannot be trained"
    ):
        memory.plan(**wrong)


def test_unknown_card():
    with pytest.raises(ValueError, match="T4, L4"):
        memory.plan().fits("RTX")


# --- what a reader sees ---------------------------------------------------------------------------------------------------


def test_the_tables_name_both_units():
    p = memory.published_t4_run()
    assert str(p) == repr(p) and "GB (1e9)" in str(p) and "GiB (2**30)" in str(p)
    assert f"{p.total / GB:.3f}" in str(p) and f"{p.total / GIB:.3f}" in p._repr_html_()


def printed(monkeypatch, *, front_end=None, without_widgets=False, **settings):
    for name in ("JPY_SESSION_NAME", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    if front_end:
        monkeypatch.setenv(front_end, "1")
    if without_widgets:
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert memory.planner_table(**settings) is None
    return out.getvalue()


def test_planner_table_is_the_same_text_with_and_without_widgets(monkeypatch):
    text = printed(monkeypatch)
    assert (
        text
        == printed(monkeypatch)
        == printed(monkeypatch, front_end="COLAB_RELEASE_TAG", without_widgets=True)
    )
    assert (
        "Mistral-7B v0.3 on T4 (14.25 GiB to use)" in text
        and "  16   2048" in text
        and len(text.splitlines()) == 11
    )
    row = next(line for line in text.splitlines() if line.startswith("  16   1024"))
    assert float(row.split()[3]) == round(memory.plan(length=1024, batch=2).total / GIB, 2)
    assert (
        "!" in printed(monkeypatch, quantisation=None) and text.count("!") == 1
    )  # the legend only


def test_planner_table_turns(monkeypatch):
    """With a front end each choice leads to the plan that belongs to it."""
    shown, calls = [], []
    monkeypatch.setitem(
        sys.modules,
        "ipywidgets",
        types.SimpleNamespace(interact=lambda f, **choices: calls.append((f, choices))),
    )
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", shown.append)
    printed(monkeypatch, front_end="JPY_SESSION_NAME")
    ((show, choices),) = calls
    assert choices == {"rank": [8, 16, 64], "length": [512, 1024, 2048], "batch": [1, 2, 4, 8]}
    show(rank=64, length=512, batch=4)
    assert (
        f"{memory.plan(rank=64, length=512, batch=4).total / GIB:.3f}" in shown[0].data
        and "It fits T4." in shown[0].data
    )


def test_importing_and_planning_loads_no_torch():
    """Lesson 13 plans before it imports unsloth, which has to come before transformers and peft."""
    code = (
        "import sys; from utils import memory; str(memory.plan()); memory.planner_table(); memory.refuse_if_too_small(memory.plan(), 10**10); "
        "print('LOADED', [m for m in ('torch', 'transformers', 'peft', 'bitsandbytes', 'ipywidgets') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "JPY_SESSION_NAME": ""},
    )
    assert "LOADED []" in out.stdout or "LOADED ['ipywidgets']" in out.stdout, (
        out.stdout + out.stderr
    )
