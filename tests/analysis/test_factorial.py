"""Factorials by hand: means at levels, contrasts, interactions, and how often intervals cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from prefsim.analysis import Factorial, contrast, full_factorial, main_effects

LEVELS = {"a": (1, 2, 3), "b": ("low", "high"), "c": (False, True)}


def drawn(seed, replicates=5):
    rng = np.random.default_rng(seed)
    return Factorial(LEVELS, rng.normal(size=(3, 2, 2, replicates)))


def test_every_cell_is_measured_once_and_kept_in_its_place():
    asked = []

    def measure(a, b, c):
        asked.append((a, b, c))
        return [a + 10 * (b == "high") + 100 * c, a]

    found = full_factorial(measure, LEVELS, progress=lambda cells: list(cells))
    assert len(asked) == len(set(asked)) == 12
    assert found.scores[2, 1, 0].tolist() == [13, 3]
    assert found.scores[0, 0, 1].tolist() == [101, 1]
    assert found.at(b="high", a=2).levels == {"c": (False, True)}
    assert found.at(b="high", a=2).scores.tolist() == [[12, 2], [112, 2]]
    assert found.at(b="high", a=2, c=True).scores.tolist() == [112, 2]


@given(st.integers(0, 1000))
def test_effects_are_differences_of_means(seed):
    found = drawn(seed)
    a, b, _ = main_effects(found)
    means = found.scores.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(a.means, means)
    assert (a.best, a.worst) == (LEVELS["a"][means.argmax()], LEVELS["a"][means.argmin()])
    assert a.size == pytest.approx(means.max() - means.min())
    signed = contrast(found, {"b": ("high", "low")})
    assert abs(signed.size) == pytest.approx(b.size)
    assert signed.size == pytest.approx(-contrast(found, {"b": ("low", "high")}).size)
    by_hand = found.scores[:, 1].mean(axis=(0, 1)) - found.scores[:, 0].mean(axis=(0, 1))
    np.testing.assert_allclose(signed.replicates, by_hand)
    interval = ttest_1samp(by_hand, 0.0).confidence_interval(0.95)
    assert signed.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_an_interaction_is_a_difference_of_differences():
    found = drawn(0)
    both = contrast(found, {"b": ("high", "low"), "c": (True, False)})
    apart = [contrast(found.at(c=c), {"b": ("high", "low")}).size for c in (True, False)]
    assert both.size == pytest.approx(apart[0] - apart[1])
    added = full_factorial(lambda a, b, c: np.array([a, 2 * a]) + 3 * c, LEVELS)
    assert contrast(added, {"a": (3, 1), "c": (True, False)}).size == 0


def test_an_effect_of_nothing_is_covered_as_often_as_is_said():
    """Of three levels without a difference the best less the worst: its interval holds 0."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        # What replicates share is no noise of a difference.
        scores = rng.normal(size=(3, 2, 8)) + 10 * rng.normal(size=8)
        a, b = main_effects(Factorial({"a": (0, 1, 2), "b": (0, 1)}, scores), interval=0.9)
        covered.append((a.size <= a.half_width, b.size <= b.half_width))
    of_three, of_two = np.mean(covered, axis=0)
    assert of_three >= 0.88
    assert of_two == pytest.approx(0.9, abs=0.05)


def test_levels_that_are_alike_have_no_effect():
    found = full_factorial(lambda a: [1.0, 2.0], {"a": (0, 1, 2)})
    (effect,) = main_effects(found)
    assert (effect.size, effect.half_width) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: full_factorial(lambda: [0.0], {}), "factors must hold at least one"),
        (lambda: full_factorial(lambda a: [0.0], {"a": ()}), "a must have levels, each once"),
        (lambda: full_factorial(lambda a: [0.0], {"a": (1, 1)}), "a must have levels, each once"),
        (lambda: full_factorial(lambda a: [0.0] * a, {"a": (1, 2)}), "the same number of replic"),
        (lambda: full_factorial(lambda a: [], {"a": (1, 2)}), "the same number of replicates"),
        (lambda: full_factorial(lambda a: [np.nan], {"a": (1,)}), "scores of a cell must"),
        (lambda: full_factorial(lambda a: 1.0, {"a": (1,)}), "scores of a cell must"),
        (lambda: full_factorial(None, {"a": (1,)}), "measure must be a function"),
        (lambda: Factorial({"a": (0, 1)}, np.zeros((3, 2))), "scores must have trailing shape"),
        (lambda: Factorial({"a": (0, 1)}, np.zeros(2)), "scores must have 2 axes"),
        (lambda: Factorial({"a": ()}, np.zeros((0, 2))), "a must have levels, each once"),
        (lambda: Factorial({"a": (0,)}, [[np.nan]]), "scores must"),
        (lambda: Factorial([0, 1], [[0.0], [1.0]]), "levels must be levels by the name"),
        (lambda: drawn(0).at(d=1), "factor must be one of 'a', 'b', 'c', got 'd'"),
        (lambda: drawn(0).at(a=4), "level of a must be one of 1, 2, 3, got 4"),
        (lambda: contrast(drawn(0), {}), "levels must be two of at least one factor"),
        (lambda: contrast(drawn(0), {"a": (1, 2, 3)}), "levels of a must be two in a tuple"),
        (lambda: contrast(drawn(0), {"a": (1, 4)}), "level of a must be one of"),
        (lambda: contrast(drawn(0), {"a": (1, 2)}, interval=1.0), "interval must lie"),
        (lambda: contrast(drawn(0, 1), {"a": (1, 2)}), "at least two numbers, got 1"),
        (lambda: main_effects(drawn(0), interval=0.0), "interval must lie"),
        (lambda: main_effects(full_factorial(lambda a: [0, 1], {"a": (1,)})), "a must have two"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("progress", [lambda cells: cells[::-1], lambda cells: cells[:1]])
def test_cells_come_in_their_order(progress):
    with pytest.raises(ValueError, match="progress must yield the cells in their order"):
        full_factorial(lambda a: [a, a], {"a": (1.0, 2.0)}, progress=progress)
