"""P-tuning: an encoder that writes the prompt against raw prompts, a prompt in every layer, and full tuning."""
from utils import methods


def p_tuning_and_model(model, **options):
    """P-tuning with the base's own weights trained as well, as in the first paper's SuperGLUE runs."""
    return methods.p_tuning(model, **options).requires_grad_(True)


METHODS = {"p_tuning_and_model": p_tuning_and_model}
MLP, LSTM = ({"tokens": 10, "encoder_reparameterization_type": kind} for kind in ("MLP", "LSTM"))
ARMS = [("cloze", "p_tuning", MLP), ("cloze", "prompt", {"tokens": 10, "init": "SAMPLE_VOCAB"}), ("cloze", "prefix", {"tokens": 10}),
        ("cloze", "full", {}), ("cloze", "p_tuning", LSTM), ("cloze", "prompt", {"tokens": 10, "init": "RANDOM"}),
        ("cloze", "p_tuning_and_model", MLP)]
SWEEPS = {"p-tuning": dict(seeds=(0, 1, 2), steps=100, rates=(1e-3, 5e-3, 2e-2, 1e-1, 5e-1), arms=ARMS,
                           tests={"capital_score": lambda row: row["relation"] == "capital"})}
