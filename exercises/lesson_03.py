"""Checks of lesson 03's exercises."""

import statistics

import torch
from torch import nn

from utils.checks import Hint, call, compare, exercise


@exercise(1, "Give the bytes of weights, gradients and optimiser state together.")
def state_bytes(answer):
    def bytes_of(a_base, an_adapter):
        return lambda base, adapter: a_base * base + an_adapter * adapter

    compare(
        answer,
        bytes_of(2, 16),
        [(1000, 10), (7000, 300), (50, 50), (400, 0)],
        [
            (
                "The base is frozen: it has no gradient, and Adam remembers nothing of it.",
                bytes_of(16, 16),
                bytes_of(12, 16),
                bytes_of(6, 16),
                bytes_of(18, 16),
                bytes_of(10, 16),
            ),
            (
                "That is full tuning in mixed precision. Here the base is frozen, and there is "
                "an adapter.",
                bytes_of(16, 0),
                bytes_of(18, 0),
            ),
            (
                "The base takes 2 bytes a parameter: 16 bits, and no gradient, because it is "
                "frozen.",
                bytes_of(4, 16),
            ),
            (
                "You counted bits for the base, 16 a parameter. Sixteen bits are 2 bytes.",
                bytes_of(16, 128),
            ),
            (
                "For the adapter count four things of 32 bits each: weight, gradient, m and v. "
                "One is missing or too narrow.",
                bytes_of(2, 12),
            ),
            (
                "For the adapter count four things of 32 bits each: weight, gradient, m and v. "
                "Two are missing or all are too narrow.",
                bytes_of(2, 8),
            ),
            (
                "The adapter trains in 32 bits, and so do its gradient and Adam's m and v: four "
                "times 4 bytes. You gave it less for at least one of them.",
                bytes_of(2, 6),
                bytes_of(2, 10),
                bytes_of(2, 14),
            ),
            (
                "That is what is stored at the end. A run also holds the adapter's gradients "
                "and Adam's m and v.",
                bytes_of(2, 4),
                bytes_of(2, 2),
            ),
            (
                "A second copy of a weight is kept where weights are in 16 bits. The adapter's "
                "weights are in 32 bits already.",
                bytes_of(2, 20),
                bytes_of(2, 18),
            ),
            ("That is a base in 4 bits. This one is kept in 16.", bytes_of(0.5, 16)),
            ("That is a base in 8 bits. This one is kept in 16.", bytes_of(1, 16)),
            ("The frozen base still has to be in memory.", bytes_of(0, 16)),
            ("That is the base alone. What does the adapter need?", bytes_of(2, 0)),
            ("That is the number of parameters. How many bytes does each need?", bytes_of(1, 1)),
        ],
        form="one number of bytes",
        advice="Write down what is kept for each frozen and for each trained parameter.",
    )
    return "Next to the base the adapter hardly counts; that is why 4-bit bases pay."


def _search(table):
    """Shuffled runs from {lr: (validation scores, test scores, facts kept)}, a number or a
    tuple."""
    runs = []
    for lr, columns in table.items():
        seeds = next((len(c) for c in columns if isinstance(c, tuple)), 3)
        for seed in range(seeds):
            values = [c[seed] if isinstance(c, tuple) else c for c in columns]
            runs.append(
                dict(
                    zip(
                        ("lr", "seed", "validation_score", "test_score", "facts_kept"),
                        (lr, seed, *values),
                    )
                )
            )
    return sorted(runs, key=lambda r: (r["seed"] * 7 % 3, -r["lr"]))


RUNS = {
    1e-4: ((0.90, 0.91, 0.89), 0.90, 0.99),
    2e-4: (0.94, 0.99, 0.95),
    3e-4: ((0.94, 0.98, 0.975), 0.97, (0.90, 0.88, 0.86)),
    1e-3: ((0.99, 0.97, 0.98), 0.98, (0.97, 0.40, 0.43)),
    3e-3: ((1.0, 0.98, 0.99), 0.98, (0.30, 0.31, 0.29)),
}


