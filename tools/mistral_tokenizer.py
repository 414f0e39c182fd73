"""Mistral-7B v0.3's own tokenizer, made from the file in the package mistral_common.

    python -m pip download --no-deps --dest build/wheels mistral_common==1.13.1

The wheel is only read, never installed: without the packages that it needs it would stop
transformers from loading any Mistral's tokenizer. The file in it is sentencepiece's model. What
transformers reads it with (sentencepiece, protobuf) is not needed either: `pieces` does it.
"""

import importlib.metadata
import pathlib
import struct
import zipfile

from utils import ROOT

FILE = "mistral_instruct_tokenizer_240323.model.v3"
PACKAGE = "mistral_common==1.13.1"
WHEELS = ROOT / "build" / "wheels"
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # sentencepiece's kinds of pieces, as far as told apart


def model_file():
    """Bytes of the tokenizer's file: out of a wheel in build/wheels, or of the installed package.

    FileNotFoundError says how to get it.
    """
    for wheel in sorted(WHEELS.glob("mistral_common-*.whl"), reverse=True):
        with zipfile.ZipFile(wheel) as archive:
            if found := [n for n in archive.namelist() if n.endswith(f"/{FILE}")]:
                return archive.read(found[0])
    try:
        files = importlib.metadata.files("mistral_common") or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.name == FILE:
            return pathlib.Path(file.locate()).read_bytes()
    raise FileNotFoundError(
        f"Mistral's tokenizer is not here. Fetch it once, without installing it: "
        f"python -m pip download --no-deps --dest {WHEELS.relative_to(ROOT)} {PACKAGE}"
    )


def fields(message):
    """(number, value) of each field of a protobuf message; a value is an int or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}.get(kind) or varint()
        yield number, message[at : at + size]
        at += size


def pieces(model):
    """[(piece, score, kind)] of a sentencepiece model's bytes, in the order of their ids."""
    found = []
    for number, value in fields(model):
        if number == 1:
            piece = dict(fields(value))
            (score,) = struct.unpack("<f", piece.get(2, bytes(4)))
            found.append((piece[1].decode("utf-8"), score, piece.get(3, NORMAL)))
    return found


def from_sentencepiece(model):
    """A transformers tokenizer that encodes as sentencepiece's byte-pair model (bytes) does.

    It puts BOS in front, and pads with <unk> on the right: the file has no token for padding.
    ValueError if fewer tokens arrive than the file has.
    """
    from transformers import AddedToken, LlamaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    listed = pieces(model)
    vocabulary = {piece: number for number, (piece, _, _) in enumerate(listed)}
    special = [
        AddedToken(piece, normalized=False, special=kind == CONTROL)
        for piece, _, kind in listed
        if kind in (CONTROL, USER_DEFINED)
    ]
    # The scores say which merge comes first; the order of the ids says it only for most pieces.
    scores = {piece: score for piece, score, kind in listed if kind == NORMAL}
    merges = generate_merges(vocabulary, scores)
    tokenizer = LlamaTokenizer(
        vocab=vocabulary,
        merges=merges,
        add_bos_token=True,
        additional_special_tokens=special,
        pad_token="<unk>",
        padding_side="right",
    )
    if len(tokenizer) != len(listed):
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, its file {len(listed)}")
    return tokenizer


def load():
    """Mistral-7B v0.3's tokenizer. FileNotFoundError says how to get its file."""
    return from_sentencepiece(model_file())
