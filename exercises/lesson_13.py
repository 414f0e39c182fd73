"""Checks of lesson 13's exercises."""

from utils.checks import Hint, call, exercise


@exercise(1, "Return ids and labels, two lists of one length.")
def ids_and_labels(answer):
    prompt, target, eos = [1, 7, 8, 9], [5, 6], 2
    got, ids = call(answer, list(prompt), list(target), eos), prompt + target + [eos]
    if not (isinstance(got, tuple) and len(got) == 2 and all(isinstance(x, list) for x in got)):
        raise Hint("Return two lists: ids and labels.")
    if got[0] == prompt + target:
        raise Hint(
            "Nothing ends the ids. Without the end-of-text token the model never learns to stop."
        )
    if got[0] != ids:
        raise Hint("The ids are those of the prompt, then the answer's, then end-of-text.")
    if len(got[1]) != len(ids):
        raise Hint(f"One label a token: {len(ids)} ids and {len(got[1])} labels.")
    for wrong, hint in (
        (ids, "The prompt carries loss too. Give its tokens -100."),
        (
            [-100] * 4 + target + [-100],
            "The end-of-text token carries no loss: the model would never learn to stop.",
        ),
        (
            [-100] * 3 + target + [eos, -100],
            "You shifted the labels. loss_by_hand does that already: a label stands at its own token.",
        ),
        ([0] * 4 + target + [eos], "0 is a token. The loss skips -100 only."),
    ):
        if got[1] == wrong:
            raise Hint(hint)
    if got[1] != [-100] * 4 + target + [eos]:
        raise Hint("Labels are the ids where the answer and its end stand, and -100 elsewhere.")
    if call(answer, [3], [2, 4, 4], 2) != ([3, 2, 4, 4, 2], [-100, 2, 4, 4, 2]):
        raise Hint(
            "Right for this row, wrong for another: is a length or an id written into your code?"
        )
    return "That is what SFTTrainer made of each row."


@exercise(2, 'Return "bfloat16" or "float16" from the pair.')
def pick_dtype(answer):
    wanted = {
        (7, 5): "float16",
        (7, 0): "float16",
        (6, 1): "float16",
        (8, 0): "bfloat16",
        (8, 6): "bfloat16",
        (9, 0): "bfloat16",
        (12, 0): "bfloat16",
    }
    got = {
        capability: str(call(answer, capability)).removeprefix("torch.") for capability in wanted
    }
    odd = sorted(set(got.values()) - {"float16", "bfloat16"})
    if odd:
        raise Hint(
            f"You gave {odd[0]!r}. Both LoRA and the base compute in 16 bits on a card: float16 or bfloat16."
        )
    if got[7, 5] == "bfloat16" and got[8, 0] == "float16":
        raise Hint("It is the other way round: bfloat16 came with capability 8.0.")
    if got[7, 5] == "bfloat16":
        raise Hint(
            "A T4 is (7, 5) and has no bfloat16: it would emulate it slowly or stop with an error."
        )
    if got[8, 0] == "float16":
        raise Hint(
            "An A100 is exactly (8, 0), and it has bfloat16. Look at the edge of your comparison."
        )
    if got[12, 0] == "float16":
        raise Hint(
            "(12, 0) came out as float16. Compare pairs or numbers, not texts: as a text, '12' comes before '8'."
        )
    if got != wanted:
        capability = next(c for c in wanted if got[c] != wanted[c])
        raise Hint(
            f"{capability} came out as {got[capability]}. The rule is one comparison with (8, 0)."
        )
    return "Ask the capability, not is_bf16_supported(), which may say yes to a card that only emulates it."


@exercise(3, "Return the number of optimiser steps in one pass over the rows, a whole number.")
def steps_per_epoch(answer):
    rows, batch, accumulation = 51_759, 2, 4
    got, exact = call(answer, rows, batch, accumulation), 6_470
    if got == 25_880:
        raise Hint("These are batches. With accumulation, four of them make one optimiser step.")
    if got == 12_940:
        raise Hint("You divided by the accumulation only. A batch holds several rows too.")
    if got == 6_469:
        raise Hint("You rounded down: the last rows do not fill a step, but they do make one.")
    if got == exact and not isinstance(got, int):
        raise Hint("The number is right. Make it a whole number, an int.")
    if got != exact:
        raise Hint(
            f"For {rows:,} rows, batch {batch} and accumulation {accumulation} you gave {got}. One step sees batch times accumulation rows."
        )
    if call(answer, 16, 2, 4) != 2:
        raise Hint(
            "Right for 51,759 rows, but 16 rows are exactly two steps of eight, not one more."
        )
    if call(answer, 17, 2, 4) != 3:
        raise Hint(
            "17 rows are two steps of eight and a third with the last row. Rounding to the nearest number drops it."
        )
    return f"So 60 steps see {60 * 8 / rows:.1%} of Alpaca."
