"""P-tuning: an encoder that writes the prompt against raw prompts and a prompt in every layer."""


def cloze(row):
    """Key words in place of a sentence: "Croatia capital is" -> " Zagreb."; the prompt has to make up for the rest."""
    return {
        **row,
        "prompt": f"{row['subject']} {row['relation']} is",
        "answer": f"{row['answer']}.",
    }


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
}
