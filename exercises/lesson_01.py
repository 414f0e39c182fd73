"""Checks of lesson 01's exercises."""

import statistics

from utils.checks import compare, exercise

ANY = ...  # this part of a pair does not matter


def _row(prompt, said, bos, eos):
    return [bos, *prompt, *said, eos], [-100] * (1 + len(prompt)) + [*said, eos]


@exercise(1, "Give the input ids and the labels of one row.")
def row_for_training(answer):
    compare(
        answer,
        _row,
        [
            ([11, 12, 13], [21, 22], 1, 2),
            ([14, 15], [23, 24, 25, 26], 5, 6),
            ([16, 2, 16], [2, 16], 1, 2),  # the id of eos inside the texts
            ([], [27], 1, 2),
        ],
        [
            (
                "The token for the beginning of the text (bos) is missing in ids.",
                lambda p, a, bos, eos: ([*p, *a, eos], ANY),
            ),
            (
                "Nothing says where the answer ends: the model would go on for ever. Add eos to "
                "ids.",
                lambda p, a, bos, eos: ([bos, *p, *a], ANY),
            ),
            (
                "The tokens for the beginning (bos) and the end (eos) of the text are missing "
                "in ids.",
                lambda p, a, bos, eos: ([*p, *a], ANY),
            ),
            (
                "The ids must hold the answer too: the model reads it while it learns to "
                "predict it.",
                lambda p, a, bos, eos: ([bos, *p], ANY),
                lambda p, a, bos, eos: ([bos, *p, eos], ANY),
            ),
            (
                "The prompt comes before the answer in ids.",
                lambda p, a, bos, eos: ([bos, *a, *p, eos], ANY),
            ),
            (
                "An eos stands between prompt and answer. The row ends once, after the answer.",
                lambda p, a, bos, eos: ([bos, *p, eos, *a, eos], ANY),
            ),
            (
                "Nothing is masked: the model would also learn to write the prompt.",
                lambda p, a, bos, eos: (ANY, [bos, *p, *a, eos]),
            ),
            (
                "Each id needs its label, the masked ones too: labels are as long as ids.",
                lambda p, a, bos, eos: (ANY, [*a, eos]),
                lambda p, a, bos, eos: (ANY, [-100] * len(p) + [*a, eos]),
                lambda p, a, bos, eos: (ANY, [-100] * (1 + len(p)) + [*a]),
            ),
            (
                "The end of the text is masked in labels. The model would never learn to stop.",
                lambda p, a, bos, eos: (ANY, [-100] * (1 + len(p)) + [*a, -100]),
                lambda p, a, bos, eos: (
                    ANY,
                    [-100] * (1 + len(p)) + [-100 if i == eos else i for i in [*a, eos]],
                ),
            ),
            (
                "You shifted the labels yourself. The model shifts them: label i stands beside "
                "id i.",
                lambda p, a, bos, eos: (ANY, [-100] * len(p) + [*a, eos, -100]),
                lambda p, a, bos, eos: (ANY, [-100] * len(p) + [*a, eos, eos]),
                lambda p, a, bos, eos: (ANY, [-100] * (2 + len(p)) + [*a]),
            ),
            (
                "The first token is not masked. Nothing comes before bos, and it is no part of "
                "the answer.",
                lambda p, a, bos, eos: (ANY, [bos] + [-100] * len(p) + [*a, eos]),
            ),
            (
                "The last token of the prompt is not masked.",
                lambda p, a, bos, eos: (ANY, [-100] * len(p) + [*p[-1:], *a, eos]) if p else ANY,
            ),
            (
                "The first token of the answer is masked. It is to be learned too.",
                lambda p, a, bos, eos: (ANY, [-100] * (2 + len(p)) + [*a[1:], eos]),
            ),
            (
                "You masked with 0, which is a token like any other. The loss skips -100 only.",
                lambda p, a, bos, eos: (ANY, [0] * (1 + len(p)) + [*a, eos]),
            ),
            (
                "It is the other way round: the prompt is masked, the answer is learned.",
                lambda p, a, bos, eos: (ANY, [bos, *p, *[-100] * (len(a) + 1)]),
            ),
            (
                "Everything is masked: with such labels nothing is learned.",
                lambda p, a, bos, eos: (ANY, [-100] * (len(p) + len(a) + 2)),
            ),
        ],
        form="two lists, ids and labels",
        names=("ids", "labels"),
        advice="The ids are bos, prompt, answer, eos; which of them does the loss count?",
    )
    return "The prompt is read, the answer and its end are learned."


def _by(weight):
    def mean(a, b):
        return (a["loss"] * a[weight] + b["loss"] * b[weight]) / (a[weight] + b[weight])

    return mean


