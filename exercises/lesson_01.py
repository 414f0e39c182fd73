"""Checks of lesson 01's exercises."""

import math

from utils.checks import Hint, call, exercise


@exercise(1, "Give the input ids and the labels of one row.")
def row_for_training(answer):
    for prompt, said, bos, eos in (
        ([11, 12, 13], [21, 22], 1, 2),
        ([14, 15], [23, 24, 25, 26], 5, 6),
    ):
        given = [list(prompt), list(said)]
        got = call(answer, prompt, said, bos, eos)
        if [prompt, said] != given:
            raise Hint(
                "You changed a list that was handed to you (`+=`, `append`, `insert`). Make new ones."
            )
        if not (
            isinstance(got, (tuple, list))
            and len(got) == 2
            and all(isinstance(part, (tuple, list)) for part in got)
        ):
            raise Hint("Return two lists: ids, labels.")
        ids, labels = (list(x) for x in got)
        whole = [bos, *prompt, *said, eos]
        for wrong, hint in (
            (
                [*prompt, *said, eos],
                "The token for the beginning of the text (bos) is missing in ids.",
            ),
            (
                [bos, *prompt, *said],
                "Nothing says where the answer ends: the model would go on for ever. Add eos.",
            ),
            (
                [*prompt, *said],
                "The tokens for the beginning (bos) and the end (eos) of the text are missing in ids.",
            ),
            (
                [bos, *prompt],
                "ids must hold the answer too: the model reads it while it learns to predict it.",
            ),
        ):
            if ids == wrong:
                raise Hint(hint)
        if ids != whole:
            raise Hint(
                f"For the prompt {prompt} and the answer {said} the ids should be bos, prompt, answer, eos; you gave {ids}."
            )
        if len(labels) != len(ids):
            raise Hint(
                f"There are {len(ids)} ids and {len(labels)} labels. Each id needs its label, the masked ones too."
            )
        masked = [-100] * (1 + len(prompt))
        for wrong, hint in (
            (whole, "Nothing is masked: the model would also learn to write the prompt."),
            (
                [*masked, *said, -100],
                "The end of the text is masked. The model would never learn to stop.",
            ),
            (
                [*masked[1:], *said, eos, -100],
                "You shifted the labels yourself. The model shifts them: label i stands beside id i.",
            ),
            (
                [*masked[1:], *said, eos, eos],
                "You shifted the labels yourself. The model shifts them: label i stands beside id i.",
            ),
            (
                [bos, *masked[1:], *said, eos],
                "The first token is not masked. Nothing comes before bos, and it is no part of the answer.",
            ),
            ([*masked[1:], prompt[-1], *said, eos], "The last token of the prompt is not masked."),
            (
                [-100] * (len(masked) + 1) + [*said[1:], eos],
                "The first token of the answer is masked. It is to be learned too.",
            ),
            (
                [0] * len(masked) + [*said, eos],
                "You masked with 0, which is a token like any other. The loss skips -100 only.",
            ),
            (
                [*whole[: len(masked)], *[-100] * (len(said) + 1)],
                "It is the other way round: the prompt is masked, the answer is learned.",
            ),
        ):
            if labels == wrong:
                raise Hint(hint)
        if labels != [*masked, *said, eos]:
            raise Hint(
                f"For the prompt {prompt} and the answer {said} you gave the labels {labels}. Which of them should be -100?"
            )
    return "The prompt is read, the answer and its end are learned."