def _searches():
    """{what is special about it: (runs, slack)}."""
    runs = _search(RUNS)
    return {
        "a slack of 0.03": (runs, 0.03),
        "a slack of 0.1": (runs, 0.1),
        "a slack of 0.02": (runs, 0.02),
        "a search where the larger learning rate keeps more": (
            _search({1e-4: (0.95, 0.9, 0.6), 1e-3: (0.96, 0.9, 0.9)}),
            0.05,
        ),
        "a search where one seed of a rate forgets much": (
            _search({1e-4: (0.9, 0.9, (0.5, 0.9, 0.9)), 1e-3: (0.9, 0.9, 0.7)}),
            0.05,
        ),
        "a search where one seed of a rate forgets everything": (
            _search({1e-4: (0.9, 0.9, (0.9, 0.0, 0.9)), 1e-3: (0.9, 0.9, 0.8)}),
            0.05,
        ),
        "a search with low scores": (_search({1e-4: (0.42, 0.4, 0.9), 1e-3: (0.5, 0.5, 0.5)}), 0.1),
        "a search where a learning rate lies exactly the slack below the best": (
            _search({1e-4: (0.5, 0.5, 0.9), 1e-3: (0.75, 0.7, 0.4)}),
            0.25,
        ),
        "a search where the learning rates have different numbers of seeds": (
            _search({1e-4: ((0.9,) * 5, 0.9, (0.5,) * 5), 1e-3: ((0.88,) * 2, 0.9, (0.8,) * 2)}),
            0.05,
        ),
        "a search where a learning rate just reaches the slack in its best seed": (
            _search({1e-4: ((0.7, 0.88, 0.7), 0.8, 0.9), 1e-3: (0.9, 0.9, 0.5)}),
            0.05,
        ),
        "a search where one seed of a learning rate learned less": (
            _search({1e-4: ((0.7, 0.9, 0.9), 0.8, 0.9), 1e-3: (0.85, 0.9, 0.5)}),
            0.1,
        ),
        "a slack of 0, where the best learning rate itself must remain": (runs, 0.0),
        "a search where a learning rate that has learned little keeps most": (
            _search({1e-4: (0.3, 0.3, 0.95), 1e-3: (0.9, 0.9, 0.8)}),
            0.05,
        ),
    }


def _rule(
    score="validation_score",
    how=statistics.fmean,
    kept=statistics.fmean,
    floor=None,
    strict=False,
    ignore=False,
    pick=None,
):
    """The rule of the exercise, or a mistake in it."""

    def choose(runs, slack):
        def of(lr, column, sum_up):
            return sum_up([r[column] for r in runs if r["lr"] == lr])

        rates = sorted({r["lr"] for r in runs})
        least = (floor or (lambda best, slack: best - slack))(
            max(of(lr, score, how) for lr in rates), slack
        )
        enough = [
            lr
            for lr in rates
            if of(lr, score, how) > least or (of(lr, score, how) == least and not strict) or ignore
        ]
        if pick:
            return pick(enough)
        facts = {lr: round(of(lr, "facts_kept", kept), 9) for lr in enough}
        best = {lr for lr in enough if facts[lr] == max(facts.values())}
        return best if len(best) > 1 else best.pop()  # a mistake may leave a tie open

    return choose


def _best_score(runs, slack):
    rates = {r["lr"] for r in runs}
    score = {
        lr: round(statistics.fmean(r["validation_score"] for r in runs if r["lr"] == lr), 9)
        for lr in rates
    }
    best = {lr for lr in rates if score[lr] == max(score.values())}
    return best if len(best) > 1 else best.pop()


def _of_single_runs(runs, slack):
    best = max(r["validation_score"] for r in runs)
    enough = [r for r in runs if r["validation_score"] >= best - slack]
    return max(enough, key=lambda r: r["facts_kept"])["lr"]


