"""P-tuning: an encoder that writes the prompt against raw prompts, a prompt in every layer, and full tuning."""

from utils import methods


def p_tuning_and_model(model, **options):
    """P-tuning with the base's own weights trained as well, as in the first paper's SuperGLUE runs."""
    return methods.p_tuning(model, **options).requires_grad_(True)


def cloze(row):
    """Key words in place of a sentence: "Croatia capital is" -> " Zagreb."; the prompt has to make up for the rest."""
    return {
        **row,
        "prompt": f"{row['subject']} {row['relation']} is",
        "answer": f"{row['answer']}.",
    }


def prompt_from_encoder(model, **options):
    """A raw prompt that starts at the vectors which a fresh P-tuning encoder writes: the same start without the network."""
    encoded = methods.p_tuning(model, **options)
    start = encoded.get_prompt_embedding_to_save("default")
    raw = methods.prompt(encoded.get_base_model(), tokens=options["tokens"])
    raw.prompt_encoder["default"].embedding.weight.data.copy_(start)
    return raw


METHODS = {"p_tuning_and_model": p_tuning_and_model, "prompt_from_encoder": prompt_from_encoder}
MLP, LSTM = ({"tokens": 10, "encoder_reparameterization_type": kind} for kind in ("MLP", "LSTM"))
ARMS = [
    ("cloze", "p_tuning", MLP),
    ("cloze", "prompt", {"tokens": 10, "init": "SAMPLE_VOCAB"}),
    ("cloze", "prefix", {"tokens": 10}),
    ("cloze", "p_tuning", LSTM),
]
COMMON = dict(
    seeds=(0, 1, 2),
    steps=80,
    form=cloze,
    tests={"capital_score": lambda row: row["relation"] == "capital"},
)
SWEEPS = {
    "p-tuning": dict(arms=ARMS, rates=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), live=ARMS[:1], **COMMON),
    "p-tuning-start": dict(
        arms=[("cloze", "prompt_from_encoder", MLP)], rates=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), **COMMON
    ),
    "p-tuning-full": dict(
        arms=[("cloze", "full", {}), ("cloze", "p_tuning_and_model", MLP)],
        rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
        **COMMON,
    ),
}
