"""Exercises that check themselves: the stub and its check stand in one cell, and a wrong answer
gets its own hint.

A new exercise takes a few lines in exercises/lesson_XX.py. A check gets the learner's function and
raises `Hint` when it sees a mistake; what it returns is the praise:

    @exercise(1, "Give the trained share in percent.")
    def share(answer):
        right = lambda trained, total: 100 * trained / total
        compare(answer, right, [(50, 2000), (1, 3), (7, 7)], [
            ("That is the share as a fraction.", lambda trained, total: trained / total),
        ])
        return "The share is small, and that is the point."

`compare` calls the learner's function on every case, reads the result whatever its type (Python,
numpy or torch; a list, a tuple or an array), and compares it with the solution's. A listed mistake
gets its hint only if it gives what the learner gave in **every** case, so a hint is never given
for another mistake that happens to agree once. What matches no listed mistake is told the case,
what came out, and what should have.

exercises/solutions/lesson_XX.py holds SOLUTIONS = {exercise: function} and MISTAKES = {exercise:
[(name, function, part of the hint)]}, at least six each; tests/test_exercises.py finds both by
themselves.

Where values cannot simply be compared (a model to change, a function to return), a check uses
`call`, `number`, `sequence` and `tensor` and raises its own hints. Never call the learner's
function but through `call`.
"""

import dis
import functools
import inspect
import math
import numbers
import sysconfig
import traceback

import numpy as np
import torch

from . import ROOT