def _mixed(mix):
    """The mistake that mixes mean score and mean facts kept into one number and takes the best."""

    def choose(runs, slack):
        def of(lr, column):
            return statistics.fmean(r[column] for r in runs if r["lr"] == lr)

        value = {
            lr: round(mix(of(lr, "validation_score"), of(lr, "facts_kept")), 9)
            for lr in {r["lr"] for r in runs}
        }
        best = {lr for lr in value if value[lr] == max(value.values())}
        return best if len(best) > 1 else best.pop()

    return choose


@exercise(
    2, "Of the learning rates that teach the task about as well, give the one that keeps most."
)
def choose_rate(answer):
    mean, median = statistics.fmean, statistics.median
    compare(
        answer,
        _rule(),
        _searches(),
        [
            (
                "You chose the learning rate that keeps most, whatever it has learned. First the "
                "score, then the facts.",
                _rule(ignore=True),
            ),
            (
                "You made one number of score and facts. The task has an order: first the "
                "learning rates within the slack, then the facts.",
                _mixed(lambda score, facts: score + facts),
                _mixed(lambda score, facts: score * facts),
            ),
            (
                "You looked at the test score. A choice that looks at test rows spoils them as "
                "a test.",
                _rule("test_score"),
            ),
            (
                "Single runs decide in your code. Take the mean over the seeds for every "
                "learning rate first, for scores and for facts.",
                _of_single_runs,
                _rule(how=max),
                _rule(how=max, kept=max),
                lambda runs, slack: _rule()([r for r in runs if r["seed"] == 0], slack),
            ),
            (
                "You took the highest facts kept among a learning rate's seeds. Take the mean.",
                _rule(kept=max),
            ),
            (
                "You took the lowest facts kept among a learning rate's seeds. Take the mean.",
                _rule(kept=min),
            ),
            (
                "You took the median of the facts kept. The mean also sees the seed that forgot.",
                _rule(kept=median),
            ),
            (
                "You took the median of the scores. The task speaks of the mean.",
                _rule(how=median),
                _rule(how=median, kept=median),
            ),
            (
                "You took the lowest score among a learning rate's seeds. Take the mean.",
                _rule(how=min),
                _rule(how=min, kept=min),
            ),
            (
                "You added scores or facts up, so a learning rate with more seeds counts for "
                "more. Take the mean.",
                _rule(how=sum),
                _rule(kept=sum),
                _rule(how=sum, kept=sum),
            ),
            (
                "That is the learning rate with the best score. Within the slack another may "
                "keep more.",
                lambda runs, slack: _rule()(runs, 0.0),
                _best_score,
            ),
            (
                "You took the smallest learning rate within the slack. It often keeps most, but "
                "not always: read `facts_kept`.",
                _rule(pick=min),
            ),
            (
                "You took the largest learning rate within the slack. Read `facts_kept`.",
                _rule(pick=max),
            ),
            (
                "Your slack is a share of the best score. The task subtracts it: best - slack.",
                _rule(floor=lambda best, slack: best * (1 - slack)),
            ),
            (
                "The best mean of all learning rates sets the bar, not the best single run.",
                lambda runs, slack: _rule(
                    floor=lambda best, s: max(r["validation_score"] for r in runs) - s
                )(runs, slack),
            ),
            (
                "You left out a learning rate that lies exactly `slack` below the best; "
                '"at most slack below" includes it.',
                lambda runs, slack: _rule(strict=bool(slack))(runs, slack),
            ),
            (
                "A slack of 0.03 is written into your code. Use the argument.",
                lambda runs, slack: _rule()(runs, 0.03),
            ),
            (
                "You chose the learning rate that keeps least. The most facts kept wins.",
                lambda runs, slack: _rule(kept=lambda v: -mean(v))(runs, slack),
            ),
        ],
        form="the learning rate, one number",
        advice=(
            "Means over the seeds first; then the learning rates within the slack; of these, the "
            "one that keeps most."
        ),
    )
    return (
        "Apply it to the sweep of this lesson and compare with the learning rates that the rule "
        "without forgetting chose."
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
        self.relative_attention_bias = nn.Embedding(4, 2)  # as T5 calls its table of positions


class Encoder(nn.Module):
    """A small encoder; `deep` gives it a deeper classifier and a body layer named like one."""

    def __init__(self, deep=False):
        super().__init__()
        self.embeddings, self.attention, self.norm = (
            nn.Embedding(11, 8),
            Attention(),
            nn.LayerNorm(8),
        )
        self.dense, self.classifier = nn.Linear(8, 8), nn.Linear(8, 2)
        if deep:
            self.pre_classifier = nn.Linear(8, 8)  # as DistilBERT has one
            self.classifier = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def _has_to_train(name):
    return name.split(".")[-1] == "bias" or name.split(".")[0] == "classifier"


@exercise(3, "Let the biases and the classifier train, nothing else, and return the model.")
def bitfit(answer):
    for before, deep in ((True, False), (False, False), (True, True), (False, True)):
        model = Encoder(deep).requires_grad_(before)
        values = {n: p.detach().clone() for n, p in model.named_parameters()}
        got = call(answer, model, changes=True)
        if not isinstance(got, nn.Module):
            raise Hint("Return the model that you were given, changed in place.")
        if got is not model:
            raise Hint("Change the model in place and return it; you returned another one.")
        if {n for n, _ in model.named_parameters()} != set(values):
            raise Hint("The model has other parameters now. Only requires_grad should change.")
        if any(not torch.equal(p, values[n]) for n, p in model.named_parameters()):
            raise Hint("You changed the values of parameters. Only requires_grad should change.")
        train = {n for n, p in model.named_parameters() if p.requires_grad}
        extra = sorted(n for n in train if not _has_to_train(n))
        missing = sorted(n for n in values if _has_to_train(n) and n not in train)
        table = "attention.relative_attention_bias.weight"
        if not train:
            raise Hint(
                "Nothing trains now."
                + (
                    ""
                    if before
                    else (
                        " This time the model came frozen: set requires_grad to True where it "
                        "should be."
                    )
                )
            )
        if extra == [table]:
            raise Hint(
                f"{table} trains: an embedding table with the word bias in its name. Look at "
                f"the last part of the name only."
            )
        if extra and all(n.startswith("pre_classifier") for n in extra):
            raise Hint(
                f"{', '.join(extra)} trains. That layer is part of the body, although its name "
                f"contains the word classifier."
            )
        if extra == ["norm.weight"]:
            raise Hint(
                "norm.weight trains. It has one dimension, as a bias has, but it is a weight: "
                "go by the name."
            )
        if before and len(extra) > 3 and not missing:
            raise Hint(
                f"{len(extra)} weights of the body still train, such as {extra[0]}. What was "
                f"trainable before has to be frozen first."
            )
        if extra:
            raise Hint(f"These should not train: {', '.join(extra)}.")
        if set(missing) == {
            n for n in values if n.startswith("classifier") and n.endswith("weight")
        }:
            raise Hint("The classifier is new: its weight has to train too, not just its bias.")
        if missing == ["norm.bias"]:
            raise Hint("The norm has a bias as well; every bias of the model trains.")
        if (
            all(n.endswith("bias") and not n.startswith("classifier") for n in missing)
            and len(missing) > 2
        ):
            raise Hint(
                "No bias of the body trains."
                + (
                    ""
                    if before
                    else (
                        " This time the model came frozen: set requires_grad to True where it "
                        "should be."
                    )
                )
            )
        if missing:
            raise Hint(
                f"These should train and do not: {', '.join(missing)}."
                + ("" if before else " This time the model came frozen.")
            )
    return "Nothing was added to the body."