@exercise(2, "Give the mean loss over all trained tokens of both batches.")
def two_batches(answer):
    one, two = (
        {"loss": 2.0, "rows": 4, "tokens": 40, "trained": 8},
        {"loss": 1.0, "rows": 6, "tokens": 100, "trained": 24},
    )
    other = {"loss": 4.0, "rows": 1, "tokens": 10, "trained": 2}
    for a, b in ((one, two), (two, other)):
        got = call(answer, dict(a), dict(b))

        def by(weight):
            return (a["loss"] * a[weight] + b["loss"] * b[weight]) / (a[weight] + b[weight])

        if math.isclose(got, by("trained"), rel_tol=1e-6):
            continue
        for value, hint in (
            (
                (a["loss"] + b["loss"]) / 2,
                "That is the mean of two means. A token of the batch with fewer trained tokens would count for more.",
            ),
            (
                by("rows"),
                "You weighted by rows. Rows differ in length; what is averaged are tokens.",
            ),
            (
                by("tokens"),
                "You weighted by all tokens, masked ones included. Which tokens is the loss a mean over?",
            ),
            (a["loss"] + b["loss"], "That is a sum. What is wanted is a mean over tokens."),
            (
                a["loss"] * a["trained"] + b["loss"] * b["trained"],
                "That is the sum over all trained tokens. Divide by their number.",
            ),
            (
                (a["loss"] * b["trained"] + b["loss"] * a["trained"])
                / (a["trained"] + b["trained"]),
                "The weights are swapped: each loss belongs to its own batch.",
            ),
            (
                a["loss"] / a["trained"] + b["loss"] / b["trained"],
                "You divided means by numbers of tokens. A mean times its number gives back the sum.",
            ),
            (
                (a["loss"] + b["loss"]) / (a["trained"] + b["trained"]),
                "The losses are means already. A mean times its number gives back the sum.",
            ),
        ):
            if math.isclose(got, value, rel_tol=1e-6):
                raise Hint(hint)
        raise Hint(
            f"For {a} and {b} you gave {got:g}. What is the sum of the losses over all trained tokens, and how many are there?"
        )
    return "This is what a trainer must do when it adds up several small batches to one step."


def _runs(table):
    """Rows of a made-up search: {rate: [(validation loss, validation score, test score), one per seed]}."""
    return [
        {
            "lr": lr,
            "seed": seed,
            "validation_loss": loss,
            "validation_score": score,
            "test_score": test,
        }
        for lr, per_seed in table.items()
        for seed, (loss, score, test) in enumerate(per_seed)
    ]


@exercise(3, "Give the learning rate that the rule chooses.")
def choose_rate(answer):
    # The best by: mean score, ties by mean loss -> 3e-3; every other habit picks another rate.
    lucky = _runs(
        {
            1e-4: [(0.10, 0.50, 0.60)] * 3,
            3e-4: [(0.40, 0.70, 0.95)] * 3,
            1e-3: [(0.90, 0.10, 0.20), (0.80, 0.99, 0.70), (0.90, 0.20, 0.30)],
            3e-3: [(0.30, 0.80, 0.75), (0.30, 0.90, 0.80), (0.30, 0.85, 0.85)],
            1e-2: [(0.35, 0.85, 0.80)] * 3,
        }
    )
    broken = _runs(
        {
            1e-3: [(0.5, 0.6, 0.6)] * 2,
            3e-3: [(0.4, 0.7, 0.7)] * 2,
            1e-1: [(float("nan"), 0.0, 0.0)] * 2,
        }
    )
    got = call(answer, lucky)
    reasons = {
        3e-4: "That rate has the best test score. The test rows are for the final score: who chooses by them reports luck as skill.",
        1e-3: "That rate has the best single run and two bad ones. Take the mean over the seeds.",
        1e-4: "That rate has the lowest validation loss and a low score. The rule looks at the score first.",
        1e-2: "Two rates have the same mean score. Among equals the lower mean validation loss decides.",
    }
    if isinstance(got, dict):
        raise Hint("You returned a run. Return its rate, a number.")
    if got not in {r["lr"] for r in lucky}:
        raise Hint(
            f"You gave {got!r}, which is not one of the rates {sorted({r['lr'] for r in lucky})}."
        )
    if got in reasons:
        raise Hint(reasons[got])
    if call(answer, list(reversed(lucky))) != got:
        raise Hint(
            "With the same runs in another order you choose another rate. Compare all of them, do not take the first or the last."
        )
    if call(answer, broken) != 3e-3:
        raise Hint(
            "Right there; in a second search, where the largest rate broke down (loss nan, score 0), you chose another rate than 0.003."
        )
    return "Chosen on validation rows, over all seeds; the test rows were not touched."
