"""Intervals of means: by hand, against scipy, and coverage."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from prefsim.analysis.intervals import mean_half_width


def test_two_numbers_and_scipy():
    # Half the difference of 2, times the quantile of one degree of freedom.
    assert mean_half_width([1.0, 3.0]) == pytest.approx(np.tan(0.475 * np.pi), rel=1e-9)
    values = np.random.default_rng(0).standard_normal(12)
    interval = ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert mean_half_width(values, level=0.9) == pytest.approx((interval.high - interval.low) / 2)


def test_coverage():
    drawn = np.random.default_rng(1).standard_normal((2000, 6))
    covered = [abs(row.mean()) <= mean_half_width(row) for row in drawn]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0],), "values must hold at least two numbers, got 1"),
        (([1.0, np.nan],), "values must"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_half_width(*arguments)
    with pytest.raises(ValueError, match="level must lie in"):
        mean_half_width([1.0, 2.0], level=1.0)