OURS = (str(ROOT / "utils") + "/", str(ROOT / "exercises" / "lesson_"))
LIBRARIES = tuple(
    sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
TRIES = 3  # wrong answers in one kernel after which the learner is told where the solution stands
audit = None  # tests put a list here; `compare` then writes down what it compares with


class Hint(Exception):
    """Raised by a check: what is wrong with the answer, said so that the learner can go on."""


class NotStarted(Exception):
    """Raised when the answer is still the stub."""


def exercise(number, todo):
    """Decorator: makes a check print `passed`, a hint, or the task itself; `judge` gives the same
    as (passed, text)."""

    def wrap(check):
        @functools.wraps(check)
        def run(answer):
            passed, text = judge(check, answer, todo)
            run.tried += not passed and text.startswith("not yet")
            if not passed and run.tried >= TRIES:
                file = check.__module__.rpartition(".")[2]
                text += f" (The solution stands in exercises/solutions/{file}.py.)"
            print(f"Exercise {number}: {text}")

        run.tried = 0
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
    except Exception as error:  # noqa: BLE001 whatever the learner's code raises
        return False, f"not yet. {blame(error)}"
    return True, f"passed. {praise or ''}".rstrip()


# Calling the learner's function


def call(function, *arguments, changes=False):
    """The value of the learner's function for some arguments.

    Raises NotStarted for an untouched stub, and Hint if a result is missing, if the function
    cannot take the arguments, or if it changed one of them (allowed with `changes`, for exercises
    that ask for it). What the function itself raises passes through; `judge` reports it with the
    learner's line.
    """
    if function is None or function is Ellipsis:
        raise NotStarted
    if not callable(function):
        raise Hint(
            f"Hand over the function itself, its name without brackets. This is "
            f"{describe(function)}."
        )
    names = argument_names(function, arguments)
    before = copied(arguments)
    try:
        value = function(*arguments)
    except NotImplementedError as error:
        raise NotStarted from error
    for name, was, now in zip(names, before, arguments):
        if not changes and not unchanged(was, now):
            raise Hint(
                f"Your function changes `{name}`, which was handed to it (as `+=`, `append`, "
                f"`sort` or a method "
                "ending in `_` do). The caller still needs it: make a new object instead."
            )
    if value is Ellipsis or isinstance(value, (tuple, list)) and any(v is Ellipsis for v in value):
        raise NotStarted
    if value is None:
        if is_stub(function):
            raise NotStarted
        raise Hint("Your function returned None. Is there a `return` in front of its result?")
    return value


def is_stub(function):
    """Whether the body of a function holds nothing but `...`, `pass` or a docstring."""
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE", "POP_TOP", "CACHE"}
    code = getattr(function, "__code__", None)
    return code is not None and all(i.opname in idle for i in dis.get_instructions(code))


def argument_names(function, arguments):
    """The learner's own names of the arguments; Hint if the function cannot take so many."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return [f"argument {n}" for n, _ in enumerate(arguments, 1)]
    try:
        signature.bind(*arguments)
    except TypeError:
        raise Hint(
            f"Your function is called with {count(len(arguments), 'argument')}, and it takes "
            f"{count(len(signature.parameters), 'argument')}. Keep the first line of the stub "
            f"as it was."
        ) from None
    names = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            break
        names.append(parameter.name)
    rest = [f"argument {n}" for n in range(len(names) + 1, len(arguments) + 1)]
    return (names + rest)[: len(arguments)]


def learners(filename):
    """Whether a line of code is the learner's: no library's, not this module's and no check's."""
    library = filename.startswith((*LIBRARIES, "<frozen", "<__array"))
    packaged = "site-packages" in filename or "dist-packages" in filename
    return not (library or packaged or filename.startswith(OURS))


def blame(error):
    """What the learner's code raised, and their last line on the way to it."""
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {cut(text, 200)}" if text else type(error).__name__
    lines = [f for f in traceback.extract_tb(error.__traceback__) if learners(f.filename)]
    if not lines:
        return (
            f"What your function gave could not be read ({what}). Compare its form with the task's."
        )
    last = lines[-1]
    return f"Your code raised {what} (line {last.lineno}{f': {last.line}' if last.line else ''})"


# Reading what it gave


def number(value, form="one number"):
    """A Python number from an int, a float, a numpy scalar, or an array or tensor of one
    element."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        if (value.numel() if isinstance(value, torch.Tensor) else value.size) != 1:
            raise Hint(f"Give {form}; you gave {describe(value)}.")
        value = value.item()
    if isinstance(value, bool | complex) or not isinstance(value, numbers.Number):
        raise Hint(f"Give {form}; you gave {describe(value)}.")
    return value if isinstance(value, int | float) else float(value)


def sequence(value, length=None, names=(), form=None):
    """A list of what a list, tuple, array, tensor, range or generator holds, or a dict with
    exactly the keys `names`."""
    if form is None:
        form = f"{length} values" if length else "a list"
        form += f" ({', '.join(names)})" if names else ""
    if isinstance(value, dict) and names and set(value) == set(names):
        return [value[name] for name in names]
    if isinstance(value, str | bytes | dict | set | frozenset) or not hasattr(value, "__iter__"):
        raise Hint(f"Give {form}; you gave {describe(value)}.")
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        raise Hint(f"Give {form}; you gave {describe(value)}.")
    got = list(value)
    if length is not None and len(got) != length:
        raise Hint(
            f"Give {form}; you gave {describe(value if hasattr(value, '__len__') else got)}."
        )
    return got


def tensor(value, form="a tensor"):
    """A tensor of bools or of float64 on the CPU, from a tensor, an array or nested lists."""
    if not isinstance(value, torch.Tensor):
        try:
            array = np.asarray(plain(value))
        except ValueError:
            raise Hint(f"Give {form}: the parts of your answer differ in length.") from None
        if array.dtype.kind not in "bifu" or isinstance(value, str | dict | set):
            raise Hint(f"Give {form}; you gave {describe(value)}.")
        value = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    value = value.detach().cpu()
    return value if value.dtype == torch.bool else value.double()


def plain(value):
    """Nested lists with the tensors in them turned into lists, too."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def read(value, like, form=None, names=()):
    """`value` in the form of `like`: a number, a text, a tensor, a tuple of such, or a list of
    numbers."""
    if value is Ellipsis:  # in a listed mistake: this part does not matter
        return value
    if isinstance(value, set) and not isinstance(like, tuple | list):  # or: any of these
        return frozenset(read(v, like) for v in value)
    if isinstance(like, str):
        if not isinstance(value, str):
            raise Hint(f"Give {form or 'a text'}; you gave {describe(value)}.")
        return str(value)
    if isinstance(like, torch.Tensor):
        got = tensor(value, form or f"a tensor of shape {list(like.shape)}")
        zero_one = like.dtype == torch.bool and ((got == 0) | (got == 1)).all()
        return got.bool() if zero_one else got
    if isinstance(like, tuple):
        parts = sequence(value, len(like), names, form)
        words = names or [f"part {n}" for n, _ in enumerate(like, 1)]
        return tuple(
            read(part, wish, f"{kind(wish)} for {word}")
            for part, wish, word in zip(parts, like, words)
        )
    if isinstance(like, list):
        return [
            number(v, f"{form or 'a list'}, each one number") for v in sequence(value, form=form)
        ]
    if isinstance(like, bool):
        got = value.item() if isinstance(value, torch.Tensor | np.generic) else value
        if got not in (True, False):
            raise Hint(f"Give True or False; you gave {describe(value)}.")
        return bool(got)
    return number(value, form or "one number")


def kind(like):
    """The words for the form of a solution's value."""
    if isinstance(like, torch.Tensor):
        return "a tensor"
    return "a list" if isinstance(like, list) else "a text" if isinstance(like, str) else "a number"


# Comparing


def equal(a, b):
    """Equal but for rounding: 1e-6 relative for numbers, 1e-4 for tensors; nan equals nan, and
    `...` equals anything."""
    if a is Ellipsis or b is Ellipsis:
        return True
    if isinstance(a, frozenset):  # a listed mistake that leaves a tie open
        return any(equal(one, b) for one in a)
    if isinstance(b, frozenset):
        return equal(b, a)
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)) or a.shape != b.shape:
            return False
        if torch.bool in (a.dtype, b.dtype):
            return a.dtype == b.dtype and torch.equal(a, b)
        return torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
    if isinstance(a, tuple | list):
        return (
            isinstance(b, tuple | list)
            and len(a) == len(b)
            and all(equal(x, y) for x, y in zip(a, b))
        )
    if isinstance(a, str | bool) or isinstance(b, str | bool):
        return a == b
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


