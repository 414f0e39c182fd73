"""Lengths of the instruction rows under Mistral-7B v0.3's own tokenizer; writes
data/results/mistral-tokens.json.

    python -m pip install --no-deps mistral_common sentencepiece      # beside the course's
    environment, needs no network later
    python -m tools.token_counts [FILE.json ...]

The package mistral_common ships the tokenizer as a file. With FILE, rows of your own (instruction,
input, output) are counted and summed up on the screen; nothing is stored then.
"""

import argparse
import importlib.metadata
import pathlib
import statistics

from utils import instructions, results

MODEL = "mistral_instruct_tokenizer_240323.model.v3"


def tokenizer():
    """A sentencepiece processor for that file. FileNotFoundError says which package is missing."""
    try:
        import sentencepiece

        file = next(f for f in importlib.metadata.files("mistral_common") or () if f.name == MODEL)
    except (ImportError, StopIteration) as error:
        raise FileNotFoundError(
            "Mistral's tokenizer is not here: python -m pip install --no-deps mistral_common "
            "sentencepiece"
        ) from error
    return sentencepiece.SentencePieceProcessor(model_file=str(pathlib.Path(file.locate())))


def length(pieces, text):
    """Tokens of a whole row's text: BOS in front and EOS behind it."""
    return 2 + len(pieces.encode(text))


def count(pieces, rows):
    """[{"prompt", "answer"}]: tokens of the prompt (BOS included) and what the whole row has more
    (EOS included).
    """
    for row in instructions.examples(rows):
        whole, prompt = (
            length(pieces, row["prompt"] + row["answer"]),
            length(pieces, row["prompt"]) - 1,
        )
        yield {"prompt": prompt, "answer": whole - prompt}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="*", type=pathlib.Path)
    pieces = tokenizer()
    if files := parser.parse_args().file:
        for path in files:
            lengths = [c["prompt"] + c["answer"] for c in count(pieces, instructions.read(path))]
            print(
                f"{path.name}: {len(lengths):,} rows, {min(lengths)} to {max(lengths):,} tokens, "
                f"median {statistics.median(lengths):g}"
            )
        return
    rows = [
        {"split": split, "row": n, "kind": row["kind"], **counts}
        for split in ("train", "validation", "test")
        for rows in [instructions.load(split, "pocket-s")]
        for n, (row, counts) in enumerate(zip(rows, count(pieces, rows)), 1)
    ]
    templates = {
        name: length(pieces, text.format(instruction="", input="")) - 1
        for name, text in (
            ("with input", instructions.WITH_INPUT),
            ("without input", instructions.WITHOUT_INPUT),
        )
    }
    colon = len(pieces.encode("Response:"))
    joins = {
        join: [pieces.id_to_piece(i) for i in pieces.encode("Response:" + join)[colon:]]
        for join in (" Paris", "\nParis", "Paris")
    }
    path = results.save(
        "mistral-tokens",
        rows,
        {
            "tokenizer": MODEL,
            "mistral_common": importlib.metadata.version("mistral_common"),
            "vocabulary": pieces.vocab_size(),
            "templates": templates,
            "after the colon": joins,
        },
    )
    print(f"{len(rows)} rows in data/results/{path.name}")


if __name__ == "__main__":
    main()
