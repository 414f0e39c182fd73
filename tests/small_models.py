"""Models with random weights that a test makes in milliseconds."""

import torch
from transformers import MistralConfig, MistralForCausalLM


def small_mistral(seed, kv_heads=2, kind=MistralForCausalLM, **changes):
    """A Mistral of two layers, vocabulary 97, four heads that share `kv_heads` keys and values.

    `changes` are settings of its MistralConfig, `kind` is another class for it.
    """
    shape = dict(vocab_size=97, hidden_size=64, intermediate_size=160, num_hidden_layers=2)
    shape |= dict(num_attention_heads=4, num_key_value_heads=kv_heads)
    torch.manual_seed(seed)
    return kind(MistralConfig(**{**shape, **changes}))