def compare(answer, solution, cases, mistakes=(), form=None, names=(), options=(), advice=""):
    """Hold the learner's function against the solution on every case; raise the Hint that fits.

    cases      tuples of arguments, or {what is special about it: tuple of arguments}; the plain
               ones first
    mistakes   [(hint, function, …)]: the hint is given if one of the functions agrees with the
               answer in every case. A function may give `...` for a case or a part of a pair that
               does not matter, and a set where the mistake leaves open which of them comes.
    form       what is asked for, as in "one learning rate", said when something of another kind
               comes
    names      the parts of a pair, as ("trained", "stored"); a dict with these keys is then
               accepted, too
    options    the texts among which the answer must be
    advice     a last sentence for answers that no listed mistake explains
    """
    said = list(cases) if isinstance(cases, dict) else None
    cases = list(cases.values()) if said else list(cases)
    if audit is not None:
        audit.append((solution, cases, mistakes))
    got, right, trouble = [], [], None
    for n, case in enumerate(cases):
        text = said[n] if said else told(answer, case)
        like = solution(*copied(case))
        try:
            value = call(answer, *copied(case))
            if isinstance(value, set | frozenset):
                raise Hint(f"Give {form or kind(like)}; you gave {describe(value)}.")
            value = read(value, like, form, names)
            if options and value not in options:
                raise Hint(f"You gave {value!r}; the answers are {', '.join(map(repr, options))}.")
        except NotStarted:
            raise
        except Hint as hint:
            trouble = hint if not got else Hint(f"For {text}: {hint}")
            break
        except Exception as error:  # noqa: BLE001
            trouble = error if not got else Hint(f"For {text}: {blame(error)}")
            break
        got.append(value)
        right.append(read(like, like))
    wrong = [n for n, value in enumerate(got) if not equal(value, right[n])]
    if not wrong:
        if trouble:
            raise trouble
        return
    cases = cases[: len(got)]
    pair = isinstance(right[0], tuple) and len(right[0]) == 2
    if pair and all(equal(g, r[::-1]) for g, r in zip(got, right)):
        raise Hint(f"The two are swapped: {names[0] if names else 'the other one'} comes first.")
    hints = [hint for hint, *ways in mistakes if any(agrees(w, cases, got, right) for w in ways)]
    if hints and (len(hints) == 1 or not trouble):  # over all cases no two mistakes are alike
        raise Hint(hints[0])
    general(got, right)
    n = wrong[0]
    text = said[n] if said else told(answer, cases[n])
    start = (
        f"Right in {len(got) - len(wrong)} of {count(len(got), 'case')}. "
        if len(wrong) < len(got)
        else ""
    )
    raise Hint(f"{start}For {text} {difference(got[n], right[n], names)}. {advice}".rstrip())


def agrees(way, cases, got, right):
    """Whether a listed mistake gives what the learner gave in every case, and not merely what is
    right."""
    values = outcomes(way, cases, right)
    if values is None or not all(map(equal, values, got)):
        return False
    ties = (isinstance(v, frozenset) and not equal(g, r) for v, g, r in zip(values, got, right))
    return any(ties) or not all(map(equal, values, right))


