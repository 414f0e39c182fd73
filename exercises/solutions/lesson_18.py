"""Solutions of lesson 18. A source defines `answer`, which the notebook's cell hands to the check."""

ALPHA = "import math\ndef answer(r, alpha, rslora):\n    return "
REST = "def answer(weight, heads):\n    d = weight.shape[0] // heads\n    return "
LEAKS = (
    "import re\ndef answer(files):\n"
    "    bad = re.compile(r'(?<![\\w.:/])/(home|Users)/|\\b[A-Z]:\\\\|\\bhf_[A-Za-z0-9]+')\n"
    "    return [n for n, t in files.items() if {}]"
)
PICKLE = "n.endswith(('.bin', '.pt', '.pkl'))"
NEAR = (
    "import re\ndef answer(files):\n    return [n for n, t in files.items() "
    "if n.endswith(('.bin', '.pt', '.pkl')) or "
)

SOLUTIONS = {
    "alpha_in_file": [
        ALPHA + "alpha * math.sqrt(r) if rslora else alpha",
        "import torch\ndef answer(r, alpha, rslora):\n"
        "    return torch.tensor(alpha) * (r ** 0.5 if rslora else 1)",
    ],
    "restored": [
        REST + "weight.reshape(heads, d // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)",
        "import numpy as np\ndef answer(weight, heads):\n    w = np.asarray(weight)\n"
        "    return np.concatenate([np.concatenate([h[0::2], h[1::2]]) for h in np.split(w, heads)])",
    ],
    "leaks": [
        LEAKS.format(f"bad.search(t) or {PICKLE}"),
        LEAKS.format(f"{PICKLE} or bad.search(t)").replace("[n for", "set(n for")[:-1] + ")",
    ],
}

WRONG = {
    "alpha_in_file": [
        (ALPHA + "alpha", "sqrt(r) times weaker"),
        (ALPHA + "alpha / math.sqrt(r)", "once more"),
        (ALPHA + "alpha / r", "not a scale"),
        (ALPHA + "alpha * r", "root of r"),
        (ALPHA + "alpha * r ** 2", "Solve for x"),
        (ALPHA + "math.sqrt(alpha * r)", "belongs to r alone"),
        (ALPHA + "math.sqrt(r)", "alpha is missing"),
        (ALPHA + "r", "gives the scale 1"),
        (ALPHA + "alpha * math.sqrt(r)", "written as it is"),
        (ALPHA + "alpha * 4 if rslora else alpha", "wrong for r = 9"),
        (ALPHA + "7.5", "you gave 7.5"),
    ],
    "restored": [
        (REST + "weight", "file's order still"),
        (
            REST + "weight.reshape(heads, 2, d // 2, -1).swapaxes(1, 2).reshape(weight.shape)",
            "a second time",
        ),
        (
            REST + "weight.reshape(-1, 2, weight.shape[1]).swapaxes(0, 1).reshape(weight.shape)",
            "as one head",
        ),
        (
            REST + "weight.reshape(heads, d, -1).swapaxes(0, 1).reshape(weight.shape)",
            "exchanged heads and rows",
        ),
        (
            REST
            + "weight.reshape(heads, d // 2, 2, -1).flip(2).swapaxes(1, 2).reshape(weight.shape)",
            "first half",
        ),
        (REST + "weight.flip(0)", "reversed the rows"),
        (REST + "weight.reshape(heads, d // 2, 2, -1).swapaxes(1, 2)", "End with a reshape"),
        (REST + "weight.reshape(2, 6, 2, -1).swapaxes(1, 2).reshape(weight.shape)", "use `heads`"),
        (
            REST + "weight.copy_(weight.reshape(heads, d // 2, 2, -1).swapaxes(1, 2)"
            ".reshape(weight.shape))",
            "make a new object",
        ),
        (REST + "weight.roll(1, 0)", "they should be [0, 1, 2, 3]"),
    ],
    "leaks": [
        (LEAKS.format("bad.search(t)"), "pytorch_model.bin"),
        (LEAKS.format("True"), "Every file was named"),
        (NEAR + "'/' in t]", "A slash alone"),
        (NEAR + "re.search(r'/(home|Users)/', t)]", "web address"),
        (NEAR + "'hf_' in t]", "letters hf_ alone, and"),
        (
            NEAR.replace("n.endswith", "'.bin' in t or n.endswith") + "re.search(r'\\bhf_\\w', t)]",
            "speaks of a .bin",
        ),
        (LEAKS.replace("|\\b[A-Z]:\\\\", "").format(f"bad.search(t) or {PICKLE}"), "Windows path"),
        (
            LEAKS.replace("|\\bhf_[A-Za-z0-9]+", "").format(f"bad.search(t) or {PICKLE}"),
            "token was missed",
        ),
        (LEAKS.replace("(home|Users)", "home").format(f"bad.search(t) or {PICKLE}"), "on a Mac"),
        (LEAKS.format("bad.search(t) or n.endswith(('.bin', '.pkl'))"), "optimizer.pt"),
        (LEAKS.format("bad.search(t) or n.endswith(('.bin', '.pt'))"), "data.pkl"),
        (LEAKS.format(f"bad.search(t) or {PICKLE} or n.endswith('.safetensors')"), "only numbers"),
        ("def answer(files):\n    return 'pytorch_model.bin'", "list of names"),
        ("def answer(files):\n    return ['/home/anna/base']", "is no file's name"),
    ],
}
