"""Checks of lesson 16's exercises."""

import re

from utils.checks import compare, exercise


def low_of(wins, total):
    """The lower end of Wilson's interval."""
    z, share = 1.96, wins / total
    half = z * (share * (1 - share) / total + z**2 / (4 * total**2)) ** 0.5
    return (share + z**2 / (2 * total) - half) / (1 + z**2 / total)


def plain_half(wins, total):
    return 1.96 * (wins / total * (1 - wins / total) / total) ** 0.5


@exercise(1, "Return the lower end of Wilson's 95 % interval of wins / total.")
def wilson_low(answer):
    compare(
        answer,
        low_of,
        [(8, 10), (30, 40), (5, 5), (0, 4), (500, 1000)],
        [
            ("That is the share itself. Its interval reaches below it.", lambda w, n: w / n),
            (
                "That is the upper end. Subtract the root, do not add it.",
                lambda w, n: 1 - low_of(n - w, n),
            ),
            (
                "That is the simple interval, share minus 1.96 standard errors. For 5 wins of 5 it "
                "has no width at all.",
                lambda w, n: w / n - plain_half(w, n),
            ),
            (
                "The denominator 1 + z**2 / n is missing.",
                lambda w, n: low_of(w, n) * (1 + 1.96**2 / n),
            ),
            (
                "The middle is missing its z**2 / (2 n): the interval is centred on the share.",
                lambda w, n: low_of(w, n) - 1.96**2 / (2 * n) / (1 + 1.96**2 / n),
            ),
            (
                "Under the root the term z**2 / (4 n**2) is missing.",
                lambda w, n: (w / n + 1.96**2 / (2 * n) - plain_half(w, n)) / (1 + 1.96**2 / n),
            ),
            (
                "You counted losses. The share is wins / total.",
                lambda w, n: low_of(n - w, n),
            ),
        ],
        form="one number",
    )
    return "Five wins of five still leave room for a share near one half."


def squeezed(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def seen(train, test):
    known = {squeezed(question) for question in train}
    return sum(squeezed(question) in known for question in test)


def seen_by(change):
    """Leaks under another idea of what is the same text."""

    def count(train, test):
        known = {change(question) for question in train}
        return sum(change(question) in known for question in test)

    return count


@exercise(2, "Return how many test questions also stand in training, however they are typed.")
def leaks(answer):
    compare(
        answer,
        seen,
        [
            (["Is it open?", "Where?"], ["is it open", "When?"]),
            (["A visa?", "a  visa"], ["A visa", "A VISA?", "Another visa?"]),
            (["Hello"], ["Hello", "hello", "Hello"]),
            (["one two", "three"], ["two one", "onetwo", "OneTwo"]),
            (["Which city?", "which city", "Which   city"], ["WHICH CITY ?"]),
            (["x y", "X, Y", "z"], ["a", "b"]),
        ],
        [
            (
                "You compare the texts as they stand. Customers type capitals, spaces and "
                "punctuation in many ways.",
                seen_by(lambda t: t),
            ),
            ("Capitals no longer count, punctuation and spaces still do.", seen_by(str.lower)),
            (
                "Punctuation no longer counts, capitals still do.",
                seen_by(lambda t: " ".join(re.findall(r"\w+", t))),
            ),
            (
                "You removed the spaces between words, so 'one two' and 'onetwo' became equal.",
                seen_by(lambda t: "".join(re.findall(r"\w+", t.lower()))),
            ),
            (
                "The order of the words should still count.",
                seen_by(lambda t: frozenset(re.findall(r"\w+", t.lower()))),
            ),
            (
                "Two test rows with the same question are two leaks. A set counts them once.",
                lambda a, b: len({squeezed(t) for t in a} & {squeezed(t) for t in b}),
            ),
            (
                "You count the training rows that stand in the test. Count the test rows.",
                lambda a, b: seen(b, a),
            ),
            ("That is the number of test rows that are new.", lambda a, b: len(b) - seen(a, b)),
        ],
        form="one whole number",
    )
    return "Run it on every file before you believe a score."
