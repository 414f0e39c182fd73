"""utils.memory against facts, real tensors (transformers, peft, bitsandbytes on a CPU) and two published T4 runs."""

import contextlib
import dataclasses
import io
import os
import re
import subprocess
import sys
import types
import weakref

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


def of_family(family, layers):
    """A tiny model of one of memory.KNOWN_LAYERS; qwen3's heads are wider than its hidden size."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, family.capitalize() + "Config")(
        vocab_size=512,
        hidden_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=320,
        max_position_embeddings=256,
        **({"head_dim": 64} if family == "qwen3" else {}),
    )
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "family, method, targets",
    [
        ("mistral", "full", None),
        ("mistral", "lora", "all-linear"),
        ("mistral", "lora", ATTENTION),
        ("mistral", "prompt", None),
        *[(f, m, "all-linear") for f in memory.KNOWN_LAYERS[1:] for m in ("full", "lora")],
    ],
)
def test_planned_activations_are_what_autograd_keeps(family, method, targets, dtype):
    """Two models that differ in depth only: the difference is what one layer keeps for the backward pass."""
    batch, length = 2, 64

    def kept(layers):
        model = of_family(family, layers).to(getattr(torch, dtype))
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
            of_family(family, layers),
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


def test_on_a_cpu_a_saved_4_bit_weight_is_there_twice_and_unsloths_rope_tables_once():
    """What the run at the true size showed; elsewhere nothing changes."""
    cpu = dict(dtype="float32", checkpointing=False, optimizer="adamw", batch=1, length=99)
    before = memory.plan(**cpu)
    now = memory.plan(**cpu, stored="float16", unsloth=True)
    assert now.buffers - before.buffers == 4096 * 14336 * 2
    assert (before.rope_tables, now.rope_tables) == (0, 2 * 32768 * 128 * 4)
    card = dict(dtype="float16", checkpointing="unsloth")
    same = memory.plan(**card, stored="float16", unsloth=True)
    assert same.total == memory.plan(**card).total
    assert now.on(None).total == now.total
    with pytest.raises(ValueError, match="stored 'int8' is not one of"):
        memory.plan(stored="int8")


def test_a_4_bit_weight_saved_from_16_bits_comes_in_them_and_is_cast():
    """The count behind it: bitsandbytes dequantises into the type that it was quantised from."""
    import bitsandbytes.functional as bnb

    packed, state = bnb.quantize_4bit(
        torch.randn(64, 128).half(), compress_statistics=True, quant_type="nf4"
    )
    assert bnb.dequantize_4bit(packed, state).dtype == torch.float16


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
    huge = memory._llama_like("Llama-2 70B", 32000, 4096, d=8192, L=80, ffn=28672)
    assert "take a smaller base or a larger card" in memory.plan(huge).why_not("T4")


@pytest.mark.parametrize(
    "settings",
    [
        dict(batch=16, loss="unsloth-2024"),
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
    options = dict(loss="full")
    p = memory.plan(batch=32, length=4096, quantisation=None, checkpointing=True, **options)
    together = memory.plan(batch=1, length=64, quantisation="nf4-dq", **options).total
    sentence = p.advice(together)
    assert "All of" in sentence and "is enough." in sentence
    assert "is not enough" in p.advice(together - 1)


def test_refusing_before_loading():
    p = memory.plan(loss="unsloth-2024")
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
        dict(batch=0),
        dict(length=0),
        dict(length=-5),
        dict(batch=2.5),
        dict(batch=True),
        dict(virtual_tokens=0),
        dict(loss="liger"),
        dict(shards=0),
        dict(zero=4),
    ],
)
def test_unknown_choices_are_refused_with_the_choices(wrong):
    with pytest.raises(
        ValueError, match="is not one of|at least 1|4-bit weights cannot be trained"
    ):
        memory.plan(**wrong)


def refused_configs():
    import transformers as t

    small = dict(
        vocab_size=512,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
    )
    yield "mixtral", lambda: t.MixtralConfig(**small), "mixture of experts"
    yield "qwen3_moe", lambda: t.Qwen3MoeConfig(**small, num_experts=4), "mixture of experts"
    yield "mamba", lambda: t.MambaConfig(hidden_size=64, num_hidden_layers=2), "has no"
    yield "t5", lambda: t.T5Config(), "causal LM|has no"
    yield "vit", lambda: t.ViTConfig(), "has no"


@pytest.mark.parametrize(
    "kind, config, why", [pytest.param(*case, id=case[0]) for case in refused_configs()]
)
def test_models_that_would_be_counted_wrong_are_refused_by_name(kind, config, why):
    with pytest.raises(ValueError, match=f"cannot count a '{kind}' model: .*({why})"):
        memory.plan(config())


def test_fused_experts_are_refused_by_the_name_of_the_parameter(monkeypatch):
    """Also where the config does not say in a known way that there are experts."""
    monkeypatch.setattr(memory, "EXPERTS", ())
    _, config, _ = next(refused_configs())
    with pytest.raises(ValueError, match=r"experts\.\w+ \[8 x \d+ x \d+\] is neither a linear"):
        memory.model_shape(config())


def test_layers_that_are_not_known_are_counted_but_not_planned():
    from transformers import GPT2Config

    shape = memory.model_shape(GPT2Config())
    assert memory.weight_bytes(shape, dtype="float32") == 4 * 124_439_808
    assert memory.trainable_parameters(shape, "full") == 124_439_808
    for model in (shape, "gpt-3-175b"):
        with pytest.raises(ValueError, match="knows the layers of mistral, llama.*'gpt"):
            memory.plan(model)


# --- what the loss makes of the logits ----------------------------------------------------------


class Live(torch.utils._python_dispatch.TorchDispatchMode):
    """`peak`: the most bytes that tensors made inside the block held at one time."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self.alive = 0, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        from torch.utils._pytree import tree_iter

        def storages(tree):
            return [t.untyped_storage() for t in tree_iter(tree) if isinstance(t, torch.Tensor)]

        given = {s._cdata for s in storages((args, kwargs))}
        out = function(*args, **(kwargs or {}))
        for storage in storages(out):
            if storage._cdata not in given and storage._cdata not in self.alive:
                self.alive[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.gone, storage._cdata)
        return out

    def gone(self, key):
        self.now -= self.alive.pop(key, 0)


