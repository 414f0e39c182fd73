"""Check of lesson 00's exercise."""

from utils.checks import compare, exercise


@exercise(1, "Give the trained share in percent.")
def share(answer):
    compare(
        answer,
        lambda trained, total: 100 * trained / total,
        [(50, 2000), (30, 1000), (1, 3), (5, 5), (0, 7)],
        [
            (
                "That is the share as a fraction; in percent it is a hundred times that.",
                lambda trained, total: trained / total,
            ),
            (
                "You divided the total by the trained part. The total goes below.",
                lambda trained, total: total / trained,
                lambda trained, total: 100 * total / trained,
            ),
            (
                "You divided by the frozen parameters. The total counts the trained ones as well.",
                lambda trained, total: 100 * trained / (total - trained),
            ),
            (
                "That is the share that stays frozen. Which part trained?",
                lambda trained, total: 100 * (total - trained) / total,
            ),
            (
                "`//` drops what is behind the decimal point. Divide with `/`.",
                lambda trained, total: 100 * trained // total,
                lambda trained, total: trained // total * 100,
                lambda trained, total: int(100 * trained / total),
            ),
            (
                "That is the number that trained. Compare it with the total.",
                lambda trained, total: trained,
            ),
        ],
        form="one number, the share in percent",
        advice="Divide the trained by the total, then think of percent.",
    )
    return "Exercises in the lessons are harder than this."
