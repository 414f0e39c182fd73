"""Checks of lesson 13's exercises."""
from utils import instructions
from utils.checks import Hint, call, exercise

ROWS = ({"instruction": "Translate.", "input": "the red door", "output": "lobi teri"},
        {"instruction": "Name the capital of Togo.", "input": "", "output": "Lome"})


@exercise(1, "Return prompt, space, output and end-of-text token as one string.")
def training_text(answer):
    for row in ROWS:
        got, prompt = call(answer, dict(row), "</s>"), instructions.prompt(row)
        if not isinstance(got, str):
            raise Hint(f"You returned a {type(got).__name__}. The text of a row is one string.")
        if not got.startswith("Below is"):
            raise Hint("The text should begin with the template's preamble, 'Below is an instruction'. Without it, serving prompts differ from training.")
        if not row["input"] and "### Input:" in got:
            raise Hint("A row without input still shows '### Input:'. Alpaca has a second, shorter template for it.")
        if row["input"] and row["input"] not in got:
            raise Hint("The input is not in the text. A row that has one takes the longer template.")
        if "</s>" not in got:
            raise Hint("Nothing ends the text. Without the end-of-text token the model never learns to stop.")
        if not got.endswith("</s>"):
            raise Hint("The end-of-text token must be the very last thing, after the output.")
        if got.count("</s>") > 1:
            raise Hint("There is more than one end-of-text token. The first one already stops the model.")
        if f"Response:\n{row['output']}" in got:
            raise Hint("There is a newline after '### Response:'. This course puts one space there, at training and at serving.")
        if f"Response:{row['output']}" in got:
            raise Hint("The space between '### Response:' and the output is missing: ' Lome' and 'Lome' are different tokens.")
        if got != prompt + " " + row["output"] + "</s>":
            raise Hint("The parts are there, but the text differs from prompt, space, output, end-of-text. Compare it with the one printed above.")
    return "This is what the model sees, to the last token."


@exercise(2, 'Return "bfloat16" or "float16" from the pair.')
def pick_dtype(answer):
    wanted = {(7, 5): "float16", (7, 0): "float16", (6, 1): "float16", (8, 0): "bfloat16", (8, 6): "bfloat16", (9, 0): "bfloat16", (12, 0): "bfloat16"}
    got = {capability: str(call(answer, capability)).removeprefix("torch.") for capability in wanted}
    odd = sorted(set(got.values()) - {"float16", "bfloat16"})
    if odd:
        raise Hint(f"You gave {odd[0]!r}. Both LoRA and the base compute in 16 bits on a card: float16 or bfloat16.")
    if got[7, 5] == "bfloat16" and got[8, 0] == "float16":
        raise Hint("It is the other way round: bfloat16 came with capability 8.0.")
    if got[7, 5] == "bfloat16":
        raise Hint("A T4 is (7, 5) and has no bfloat16: it would emulate it slowly or stop with an error.")
    if got[8, 0] == "float16":
        raise Hint("An A100 is exactly (8, 0), and it has bfloat16. Look at the edge of your comparison.")
    if got[12, 0] == "float16":
        raise Hint("(12, 0) came out as float16. Compare pairs or numbers, not texts: as a text, '12' comes before '8'.")
    if got != wanted:
        capability = next(c for c in wanted if got[c] != wanted[c])
        raise Hint(f"{capability} came out as {got[capability]}. The rule is one comparison with (8, 0).")
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
        raise Hint(f"For {rows:,} rows, batch {batch} and accumulation {accumulation} you gave {got}. One step sees batch times accumulation rows.")
    if call(answer, 16, 2, 4) != 2:
        raise Hint("Right for 51,759 rows, but 16 rows are exactly two steps of eight, not one more.")
    return f"So 60 steps see {60 * 8 / rows:.1%} of Alpaca."
