"""Normal log-odds: what they cost and prefer on average, in any width, tail and precision."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.numerics import softplus
from prefsim.raters import logistic_normal_preference
from prefsim.raters.logistic_normal import expected_softplus, log_expected_sigmoid

ERROR = 0.001 * np.arange(-14_000, 14_001)
DENSITY = np.exp(-0.5 * ERROR**2) / np.sqrt(2 * np.pi) * 0.001


def by_sums(function, mean, deviation):
    """The mean of a function under a normal law by a fine trapezoidal rule."""
    return np.sum(function(mean + deviation * ERROR) * DENSITY)


def test_values_at_a_lead_of_one():
    found = expected_softplus(np.full(4, -1.0), np.array([0.0, 0.5, 1.0, 2.0]))
    np.testing.assert_allclose(found, [0.3133, 0.3376, 0.4069, 0.6425], atol=5e-5)


@pytest.mark.parametrize("deviation", [0.0, 0.3, 0.999, 1.0, 1.001, 1.5, 3.0, 20.0])
@pytest.mark.parametrize("mean", [-7.0, -1.0, 0.0, 0.4, 5.0])
def test_both_rules_are_exact(mean, deviation):
    expected = by_sums(softplus, mean, deviation)
    found = expected_softplus(mean, deviation)
    assert abs(float(found) - expected) < 1e-12 * (1 + deviation)
    preferred = by_sums(lambda x: 1 / (1 + np.exp(-x)), mean, deviation)
    assert abs(float(logistic_normal_preference(mean, deviation)) - preferred) < 1e-12


def test_sixty_four_nodes_miss_the_bend_of_wide_laws():
    at, weight = np.polynomial.hermite_e.hermegauss(64)
    by_nodes = np.sum(weight / weight.sum() * softplus(20.0 * at))
    assert abs(by_nodes - by_sums(softplus, 0.0, 20.0)) > 0.01


@given(st.floats(-1e4, 1e4), st.floats(0, 50))
def test_the_lower_tail_is_that_of_an_exponential(mean, deviation):
    """σ(x) is below e^x, and for far lower log-odds as good as it; above ½ of it for x < 0."""
    found = float(log_expected_sigmoid(mean, deviation))
    assert found <= min(0.0, mean + deviation**2 / 2) + 1e-9 * (1 + abs(mean))
    if mean + deviation**2 < -40:
        assert found == pytest.approx(mean + deviation**2 / 2, abs=1e-9 * abs(mean))


@given(st.floats(-30, 30), st.floats(0, 20))
def test_preferences_of_both_sides_sum_to_one(mean, deviation):
    both = logistic_normal_preference(np.array([mean, -mean]), deviation)
    assert both.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_law_alone_has_the_value_that_it_has_beside_others():
    deviation = np.array([0.2, 3.0, 0.9, 1.0, 14.0])
    mean = np.linspace(-2, 2, 5)
    for function in (expected_softplus, log_expected_sigmoid):
        alone = [float(function(*each)) for each in zip(mean, deviation, strict=True)]
        np.testing.assert_allclose(function(mean, deviation), alone, rtol=1e-14)


@pytest.mark.parametrize("function", [expected_softplus, log_expected_sigmoid])
def test_libraries_precisions_and_gradients_agree(function):
    mean, deviation = np.array([[0.3], [-2.0]]), np.array([0.0, 0.7, 1.2, 4.0])
    expected = function(mean, deviation)
    assert expected.shape == (2, 4)
    strict = function(*map(array_api_strict.asarray, (mean, deviation)))
    np.testing.assert_allclose(np.asarray(strict), expected, rtol=1e-13)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.02)):
        found = function(*(torch.as_tensor(x).to(dtype) for x in (mean, deviation)))
        assert found.dtype == dtype
        np.testing.assert_allclose(found.float(), expected, rtol=tolerance, atol=tolerance)
    leaves = [
        torch.as_tensor(x).requires_grad_()
        for x in (np.repeat(mean, 3, axis=1), deviation[1:] * np.ones((2, 3)))
    ]
    assert torch.autograd.gradcheck(function, leaves)


def test_a_trace_computes_both_rules():
    mean, deviation = torch.linspace(-1, 1, 4).double(), torch.tensor([0.2, 0.9, 1.5, 6.0]).double()
    mapped = torch.vmap(expected_softplus)(mean, deviation)
    np.testing.assert_allclose(mapped, expected_softplus(mean, deviation), rtol=1e-14)


def test_no_laws_have_no_values():
    assert expected_softplus(np.empty((0, 2)), np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize(
    ("mean", "deviation", "message"),
    [
        (np.nan, 1.0, "mean must hold no NaN"),
        (0.0, -0.1, "deviation must be finite and >= 0, got -0.1"),
        (0.0, np.inf, "deviation must be finite"),
        (np.zeros(2), np.ones(3), "shapes must broadcast, got mean"),
        ("x", 1.0, "mean must be an array of numbers"),
    ],
)
def test_what_is_no_law_is_refused(mean, deviation, message):
    for function in (expected_softplus, log_expected_sigmoid, logistic_normal_preference):
        with pytest.raises(ValueError, match=message):
            function(mean, deviation)