@exercise(2, "Give the mean loss over all trained tokens of both batches.")
def two_batches(answer):
    keys = ("loss", "rows", "tokens", "trained")
    one, two, three, empty = (
        dict(zip(keys, values))
        for values in ((2.0, 4, 40, 8), (1.0, 6, 100, 24), (4.0, 1, 10, 3), (0.0, 2, 30, 0))
    )
    compare(
        answer,
        _by("trained"),
        [(one, two), (two, three), (three, one), (one, empty)],
        [
            (
                "That is the mean of two means. A token of the batch with fewer trained tokens "
                "would count for more.",
                lambda a, b: (a["loss"] + b["loss"]) / 2,
            ),
            (
                "You weighted by rows. Rows differ in length; what is averaged are tokens.",
                _by("rows"),
            ),
            (
                "You weighted by all tokens, masked ones included. Which tokens is the loss a "
                "mean over?",
                _by("tokens"),
            ),
            (
                "That is a sum of two means. What is wanted is a mean over tokens.",
                lambda a, b: a["loss"] + b["loss"],
            ),
            (
                "That is the sum over all trained tokens. Divide by their number.",
                lambda a, b: a["loss"] * a["trained"] + b["loss"] * b["trained"],
            ),
            (
                "You divided by two batches. Divide by the number of trained tokens.",
                lambda a, b: (a["loss"] * a["trained"] + b["loss"] * b["trained"]) / 2,
            ),
            (
                "You divided by all tokens. The loss is a mean over the trained ones.",
                lambda a, b: (
                    (a["loss"] * a["trained"] + b["loss"] * b["trained"])
                    / (a["tokens"] + b["tokens"])
                ),
            ),
            (
                "The weights are swapped: each loss belongs to its own batch.",
                lambda a, b: (
                    (a["loss"] * b["trained"] + b["loss"] * a["trained"])
                    / (a["trained"] + b["trained"])
                ),
            ),
            (
                "You divided means by numbers of tokens. A mean times its number gives back the "
                "sum.",
                lambda a, b: a["loss"] / a["trained"] + b["loss"] / b["trained"],
            ),
            (
                "The losses are means already. A mean times its number gives back the sum.",
                lambda a, b: (a["loss"] + b["loss"]) / (a["trained"] + b["trained"]),
            ),
        ],
        form="one number, the mean loss",
        advice="What is the sum of the losses over all trained tokens, and how many are there?",
    )
    return "This is what a trainer must do when it adds up several small batches to one step."


def _runs(table):
    """Rows of a made-up search from {rate: [(validation loss and score, test score) a seed]}."""
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


def _choose(score, loss=None, digits=9, mean=statistics.fmean):
    """A rule: the best `score`, ties by the lowest `loss`; each is (column, how to sum up)."""

    def rule(runs):
        def of(lr, column, how):
            value = how([r[column] for r in runs if r["lr"] == lr])
            return value if digits is None else round(value, digits)

        rates = list(dict.fromkeys(r["lr"] for r in runs))
        keys = {lr: (of(lr, *score), -of(lr, *loss) if loss else 0) for lr in rates}
        best = {lr for lr in rates if keys[lr] == max(keys.values())}
        return best if len(best) > 1 else best.pop()  # a mistake may leave a tie open

    return rule


def _lowest_loss(runs):
    if any(r["validation_loss"] != r["validation_loss"] for r in runs):
        return ...  # with nan the order of the runs decides
    return _choose(("validation_loss", lambda values: -statistics.fmean(values)))(runs)