def outcomes(way, cases, right):
    """What a listed mistake gives for the cases; None if it fails on one of them."""
    try:
        return [read(way(*copied(case)), like) for case, like in zip(cases, right)]
    except Exception:  # noqa: BLE001
        return None


def general(got, right):
    """Hints for the mistakes that any exercise may see."""
    if len(got) > 1 and all(equal(got[0], g) for g in got) and not equal(right[0], right[-1]):
        raise Hint(
            f"Your function gives {show(got[0])} whatever it is given, in {len(got)} different "
            f"cases. Use its arguments."
        )
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in [*got, *right]):
        if any(all(g == round(r, d) for g, r in zip(got, right)) for d in range(8)):
            raise Hint("Right but for rounding: give the number itself, unrounded.")
        if all(equal(g, -r) for g, r in zip(got, right)):
            raise Hint("The sign is the wrong way round.")


def difference(got, right, names=()):
    """'you gave …; it should be …', for the first place where two values differ."""
    if isinstance(right, tuple):
        n = next(n for n, pair in enumerate(zip(got, right)) if not equal(*pair))
        name = names[n] if names else f"part {n + 1}"
        return f"{name} is wrong: {difference(got[n], right[n])}"
    if isinstance(right, torch.Tensor):
        if got.shape != right.shape:
            return f"you gave the shape {list(got.shape)}; it should be {list(right.shape)}"
        far = ~torch.isclose(got.double(), right.double(), rtol=1e-4, atol=1e-5)
        place = far.nonzero()[0].tolist()
        where = f" at {place}" if place else ""
        return (
            f"you gave {show(got[tuple(place)].item())}{where}; it should be "
            f"{near(right[tuple(place)].item())}"
        )
    if isinstance(right, list) and len(got) != len(right):
        return f"you gave {count(len(got), 'number')}, {show(got)}; it should be {len(right)}"
    return f"you gave {show(got)}; it should be {near(right)}"


def near(value):
    """A right value as a hint says it."""
    return f"near {show(value)}" if isinstance(value, float) else show(value)


# Words


def told(answer, case):
    """'trained = 50, total = 2,000': a case by the learner's own names."""
    names = argument_names(answer, case)
    return ", ".join(f"{name} = {show(value)}" for name, value in zip(names, case))


def show(value, width=90):
    """A short text for a value."""
    if isinstance(value, torch.Tensor | np.ndarray):
        if math.prod(value.shape) > 8:
            return f"a tensor of shape {list(value.shape)}"
        return show(value.tolist(), width)
    if isinstance(value, float) and not (value.is_integer() and 1000 <= abs(value) < 1e15):
        return f"{value:.6g}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    if isinstance(value, list | tuple):
        text = ", ".join(show(v, width) for v in value)
        return cut(f"[{text}]" if isinstance(value, list) else f"({text})", width)
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return cut(repr(value), width)


def describe(value):
    """A value with its type, for hints about a wrong form."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"{type(value).__name__} of shape {list(value.shape)}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    name = "text" if isinstance(value, str) else type(value).__name__
    long = f" of {len(value)}" if isinstance(value, list | tuple | set | dict) else ""
    return f"a {name}{long}: {show(value, 60)}"


def cut(text, width):
    """The beginning of a text that is too long."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def count(n, noun):
    """'1 argument', '2 arguments'."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def copied(value):
    """A copy of lists, tuples, dicts, arrays and tensors all the way down; other objects stay what
    they are."""
    if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copied(v) for key, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(v) for v in value)
    return value


def unchanged(was, now):
    """Whether an argument is still what it was; objects that `copied` does not copy count as
    unchanged."""
    if isinstance(was, torch.Tensor):
        return was.shape == now.shape and torch.equal(was.nan_to_num(), now.nan_to_num())
    if isinstance(was, np.ndarray):
        return was.shape == now.shape and np.array_equal(was, now, equal_nan=was.dtype.kind == "f")
    if isinstance(was, dict):
        return list(was) == list(now) and all(unchanged(was[key], now[key]) for key in was)
    if type(was) in (list, tuple):
        return len(was) == len(now) and all(map(unchanged, was, now))
    return was is now or was == now or isinstance(was, float) and math.isnan(was)
