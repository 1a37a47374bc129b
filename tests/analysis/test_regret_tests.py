"""The two tests: values, scipy's, and what they make of lines and of constants."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, linregress, t

from prefsim.analysis import regret_regression_test, regret_trend_test


def falling(falls, rounds=25):
    """A path whose average falls so often, and rises else."""
    steps = np.where(np.arange(rounds - 1) < falls, -1.0, 1.0)
    return np.concatenate([[0.0], np.cumsum(steps)]) * np.arange(1, rounds + 1)


@pytest.mark.parametrize(
    ("falls", "expected"), [(16, 0.0757948160), (12, 0.5805901289), (0, 1.0), (24, 0.5**24)]
)
def test_values_of_the_trend(falls, expected):
    test = regret_trend_test(falling(falls))
    assert test.falls == falls
    assert test.p_value == pytest.approx(expected, rel=1e-8)
    if falls:
        chance = binomtest(falls, 24, 0.5, alternative="greater").pvalue
        assert test.p_value == pytest.approx(chance, rel=1e-12)


def test_ties_are_no_falls():
    assert regret_trend_test(2.0 * np.arange(1, 11)).p_value == 1.0


def test_the_regression_is_that_of_scipy():
    paths = np.exp(np.random.default_rng(0).normal(size=(6, 30))).cumsum(axis=-1) ** 0.8
    paths[3] -= 100.0
    found = regret_regression_test(paths)
    for i, path in enumerate(paths):
        line = linregress(np.log(np.arange(1, 31)), np.log(np.maximum(path, 1e-2)))
        # A flat floor is a line.
        if i == 3:
            continue
        assert found.slope[i] == pytest.approx(line.slope, rel=1e-10)
        assert found.intercept[i] == pytest.approx(line.intercept, rel=1e-9)
        chance = t.cdf((line.slope - 1) / line.stderr, 28)
        assert found.p_value[i] == pytest.approx(chance, rel=1e-7)


def test_points_on_a_line():
    rounds = np.arange(1, 21)
    paths = np.stack([3.0 * rounds, 2.0 * rounds**0.5, -1.0 * rounds, 0.5 * rounds**1.2])
    found = regret_regression_test(paths)
    np.testing.assert_allclose(found.slope, [1.0, 0.5, 0.0, 1.2], atol=1e-12)
    np.testing.assert_allclose(found.p_value, [1.0, 0.0, 0.0, 1.0])
    assert found.intercept[2] == pytest.approx(math.log(1e-2))
    low = regret_regression_test(paths[2], floor=1e-3)
    assert low.intercept == pytest.approx(math.log(1e-3))


def test_bad_input():
    for test in (regret_trend_test, regret_regression_test):
        with pytest.raises(ValueError, match="regrets must be those of at least 3 rounds, got 2"):
            test([1.0, 2.0])
        with pytest.raises(ValueError, match="regrets must be finite"):
            test([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="floor must be a finite number > 0"):
        regret_regression_test([1.0, 2.0, 3.0], floor=0.0)


@pytest.mark.parametrize("each", [0.1, 0.7 / 3, 1e-9, 123.456])
def test_an_average_that_stays_never_falls(each):
    rounds = np.arange(1, 26)
    for path in (each * rounds, np.cumsum(np.full(25, each))):
        test = regret_trend_test(path)
        assert test.falls == 0
        assert test.p_value == 1.0