def _searches():
    """{what is special about it: (runs,)}."""
    one = {
        1e-4: [(0.10, 0.50, 0.60)] * 3,
        3e-4: [(0.40, 0.70, 0.95)] * 3,
        1e-3: [(0.90, 0.10, 0.20), (0.80, 0.99, 0.70), (0.90, 0.20, 0.30)],
        3e-3: [(0.30, 0.80, 0.75), (0.30, 0.90, 0.80), (0.30, 0.85, 0.85)],
        1e-2: [(0.35, 0.85, 0.80)] * 3,
    }
    return {
        "the first search": (_runs(one),),
        "the same runs in another order": (_runs(one)[::-1],),
        "a search whose largest learning rate broke down (loss nan, score 0)": (
            _runs(
                {
                    1e-3: [(0.5, 0.6, 0.6)] * 2,
                    3e-3: [(0.4, 0.7, 0.7)] * 2,
                    1e-1: [(float("nan"), 0.0, 0.0)] * 2,
                }
            ),
        ),
        "a search where one learning rate has more seeds than the other": (
            _runs({1e-3: [(0.2, 0.60, 0.60)] * 4, 3e-3: [(0.3, 0.90, 0.90)] * 2}),
        ),
        "a search where one of three seeds fails": (
            _runs(
                {
                    1e-3: [(0.3, 0.90, 0.9), (0.3, 0.90, 0.9), (0.3, 0.10, 0.9)],
                    3e-3: [(0.4, 0.80, 0.8)] * 3,
                }
            ),
        ),
        "a search where one learning rate has the worst seed and the better mean": (
            _runs(
                {
                    1e-3: [(0.4, 0.70, 0.7)] * 3,
                    3e-3: [(0.3, 0.50, 0.8), (0.3, 0.90, 0.8), (0.3, 0.90, 0.8)],
                }
            ),
        ),
        "a search with a tie, in which one seed has a very low loss": (
            _runs(
                {
                    1e-3: [(0.1, 0.80, 0.8), (0.9, 0.80, 0.8), (0.9, 0.80, 0.8)],
                    3e-3: [(0.4, 0.80, 0.7)] * 3,
                }
            ),
        ),
        "a search with a tie, in which one seed has a very high loss": (
            _runs(
                {
                    1e-3: [(0.5, 0.80, 0.7)] * 3,
                    3e-3: [(0.1, 0.80, 0.7), (0.1, 0.80, 0.7), (0.9, 0.80, 0.7)],
                }
            ),
        ),
        "a search with a tie, in which most seeds have a low loss and one a high one": (
            _runs(
                {
                    1e-3: [(0.3, 0.80, 0.7)] * 3,
                    3e-3: [(0.1, 0.80, 0.7), (0.1, 0.80, 0.7), (0.9, 0.80, 0.7)],
                }
            ),
        ),
        "a search where two means differ in the third digit": (
            _runs({1e-3: [(0.4, 0.852, 0.8)] * 3, 3e-3: [(0.2, 0.849, 0.9)] * 3}),
        ),
        "a search where two means differ in the twelfth digit, which is rounding and a tie": (
            _runs({1e-3: [(0.2, 0.85, 0.8)] * 3, 3e-3: [(0.4, 0.85 + 1e-12, 0.9)] * 3}),
        ),
    }


@exercise(3, "Give the learning rate that the rule chooses.")
def choose_rate(answer):
    mean, median = statistics.fmean, statistics.median
    score, loss = ("validation_score", mean), ("validation_loss", mean)

    def first(rule):
        return lambda runs: rule([r for r in runs if r["seed"] == 0])

    compare(
        answer,
        _choose(score, loss),
        _searches(),
        [
            (
                "You chose by the test score. The test rows are for the final score: who "
                "chooses by them reports luck as skill.",
                _choose(("test_score", mean), loss),
                _choose(("test_score", mean)),
                _choose(("test_score", max)),
            ),
            (
                "The best single run decides in your code. Take the mean over a learning rate's "
                "seeds.",
                _choose(("validation_score", max), loss),
                _choose(("validation_score", max)),
                lambda runs: max(runs, key=lambda r: r["validation_score"])["lr"],
            ),
            (
                "Your code looks at one seed only. Take the mean over a learning rate's seeds.",
                first(_choose(score, loss)),
                first(_choose(score)),
            ),
            (
                "You chose by the lowest validation loss. The rule looks at the score first.",
                _lowest_loss,
            ),
            (
                "You added the scores up. A learning rate with more seeds then wins by their "
                "number: take the mean.",
                _choose(("validation_score", sum), loss),
                _choose(("validation_score", sum), ("validation_loss", sum)),
            ),
            (
                "You took the median of the scores. The rule says the mean, which also sees the "
                "seed that failed.",
                _choose(("validation_score", median), loss),
                _choose(("validation_score", median), ("validation_loss", median)),
            ),
            (
                "Your code looks at a learning rate's worst seed. The rule says the mean.",
                _choose(("validation_score", min), loss),
            ),
            (
                "Among learning rates with equal mean scores, the lower mean validation loss "
                "decides, not the lowest of a single seed.",
                _choose(score, ("validation_loss", min)),
            ),
            (
                "Among learning rates with equal mean scores, the lower mean validation loss "
                "decides, not the worst seed's.",
                _choose(score, ("validation_loss", max)),
            ),
            (
                "Among learning rates with equal mean scores, the lower mean validation loss "
                "decides, not the median.",
                _choose(score, ("validation_loss", median)),
            ),
            (
                "Two means that differ in the twelfth digit are a tie: that is rounding of "
                "sums. Round the means to nine digits.",
                _choose(score, loss, digits=None),
            ),
            (
                "Two learning rates have the same mean score. Among equals the lower mean "
                "validation loss decides.",
                _choose(score),
            ),
            (
                "You rounded the means too far. Rates that differ in the third digit are no tie.",
                _choose(score, loss, digits=2),
                _choose(score, loss, digits=1),
            ),
        ],
        form="the learning rate, one number",
        advice=(
            "The rule: the highest mean validation score over the seeds, then the lowest mean "
            "validation loss."
        ),
    )
    return "Chosen on validation rows, over all seeds; the test rows were not touched."
