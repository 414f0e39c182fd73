"""Prompt tuning: how a prompt starts, how large the base is, and films against products."""
LABELS = {"tokens": 10, "init": "TEXT", "text": " positive negative"}
QUESTION = {"tokens": 10, "init": "TEXT", "text": "The capital, the currency, the language"}
FILM_ASPECTS = (" plot", " acting", " music", " ending", " dialogue", " lighting")
PROMPT = dict(seeds=(0, 1, 2), steps=120, rates=(3e-3, 3e-2, 1e-1, 3e-1, 1.0))
FULL = dict(seeds=(0, 1, 2), steps=120, rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2))


def is_film(row):
    return any(word in row["text"] for word in FILM_ASPECTS)


FILMS = dict(keep=is_film, tests={"products_score": lambda row: not is_film(row)})


def scale(size):
    return {f"prompt-scale-{size}": dict(base=f"pocket-{size}", arms=[("sentiment", "prompt", LABELS)], **PROMPT),
            f"prompt-full-{size}": dict(base=f"pocket-{size}", arms=[("sentiment", "full", {})], **FULL)}


SWEEPS = {"prompt-start": dict(arms=[("sentiment", "prompt", {"tokens": 10, "init": "RANDOM"}),
                                     ("sentiment", "prompt", {"tokens": 10, "init": "SAMPLE_VOCAB"}),
                                     ("sentiment", "prompt", LABELS), ("facts", "prompt", QUESTION)], **PROMPT),
          **scale("xs"), **scale("s"), **scale("m"),
          "prompt-films": dict(**FILMS, arms=[("sentiment", "prompt", LABELS)], **PROMPT),
          "full-films": dict(**FILMS, arms=[("sentiment", "full", {})], **FULL)}
