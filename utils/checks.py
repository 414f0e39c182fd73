"""Exercises that check themselves: the stub and its check stand in one cell, and a wrong answer gets its own hint.

A check is a function of the learner's answer that raises `Hint` when it sees a mistake:

    @exercise(1, "Write merge(W, A, B, alpha, rank).")
    def merge(answer): ...

The notebook calls `merge(my_merge)`. An untouched stub (it gives `...` or None) is told what to do; nothing stops the notebook.
"""

import functools
import traceback


class Hint(Exception):
    """Raised by a check: what is wrong with the answer, said so that the learner can go on."""


class NotStarted(Exception):
    """Raised when the answer is still the stub."""


def exercise(number, todo):
    """Decorator: makes a check print `passed`, a hint, or the task itself; `judge` gives the same as (passed, text)."""

    def wrap(check):
        @functools.wraps(check)
        def run(answer):
            print(f"Exercise {number}: {judge(check, answer, todo)[1]}")

        run.judge = lambda answer: judge(check, answer, todo)
        run.number = number
        return run

    return wrap


def judge(check, answer, todo):
    """(passed, text) of a check on an answer, whatever the answer does."""
    if answer is None or answer is Ellipsis:
        return False, f"to do. {todo}"
    try:
        praise = check(answer)
    except NotStarted:
        return False, f"to do. {todo}"
    except Hint as hint:
        return False, f"not yet. {hint}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return (
            False,
            f"not yet. Your code raised {type(error).__name__}: {error} (line {last.lineno}: {last.line or 'in your cell'})",
        )
    return True, f"passed. {praise or ''}".rstrip()


def call(function, *arguments):
    """The answer's value for some arguments; NotStarted if it is still the stub."""
    value = function(*arguments)
    if value is None or value is Ellipsis:
        raise NotStarted
    return value
