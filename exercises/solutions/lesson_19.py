"""Solutions of lesson 19. A source defines `answer`, which the cell hands to the check."""

BATCH = "def answer(whole, each, processes):\n"
FACTOR = (
    "def answer(tokens, rank):\n    mine, total, world = tokens[rank], sum(tokens), len(tokens)\n"
)
BYTES = """def answer(frozen, trained, n, zero):
    weights, adapter, gradients, optimiser = 4 * frozen, 4 * trained, 4 * trained, 8 * trained
"""
SHARED = """    if zero >= 1:
        optimiser /= n
    if zero >= 2:
        gradients /= n
    if zero >= 3:
        weights /= n
        adapter /= n
"""
DICT = """    return {"weights": weights, "adapter": adapter, "gradients": gradients, "optimiser": optimiser}
"""
GUARD = """    if whole % (each * processes):
        raise ValueError("impossible")
"""

SOLUTIONS = {
    "accumulation": BATCH + GUARD + "    return whole // (each * processes)",
    "factor": FACTOR + "    return mine * world / total",
    "bytes_of_each": BYTES + SHARED + DICT,
}

WRONG = {
    "accumulation": [
        (BATCH + "    return whole // each", "other processes have rows"),
        (BATCH + "    return whole // processes", "several rows at a time"),
        (BATCH + "    return whole * each // processes", "need fewer passes"),
        (BATCH + "    return each * processes", "how many rows one pass"),
        (BATCH + "    return each * processes / whole", "upside down"),
        (BATCH + "    return whole // (each * processes) - 1", "first backward pass counts"),
        (BATCH + "    return whole // (each * processes) + 1", "is one of them"),
        (BATCH + "    return whole / (each * processes)", "as a float"),
        (BATCH + "    return whole // (each * processes)", "raise a ValueError"),
        (BATCH + "    return max(1, round(whole / (each * processes)))", "raise a ValueError"),
        (BATCH + "    raise ValueError('no')", "is possible"),
        (BATCH + "    return 'eight'", "as a number"),
    ],
    "factor": [
        (FACTOR + "    return mine / total", "undo that"),
        (FACTOR + "    return 1.0", "mean of means"),
        (FACTOR + "    return world / total", "SUM of the losses"),
        (FACTOR + "    return total / (mine * world)", "upside down"),
        (FACTOR + "    return total / mine", "upside down"),
        (FACTOR + "    return mine", "far too large"),
        (FACTOR + "    return mine * world", "tokens of all processes too"),
        (
            FACTOR + "    return mine / (total * world)",
            "divides by the number of processes already",
        ),
        (FACTOR + "    return mine / max(tokens)", "not with the longest"),
        (FACTOR + "    return world", "number of tokens has to be in it"),
        (FACTOR + "    tokens.sort()\n    return mine * world / total", "make a new object"),
        (FACTOR + "    return 0.123", "set them equal"),
    ],
    "bytes_of_each": [
        (BYTES + "    optimiser /= 2\n" + SHARED + DICT, "two moments"),
        (BYTES + "    gradients = 4 * frozen\n" + SHARED + DICT, "no gradient and no moments"),
        (BYTES + "    optimiser = 8 * (frozen + trained)\n" + SHARED + DICT, "no gradient and no"),
        (BYTES + "    weights = 2 * frozen\n" + SHARED + DICT, "has 4 bytes"),
        (BYTES + "    adapter = trained\n" + SHARED + DICT, "how many numbers"),
        (BYTES + "    weights = 4 * (frozen + trained)\n" + SHARED + DICT, "counted apart"),
        (BYTES + "    gradients = 0\n" + SHARED + DICT, "really none"),
        (BYTES + DICT, "keeps its part of the moments"),
        (BYTES + SHARED.replace(">= 2", ">= 3") + DICT, "keeps its part of the gradients"),
        (BYTES + SHARED.replace(">= 2", ">= 1") + DICT, "shared out from stage 2 on"),
        (BYTES + SHARED.replace(">= 1", ">= 0") + DICT, "Stage 0 is DDP"),
        (BYTES + SHARED.replace(">= 3", ">= 2") + DICT, "at stage 3 only"),
        (BYTES + SHARED.replace("        adapter /= n\n", "") + DICT, "parameters like the others"),
        (BYTES + SHARED.replace("        weights /= n\n", "") + DICT, "frozen weights are shared"),
        (BYTES + "    weights *= n\n" + SHARED + DICT, "all processes keep together"),
        (
            BYTES + SHARED + "    return weights + adapter + gradients + optimiser",
            "dict with the keys",
        ),
        (BYTES + "    weights = 77\n" + SHARED + DICT, "Does stage 0 share"),
    ],
}