def loss_shape(hidden, vocab):
    config = tiny().config
    config.hidden_size, config.vocab_size = hidden, vocab
    return memory.model_shape(config)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("positions", [100, 1000, 2000])
def test_planned_logits_of_trls_chunked_loss_are_what_it_holds(positions, dtype):
    from trl.trainer import sft_trainer

    assert sft_trainer._CHUNKED_LM_HEAD_CHUNK_SIZE == memory.TRL_CHUNK
    hidden, vocab, kind = 64, 8192, getattr(torch, dtype)
    states = torch.randn(1, positions + 1, hidden, dtype=kind, requires_grad=True)
    head, labels = torch.randn(vocab, hidden, dtype=kind), torch.randint(0, vocab, (1, positions))
    labels = torch.cat([labels, labels[:, :1]], 1)
    with Live() as live:
        chunked = sft_trainer._chunked_cross_entropy_loss
        chunked(states, head, memory.TRL_CHUNK, labels)[0].backward()
    planned = memory.plan(
        loss_shape(hidden, vocab),
        quantisation=None,
        batch=1,
        length=positions,
        checkpointing=False,
        dtype=dtype,
        loss="chunked_nll",
    )
    assert planned.logits == pytest.approx(live.peak, rel=0.05)
    full = dataclasses.replace(planned, settings={**planned.settings, "loss": "full"})
    assert full.on(None).logits == positions * vocab * (12 if dtype == "float32" else 14)


def test_trl_still_makes_chunks_by_itself():
    from trl import SFTConfig

    assert SFTConfig(output_dir="unused", use_cpu=True).loss_type == "chunked_nll"


