"""Checks of lesson 18's exercises."""

import math

import torch

from utils.checks import Hint, call, exercise, number, tensor


@exercise(1, "Return the alpha that gives the scale of training once llama.cpp divides it by r.")
def alpha_in_file(answer):
    r, alpha = 16, 24

    def made(*case):
        return number(call(answer, *case), "one number, the alpha to write")

    got = made(r, alpha, True)
    right = alpha * math.sqrt(r)
    if math.isclose(got, right, rel_tol=1e-6):
        if not math.isclose(made(r, alpha, False), alpha, rel_tol=1e-6):
            raise Hint(
                "Right for rsLoRA. Without it the scale of training is alpha / r already, so alpha "
                "is written as it is."
            )
        if not math.isclose(made(9, 5, True), 15, rel_tol=1e-6):
            raise Hint("Right for r = 16 and wrong for r = 9: use the arguments.")
        return "alpha * sqrt(r), divided by r in llama.cpp, is alpha / sqrt(r)."
    for value, hint in (
        (
            alpha,
            "Then llama.cpp scales by alpha / r, which is sqrt(r) times weaker than in training.",
        ),
        (
            alpha / math.sqrt(r),
            "That is the scale itself. llama.cpp divides what you write by r, once more.",
        ),
        (alpha / r, "That is plain LoRA's scale. The file holds an alpha, not a scale."),
        (alpha * r, "Then the scale is alpha. rsLoRA divides by the root of r."),
        (
            alpha * r**2,
            "The root of r is meant: x / r should come out as alpha / sqrt(r). Solve for x.",
        ),
        (math.sqrt(alpha * r), "The root belongs to r alone, not to alpha."),
        (math.sqrt(r), "alpha is missing: the scale of training is alpha / sqrt(r)."),
        (r, "That gives the scale 1, as a program does that does not know alpha."),
    ):
        if math.isclose(got, value, rel_tol=1e-6):
            raise Hint(hint)
    raise Hint(
        f"For r = 16, alpha = 24 you gave {got:g}. Call it x and solve x / r = alpha / sqrt(r)."
    )


