"""Every method of the course behind one call, so that comparisons give each the same base, rows and search.

`apply("lora", model, rank=8)` freezes the base, adds what the method trains and returns the model. The lessons build the
methods by hand and prove them equal to what stands here.
"""

import torch

from . import bases, modules

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # the one grid that every method is searched on


def apply(name, model, seed=0, **options):
    """The model with method `name` set up to train; `options` go to the method (rank, tokens, bottleneck ...).

    ValueError names the methods there are. `seed` fixes the method's own initial values.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}; there are {', '.join(METHODS)}.")
    torch.manual_seed(seed)
    return METHODS[name](modules.freeze(model), **options)


def full(model):
    """Every weight trains."""
    return model.requires_grad_(True)


def head(model):
    """A new output head, untied from the embeddings, that starts as a copy of the old one; the rest is frozen."""
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    return model


def peft_model(model, config):
    """The model with a peft adapter of that configuration."""
    from peft import get_peft_model

    return get_peft_model(model, config)


def lora(model, rank=8, alpha=None, targets=modules.ALL_LINEAR, **options):
    """LoRA (arXiv 2106.09685); alpha is twice the rank unless given, so the scale alpha / rank stays 2."""
    from peft import LoraConfig

    return peft_model(
        model,
        LoraConfig(
            r=rank,
            lora_alpha=2 * rank if alpha is None else alpha,
            target_modules=list(targets),
            task_type="CAUSAL_LM",
            **options,
        ),
    )


def ia3(model):
    """IA3 (arXiv 2205.05638): keys, values and the feed-forward's inner activations are rescaled."""
    from peft import IA3Config

    return peft_model(
        model,
        IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"],
            feedforward_modules=["down_proj"],
            task_type="CAUSAL_LM",
        ),
    )


def prefix(model, tokens=10, mlp=False, text=None, **options):
    """Prefix tuning (arXiv 2101.00190), with the MLP re-parametrisation if asked; starts from noise, or from the keys and values of `text`."""
    from peft import PrefixTuningConfig, initialize_kv_prefix_from_text

    made = peft_model(
        model,
        PrefixTuningConfig(
            num_virtual_tokens=tokens, prefix_projection=mlp, task_type="CAUSAL_LM", **options
        ),
    )
    if text is not None:
        initialize_kv_prefix_from_text(
            made, bases.load_tokenizer(), text=text, use_chat_template=False
        )
    return made


def prompt(model, tokens=20, init="RANDOM", text=None):
    """Prompt tuning (arXiv 2104.08691); `init` is RANDOM, SAMPLE_VOCAB (words of the vocabulary) or TEXT (the tokens of `text`, repeated)."""
    from peft import PromptTuningConfig

    start = (
        {"prompt_tuning_init_text": text, "tokenizer_name_or_path": model.name_or_path}
        if init == "TEXT"
        else {}
    )
    return peft_model(
        model,
        PromptTuningConfig(
            num_virtual_tokens=tokens, prompt_tuning_init=init, task_type="CAUSAL_LM", **start
        ),
    )


def p_tuning(model, tokens=20, **options):
    """P-tuning v1 (arXiv 2103.10385): the prompt comes from an encoder."""
    from peft import PromptEncoderConfig

    return peft_model(
        model, PromptEncoderConfig(num_virtual_tokens=tokens, task_type="CAUSAL_LM", **options)
    )


def adapter(model, bottleneck=16, **options):
    """Bottleneck adapters and the norms (arXiv 1902.00751); `placement`, `std` and `train_norms` as in utils.adapters."""
    from . import adapters

    return adapters.insert(model, bottleneck, **options)


METHODS = {
    "none": lambda model: model,
    "full": full,
    "head": head,
    "lora": lora,
    "ia3": ia3,
    "prefix": prefix,
    "prompt": prompt,
    "p_tuning": p_tuning,
    "adapter": adapter,
}
