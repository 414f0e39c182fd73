"""Lesson 11's statistics, taken out of the notebook, on numbers that the notebook does not use."""

import random
import statistics

import numpy as np
import pytest

from tests.from_notebook import load
from utils import results

NAMES = ("interval", "front", "ranks", "spearman", "student", "T975")


@pytest.fixture(scope="module")
def notebook():
    """The functions, and the table of quantiles that `interval` reads."""
    return dict(zip(NAMES, load("11", *NAMES)))


def test_student_is_the_quantile_of_five_seeds(notebook):
    assert notebook["student"](0.975) == pytest.approx(notebook["T975"][4], abs=1e-3)
    assert notebook["student"](0.9995) == pytest.approx(8.610, abs=1e-2)
    assert notebook["student"](0.5) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_interval_is_the_librarys(notebook, n):
    rng = random.Random(n)
    a, b = ([rng.gauss(m, 1) for _ in range(n)] for m in (0, 0.5))
    rows = [[{"seed": i, "x": v} for i, v in enumerate(values)] for values in (a, b)]
    assert np.allclose(notebook["interval"](a, b), results.paired_difference(*rows, "x"), atol=2e-2)
    assert notebook["interval"](a, b)[0] == pytest.approx(-notebook["interval"](b, a)[0])


def test_interval_refuses_unequal_seeds(notebook):
    with pytest.raises(ValueError):
        notebook["interval"]([1.0, 2.0, 3.0], [1.0, 2.0])


def test_front_keeps_exactly_what_nobody_beats(notebook):
    points = {"a": (1, 0), "b": (0, 1), "c": (0.5, 0.5), "beaten": (0.4, 0.5), "twin": (0.5, 0.5)}
    assert notebook["front"](points) == ["a", "b", "c", "twin"]
    rng = np.random.default_rng(0)
    cloud = {i: tuple(p) for i, p in enumerate(rng.random((60, 2)))}
    plain = [
        i for i, p in cloud.items() if not any(q[0] > p[0] and q[1] > p[1] for q in cloud.values())
    ]
    assert notebook["front"](cloud) == plain


def test_rank_correlation(notebook):
    one = {n: v for n, v in zip("abcde", (5, 4, 3, 2, 1))}
    assert notebook["spearman"](one, one) == pytest.approx(1)
    assert notebook["spearman"](one, {n: -v for n, v in one.items()}) == pytest.approx(-1)
    assert notebook["ranks"]({"a": 1, "b": 1, "c": 0}) == {"a": 1.5, "b": 1.5, "c": 3}
    other = {n: v for n, v in zip("abcde", (10, 30, 20, 50, 40))}
    rho = statistics.correlation([1, 2, 3, 4, 5], [5, 3, 4, 1, 2])
    assert notebook["spearman"](one, other) == pytest.approx(rho)