def permuted(weight, heads):
    """The lesson's: rows in llama.cpp's order."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


@exercise(2, "Return the weight with its rows back in transformers' order.")
def restored(answer):
    rows = torch.arange(24.0)[:, None] + torch.arange(5.0) / 10
    heads, width = 2, 12
    file = permuted(rows, heads)
    before = file.clone()
    got = call(answer, file, heads)
    if not torch.equal(file, before):
        raise Hint("The weight of the file was changed in place. Return a new one.")
    got = tensor(got, "the weight, a tensor").float()
    if tuple(got.shape) != tuple(rows.shape):
        raise Hint(
            f"The result should be [24, 5] as before; it is {list(got.shape)}. End with a reshape."
        )

    def order(value):
        return torch.equal(got, value)

    if order(rows):
        other = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
        again = tensor(call(answer, permuted(other, 3), 3)).float()
        if again.shape != other.shape or not torch.equal(again, other):
            raise Hint("Right for 2 heads of 12 rows, wrong for 3 heads of 8: use `heads`.")
        return "The file is [heads, d/2, 2]: the same exchange of axes, from the other side."
    for value, hint in (
        (file, "That is the file's order still. Neighbours should go to the two halves of a head."),
        (
            permuted(file, heads),
            "You interleaved a second time. In the file the pair is the inner axis: start from "
            "[heads, d/2, 2].",
        ),
        (
            file.reshape(width, 2, 5).swapaxes(0, 1).reshape(24, 5),
            "You took all rows as one head. Each head has its own two halves.",
        ),
        (
            file.reshape(heads, width, 5).swapaxes(0, 1).reshape(24, 5),
            "You exchanged heads and rows. Heads stay where they are, and inside a head pairs come "
            "apart.",
        ),
        (
            file.reshape(heads, width // 2, 2, 5).flip(2).swapaxes(1, 2).reshape(24, 5),
            "The two halves are exchanged: the first of each pair belongs to the first half.",
        ),
        (file.flip(0), "You reversed the rows. Nothing is reversed, pairs come apart."),
        (
            file.reshape(width, heads // 2, 2, 5).swapaxes(0, 1).reshape(24, 5),
            "You took all rows as one head. Each head has its own two halves.",
        ),
    ):
        if order(value):
            raise Hint(hint)
    raise Hint(
        f"For 2 heads of 12 rows, the first rows you gave were, in transformers' numbers, "
        f"{[int(x) for x in got[:4, 0]]}; they should be [0, 1, 2, 3]. In the file the first head "
        f"reads {[int(x) for x in file[:4, 0]]}."
    )


CLEAN = {
    "README.md": "# Card\nSee https://huggingface.co/home/docs and data/home/x.\nRatio 3/4.",
    "tokens.md": "A token begins with hf_ and is secret.",
    "adapter_config.json": '{"base_model_name_or_path": "owner/base", "target": "q/k"}',
    "adapter_model.safetensors": "",
    "robin.txt": "This text speaks of a .bin file, and of half_a_day and shelf_space9.",
}
BAD = {
    "a Unix path": ("config.json", '{"path": "/home/anna/base"}'),
    "a Unix path of a Mac": ("notes.md", "made in /Users/anna/course"),
    "a Windows path": ("log.txt", r"loaded C:\Users\anna\base"),
    "a token": ("run.py", "login('hf_AbC123xyz')"),
    "a pickle": ("pytorch_model.bin", ""),
    "a pickle, .pt": ("optimizer.pt", ""),
    "a pickle, .pkl": ("data.pkl", ""),
}


@exercise(3, "Return the names of the files that must not be published, a list.")
def leaks(answer):
    def found(files):
        got = call(answer, dict(files))
        if isinstance(got, (str, bytes)) or not hasattr(got, "__iter__"):
            raise Hint(f"Return a list of names; you gave {type(got).__name__}.")
        return sorted(got)

    every = CLEAN | dict(BAD.values())
    got = found(every)
    if strange := [name for name in got if name not in every]:
        raise Hint(f"{strange[0]!r} is no file's name. Return names, not what you found in them.")
    names = {what: name for what, (name, _) in BAD.items()}
    if set(got) == set(every):
        raise Hint("Every file was named. README.md and the weights may go.")
    for name, why in (
        (
            "adapter_model.safetensors",
            "safetensors are the one kind of weights that may go: only numbers.",
        ),
        (
            "adapter_config.json",
            "owner/base is a name on the hub. A slash alone is no absolute path.",
        ),
        (
            "README.md",
            "it holds a web address and a path inside the repository.",
        ),
        ("tokens.md", "it holds the letters hf_ alone, and no token."),
        (
            "robin.txt",
            "it only speaks of a .bin file, and half_a_day is no token. Look at how the name ends, "
            "and where hf_ begins.",
        ),
    ):
        if name in got:
            raise Hint(f"{name} is harmless: {why}")
    for what, hint in (
        (
            "a Windows path",
            r"A Windows path was missed: C:\Users\… A drive's letter, a colon, a backslash.",
        ),
        (
            "a token",
            "A token was missed: hf_ followed by letters or digits, in the middle of a line.",
        ),
        ("a Unix path of a Mac", "A path was missed: on a Mac it begins with /Users/."),
        ("a Unix path", "A path was missed: /home/… in quotation marks, in a JSON file."),
        ("a pickle", "A pickle was missed: pytorch_model.bin. Its name tells, its text does not."),
        ("a pickle, .pt", "A pickle was missed: optimizer.pt."),
        ("a pickle, .pkl", "A pickle was missed: data.pkl."),
    ):
        if names[what] not in got:
            raise Hint(hint)
    if len(got) != len(set(got)):
        raise Hint("A file was named twice. Name each once.")
    if found(CLEAN):
        raise Hint("Without any bad file the list should be empty.")
    both = found({"x.txt": r"hf_AbC123 in C:\a", "y.txt": "fine"})
    if both != ["x.txt"]:
        raise Hint(f"A file with two faults should be named once; you gave {both}.")
    return "Run it before every push, not after the first accident."
