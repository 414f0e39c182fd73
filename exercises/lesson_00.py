"""Check of lesson 00's exercise."""

from utils.checks import Hint, call, exercise


@exercise(1, "Give the trained share in percent.")
def share(answer):
    got = call(answer, 50, 2000)
    if abs(got - 0.025) < 1e-9:
        raise Hint("That is the share as a fraction; in percent it is a hundred times that.")
    if abs(got - 4000) < 1e-6:
        raise Hint("You divided the total by the trained part.")
    if abs(got - 50 / 1950 * 100) < 1e-6:
        raise Hint(
            "You divided by the frozen parameters. The total counts the trained ones as well."
        )
    if abs(got - 2.5) > 1e-9:
        raise Hint(f"50 of 2,000 are 2.5 percent; you gave {got}.")
    if abs(call(answer, 30, 1000) - 3) > 1e-9:
        raise Hint("Right for 50 of 2,000, wrong for 30 of 1,000: use both arguments.")
    return "Exercises in the lessons are harder than this."