def test_unsloths_chunks_take_half_of_what_is_free_and_at_most_four_gib():
    big = dict(batch=8, length=4096)
    whole = 16 * 8 * 4096 * 32768
    assert memory.plan(**big).logits == 4 * GIB == whole // 4
    assert memory.plan(batch=1, length=64).logits == 16 * 64 * 32768  # one chunk
    p = memory.plan(**big)
    room = memory.usable_bytes("T4")
    here = p.on(room)
    free = room - (here.total - here.logits)
    assert here.logits == free // 2 and p.fits("T4")
    old = memory.plan(**big, loss="unsloth-2024")
    assert not old.fits("T4") and old.logits == 6 * 8 * 4096 * 32768


def test_unsloths_own_count_of_chunks(tmp_path):
    """The rule is read from the installed source; importing unsloth_zoo would patch transformers."""
    import importlib.util
    import math
    import pathlib

    where = importlib.util.find_spec("unsloth_zoo")
    if where is None:
        pytest.skip("unsloth_zoo is not installed")
    folder = pathlib.Path(where.submodule_search_locations[0])
    text = (folder / "fused_losses" / "cross_entropy_loss.py").read_text()
    said = re.search(r"^_CE_BYTES_PER_LOGIT = (.+)$", text, re.M)[1]
    assert float(said) == memory.CHUNKED_BYTES
    assert float(re.search(r"^_CE_TARGET_GB_CAP = (.+)$", text, re.M)[1]) * GIB == (
        memory.UNSLOTH_CHUNK
    )
    rule = re.search(r"    exact = n_splits \* 4\n.*?return min\(n_chunks, bsz\*qlen\)", text, re.S)
    assert rule, "unsloth_zoo chooses the number of chunks in another way now"
    for free in (4, 3, 0.5, 0.1):
        names = dict(math=math, bsz=8, qlen=4096)
        names["n_splits"] = 8 * 4096 * 32768 * 16 / GIB / (free / 2) / 4
        body = "def f(n_splits, bsz, qlen, math):\n" + rule[0]
        exec(body, names)
        chunks = names["f"](names["n_splits"], 8, 4096, math)
        p = memory.plan(batch=8, length=4096)
        ours = p.on(p.total - p.logits + int(free * GIB)).logits
        assert ours / 5 < 16 * 8 * 4096 * 32768 / chunks <= 1.01 * ours  # chunks come in fours


# --- what Trainer and peft change ---------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("trainer", [True, False])
def test_eight_bit_state_with_and_without_transformers_trainer(
    trainer, tied, tmp_path, monkeypatch
):
    """Trainer keeps the state of embedding tables in fp32, a tied head's with it."""
    import bitsandbytes
    from transformers import Trainer, TrainingArguments

    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    # One manager for the whole process, which would remember this model's parameters by their ids.
    monkeypatch.setattr(manager, "module_weight_config_triple", [])
    monkeypatch.setattr(manager, "index2config", {})
    monkeypatch.setattr(manager, "pid2config", {})
    model = tiny(hidden=64, vocab=1024, tied=tied)
    if trainer:
        options = dict(use_cpu=True, optim="adamw_8bit", report_to="none")
        args = TrainingArguments(output_dir=str(tmp_path), **options)
        optimizer = Trainer(model=model, args=args).create_optimizer()
    else:
        optimizer = bitsandbytes.optim.AdamW8bit(model.parameters())
    step(model, optimizer)
    planned = memory.plan(
        memory.model_shape(model),
        "full",
        quantisation=None,
        dtype="float32",
        optimizer="adamw_8bit",
        checkpointing=False,
        trainer=trainer,
    )
    found = memory.measured_state(model, optimizer)["optimiser"]
    assert planned.optimiser == pytest.approx(found, rel=0.01)


