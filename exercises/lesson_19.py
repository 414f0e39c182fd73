"""Checks of lesson 19's exercises."""

import math

from utils.checks import Hint, blame, call, exercise, number


def near(a, b):
    return math.isclose(a, b, rel_tol=1e-6)


def as_number(value, what):
    """`value` as a float; a Hint if it is none (a torch or NumPy number is one)."""
    try:
        return float(number(value))
    except Hint:
        raise Hint(f"Give {what} as a number; you gave {value!r}.") from None


@exercise(1, "Give the steps of accumulation that keep the global batch.")
def accumulation(answer):
    cases = [(96, 4, 3, 8), (64, 2, 8, 4), (48, 4, 1, 12), (16, 2, 8, 1), (96, 3, 4, 8)]
    for whole, each, processes, right in cases:
        try:
            value = call(answer, whole, each, processes)
        except ValueError as error:
            raise Hint(
                f"A global batch of {whole} with {each} rows on each of {processes} processes is "
                f"possible. {blame(error)}"
            ) from None
        got = as_number(value, "the steps of accumulation")
        told = f"For a global batch of {whole}, {each} rows a process and {processes} processes"
        if near(got, right):
            if not isinstance(value, bool) and got != int(got):
                raise Hint(f"{told} you gave {value!r}: give a whole number.")
            continue
        for wrong, hint in (
            (whole / each, "the other processes have rows in the same step too."),
            (whole / processes, "each process takes several rows at a time."),
            (whole * each / processes, "more rows at a time need fewer passes, not more."),
            (whole * processes / each, "more processes need fewer passes, not more."),
            (each * processes, "that is how many rows one pass of all processes has."),
            (each * processes / whole, "that is upside down."),
            (right - 1, "the first backward pass counts as well."),
            (right + 1, "the last pass, before the step, is one of them."),
        ):
            if near(got, wrong):
                raise Hint(f"{told} you gave {got:g}: {hint}")
        raise Hint(f"{told} you gave {got:g}. How many rows have all processes in one pass?")
    if type(call(answer, 64, 4, 2)) is float:
        raise Hint("Right, but as a float. A number of passes is an int: use // and not /.")
    for whole, each, processes in ((64, 5, 2), (16, 4, 8), (64, 3, 4)):
        try:
            got = answer(whole, each, processes)
        except ValueError:
            continue
        one = each * processes
        raise Hint(
            f"{processes} processes with {each} rows each have {one} rows in one pass, so a global "
            f"batch of {whole} is impossible. You gave {got!r}; raise a ValueError."
        )
    return "Everything that multiplies the batch: rows of each, processes, accumulation."


@exercise(2, "Give the factor on a process's own mean loss.")
def factor(answer):
    cases = [([60, 120, 90], 0), ([60, 120], 1), ([10, 10, 40], 2), ([7], 0), ([5, 15, 20, 40], 3)]
    for tokens, rank in cases:
        given = list(tokens)
        got = as_number(call(answer, given, rank), "the factor")
        if given != tokens:
            raise Hint("You changed the list of tokens. Leave it as it is.")
        total, world, mine = sum(tokens), len(tokens), tokens[rank]
        right = mine * world / total
        if near(got, right):
            continue
        told = f"For the tokens {tokens} and rank {rank} you gave {got:.4g}. "
        for wrong, hint in (
            (
                mine / total,
                "That is the process's share of the tokens. DDP then divides by the number of "
                "processes once more: undo that.",
            ),
            (
                1,
                "A factor of 1 is the mean of means: a short process counts as much as a long one.",
            ),
            (
                world / total,
                "That would be right for the SUM of the losses; a mean was divided by the "
                "process's own tokens already.",
            ),
            (total / (mine * world), "That is upside down: more tokens, more weight."),
            (total / mine, "That is upside down: more tokens, more weight."),
            (mine, "That gives the sum of the losses, far too large a gradient."),
            (mine * world, "Divide by the tokens of all processes too."),
            (mine / (total * world), "DDP divides by the number of processes already."),
            (1 / world, "DDP divides by the number of processes already."),
            (mine / max(tokens), "Compare with the tokens of all, not with the longest process."),
            (world, "The number of tokens has to be in it."),
        ):
            if near(got, wrong):
                raise Hint(told + hint)
        raise Hint(
            told + "Write the mean over all tokens, and the average of factor × own mean over the "
            "processes, and set them equal."
        )
    return "A process with twice the mean number of tokens counts twice."


PARTS = ("weights", "adapter", "gradients", "optimiser")


@exercise(3, "Give the bytes of each part that one process keeps.")
def bytes_of_each(answer):
    cases = [
        (frozen, trained, n, zero)
        for zero in range(4)
        for frozen, trained, n in ((1_000_000, 40_000, 5), (8_000_000, 320_000, 8))
    ]
    for frozen, trained, n, zero in cases:
        got = call(answer, frozen, trained, n, zero)
        if not isinstance(got, dict) or set(got) != set(PARTS):
            raise Hint(f"Give a dict with the keys {', '.join(PARTS)}; you gave {got!r}.")
        got = {part: as_number(got[part], f"the bytes of {part}") for part in PARTS}
        whole = {
            "weights": 4 * frozen,
            "adapter": 4 * trained,
            "gradients": 4 * trained,
            "optimiser": 8 * trained,
        }
        from_stage = {"weights": 3, "adapter": 3, "gradients": 2, "optimiser": 1}
        for part in PARTS:
            right = whole[part] / (n if zero >= from_stage[part] else 1)
            if not near(got[part], right):
                told = (
                    f"{frozen:,} frozen, {trained:,} trained, {n} processes, stage {zero}: "
                    f"you gave {got[part]:,.0f} bytes of {part}. "
                )
                raise Hint(told + _why(part, got[part], whole, n, frozen, trained, zero))
    return "Only what trains has gradients and moments: with LoRA it is stage 3 that helps."


def _why(part, got, whole, n, frozen, trained, zero):
    """What is wrong with the bytes of one part."""
    full = whole[part]
    if near(got, full):
        return {
            "weights": "At stage 3 the frozen weights are shared out too.",
            "adapter": "At stage 3 the adapter's weights are parameters like the others.",
            "gradients": "From stage 2 on each process keeps its part of the gradients.",
            "optimiser": "From stage 1 on each process keeps its part of the moments.",
        }[part]
    if near(got, full / n):
        return {
            "weights": "The weights are shared out at stage 3 only.",
            "adapter": "The adapter's weights are shared out at stage 3 only.",
            "gradients": "The gradients are shared out from stage 2 on.",
            "optimiser": "Stage 0 is DDP: nothing is shared out.",
        }[part]
    if near(got, full * n):
        return "That is what all processes keep together."
    if got == 0:
        return "Is there really none?"
    if part == "optimiser" and any(near(got, full / 2 / k) for k in (1, n)):
        return "AdamW keeps two moments, of 4 bytes each."
    if part == "weights" and any(near(got, 4 * (frozen + trained) / k) for k in (1, n)):
        return "The adapter is counted apart."
    if part in ("gradients", "optimiser"):
        each = full / trained
        if any(near(got, each * x / k) for x in (frozen, frozen + trained) for k in (1, n)):
            return "A frozen parameter has no gradient and no moments."
    if any(near(got, full / 2 / k) for k in (1, n)):
        return "An fp32 number has 4 bytes."
    if any(near(got, full / 4 / k) for k in (1, n)):
        return "That is how many numbers they are; each has 4 bytes."
    return f"All processes together have {full:,} bytes of it. Does stage {zero} share that out?"
