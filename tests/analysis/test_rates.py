"""Slopes of errors on logarithmic axes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis.rates import log_log_slope
from prefsim.testing.bandits import tables

SIZES = np.array([8, 20, 100, 640, 3000])


@given(tables((3, 2, 5), low=-20.0, high=20.0))
def test_it_is_the_least_squares_line_of_each_batch(logs):
    errors = np.exp(logs)
    slopes = log_log_slope(SIZES, errors)
    assert slopes.shape == (3, 2)
    expected = np.polyfit(np.log(SIZES), logs.reshape(6, 5).T, 1)[0].reshape(3, 2)
    np.testing.assert_allclose(slopes, expected, atol=1e-11)


@given(st.floats(-3.0, 3.0), st.floats(1e-6, 1e6))
def test_a_power_law_has_its_exponent(exponent, factor):
    assert log_log_slope(SIZES, factor * SIZES**exponent) == pytest.approx(exponent, abs=1e-12)


@given(tables((5,), low=-5.0, high=5.0), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_units_do_not_matter(logs, size_unit, error_unit):
    moved = log_log_slope(size_unit * SIZES, error_unit * np.exp(logs))
    assert moved == pytest.approx(float(log_log_slope(SIZES, np.exp(logs))), abs=1e-12)


def test_tensors_and_lists_are_read_as_arrays():
    errors = torch.tensor([[4.0, 2.0, 1.0]], dtype=torch.float64)
    np.testing.assert_allclose(log_log_slope([1, 2, 4], errors), [-1.0], atol=1e-15)


@pytest.mark.parametrize(
    ("sizes", "errors", "message"),
    [
        ([10, 0], [1.0, 1.0], "sizes must be > 0"),
        ([10, 20], [1.0, -0.5], "errors must be > 0 to have a logarithm, got -0.5"),
        ([10, 20], [1.0, 0.0], "errors must be > 0"),
        ([10], [1.0], "two distinct sizes"),
        ([], [], "two distinct sizes"),
        ([10, 10], [1.0, 2.0], r"two distinct sizes, got \[10.0, 10.0\]"),
        ([10, 20], [1.0, 2.0, 3.0], r"errors must have trailing shape \(2\), got \(3,\)"),
        ([[10, 20]], [1.0, 2.0], "sizes must have 1 ax"),
        ([10, 20], [1.0, np.inf], "errors must be finite"),
    ],
)
def test_what_has_no_slope(sizes, errors, message):
    with pytest.raises(ValueError, match=message):
        log_log_slope(sizes, errors)