def test_what_trainer_costs_full_tuning_in_eight_bits():
    """Mistral: 131,072 x 1,024 values of embeddings, 6 bytes each less one absmax pair in 256."""
    both = [
        memory.plan(n, "full", quantisation=None, trainer=t).optimiser
        for n in ("mistral-7b-v0.3", "llama-3-8b")
        for t in (True, False)
    ]
    assert [round((both[i] - both[i + 1]) / GIB, 2) for i in (0, 2)] == [0.75, 2.92]


@pytest.mark.parametrize("casts", [False, True])
def test_casts_of_prepare_model_for_kbit_training(casts):
    import peft

    def model_of(layers):
        model = in_nf4(tiny(layers=layers, dtype=torch.bfloat16))
        if casts:
            model.is_loaded_in_4bit = True
            options = dict(use_gradient_checkpointing=False)
            model = peft.prepare_model_for_kbit_training(model, **options)
        return model

    shape = memory.model_shape(tiny())
    planned = memory.plan(
        shape, rank=8, dtype="bfloat16", kbit_casts=casts, checkpointing=False, loss="full"
    )
    assert planned.weights == memory.measured_state(model_of(2))["weights"]
    base = memory.plan(shape, rank=8, dtype="bfloat16", checkpointing=False, loss="full")
    rest = shape.parameters - shape.block_weights
    assert planned.weights - base.weights == 2 * rest * casts


def test_casts_make_the_activations_fp32():
    """Counted in test_planned_activations_are_what_autograd_keeps; with the casts as in fp32."""
    options = dict(rank=8, checkpointing=False, loss="full")
    casts = memory.plan(kbit_casts=True, **options)
    plain = memory.plan(dtype="float32", **options)
    assert (casts.activations, casts.logits) == (plain.activations, plain.logits)
    assert round((casts.weights - memory.plan().weights) / GIB, 2) == 0.50


# --- more than one process ----------------------------------------------------------------------


def test_what_each_process_holds():
    """ZeRO's stages on full tuning of 7.24e9 parameters over 8 processes: 16, 5.5, 3.75, 2 bytes."""
    n = V03.parameters
    whole = dict(method="full", quantisation=None, optimizer="adamw", checkpointing=True)
    for zero, each in {0: 16, 1: 4 + 12 / 8, 2: 2 + 14 / 8, 3: 16 / 8}.items():
        p = memory.plan(**whole, shards=8, zero=zero)
        assert p.state == pytest.approx(each * n, rel=1e-6), zero
    alone = memory.plan(**whole)
    assert alone.state == memory.plan(**whole, zero=0).state == 16 * n
    ddp = memory.plan(**whole, shards=2, zero=0)
    assert ddp.buffers - alone.buffers == alone.gradients  # DDP's buckets
    fsdp = memory.plan(**whole, shards=8)
    assert fsdp.buffers - alone.buffers == pytest.approx(2 * 2 * V03.block_weights / 32, rel=0.01)
    assert "one of 8 processes (ZeRO stage 3)" in fsdp.title() and "one of" not in alone.title()
    assert fsdp.activations == alone.activations  # each process has rows of its own


# --- fits, and only just ------------------------------------------------------------------------


def test_a_fit_with_little_to_spare_says_so():
    p = memory.plan(loss="unsloth-2024")
    assert p.verdict("T4") == "fits" and p.advice(p.total * 1.1) == ""
    tight = p.advice(p.total * 1.01)
    assert "to spare" in tight and "within 5%" in tight and "too little" not in tight
    assert memory.refuse_if_too_small(p, p.total * 1.01) == tight
    with pytest.raises(memory.DoesNotFit):
        memory.refuse_if_too_small(p, p.total * 0.99)
    lora16 = memory.plan(length=512, quantisation=None)
    assert lora16.fits("T4") and lora16.verdict("T4") == "fits, less than 5% to spare"
    assert lora16.why_not("T4") == "" and "to spare" in lora16.advice(memory.usable_bytes("T4"))
    full = memory.plan(method="full", quantisation=None)
    assert full.verdict("T4") == "too small"


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
