"""Utilities: values to ten digits, limits, and automatic derivatives."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import (
    improvement_direction,
    map_decision,
    revealed_margin,
    sharpening_slope,
    utility_probability,
)
from prefsim.gradients import gradient
from prefsim.losses import ClassLogits, cross_entropy
from prefsim.testing.bandits import tables

U = np.array([2.0, 1.0, 0.0, -1.0])
TABLES = tables((2, 3, 5), low=-6.0, high=6.0)
TEMPERATURES = st.floats(0.05, 20.0)
MASKS = st.lists(st.booleans(), min_size=5, max_size=5).filter(any).map(np.asarray)


def test_values():
    probs = utility_probability(U, np.array([0.5, 1.0, 2.0]))
    expected = [0.6439142599, 0.2368828181, 0.0871443187, 0.0320586033]
    np.testing.assert_allclose(probs[1], expected, atol=5e-11)
    np.testing.assert_allclose(probs[[0, 2], 0], [0.8649548768, 0.4550542339], atol=5e-11)
    means = [1.8448246581, 1.4926527346, 1.0845764885]
    np.testing.assert_allclose(probs @ U, means, atol=5e-11)
    slopes = sharpening_slope(U, U, np.array([0.5, 1.0, 2.0]))
    np.testing.assert_allclose(slopes, [-0.7025776410, -0.6165862749, -0.2553628613], atol=5e-11)
    lift = improvement_direction(U, np.asarray(0), 1.0)
    np.testing.assert_allclose(lift, np.eye(4)[0] - expected, atol=5e-11)


@given(TABLES, TEMPERATURES, MASKS)
def test_probabilities_are_those_of_the_exponentials(utility, temperature, mask):
    found = utility_probability(utility, temperature, mask)
    # Shifted by the best candidate: what is far below it has no other digits.
    shifted = (utility - utility[..., mask].max(axis=-1, keepdims=True)) / temperature
    weight = np.where(mask, np.exp(np.where(mask, shifted, 0.0)), 0.0)
    np.testing.assert_allclose(found, weight / weight.sum(axis=-1, keepdims=True), atol=1e-14)
    np.testing.assert_array_equal(found[..., ~mask], 0.0)
    np.testing.assert_array_equal(map_decision(utility, mask).value, utility[..., mask].max(-1))


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e300])
def test_extreme_temperatures_and_utilities(temperature):
    utility = np.array([[1e300, 1e300, -np.inf, 0.0], [-1e300, 0.0, 3.0, 3.0]])
    found = utility_probability(utility, temperature)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1.0)
    if temperature < 1:
        np.testing.assert_allclose(found, [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert np.isfinite(sharpening_slope(U, U[::-1], temperature))


@given(TABLES, TABLES, st.floats(0.3, 5.0))
def test_the_slope_is_the_derivative(utility, value, temperature):
    found = sharpening_slope(utility, value, temperature)
    level, quality = torch.as_tensor(utility), torch.as_tensor(value)
    taken = gradient(
        lambda tau: (utility_probability(level, tau) * quality).sum(dim=-1),
        np.full((2, 3), temperature),
    )
    np.testing.assert_allclose(found, taken, rtol=1e-9, atol=1e-11)


def test_the_slope_leaves_out_what_is_no_candidate():
    mask = np.array([True, False, True, True])
    expected = sharpening_slope(U[mask], U[mask] ** 2, 0.7)
    found = sharpening_slope(U, U**2, 0.7, mask)
    impossible = sharpening_slope(np.where(mask, U, -np.inf), U**2, 0.7)
    assert found == pytest.approx(expected, abs=1e-15)
    assert impossible == pytest.approx(expected, abs=1e-15)


@given(TABLES, st.integers(0, 4), st.floats(0.3, 5.0))
def test_the_direction_is_the_gradient_of_the_log_likelihood(utility, chosen, temperature):
    chosen = np.full((2, 3), chosen)

    def likelihood(level):
        classes = ClassLogits(level / temperature, torch.as_tensor(chosen))
        return -temperature * cross_entropy(classes)

    found = improvement_direction(utility, chosen, temperature)
    np.testing.assert_allclose(found, gradient(likelihood, utility), atol=1e-12)
    np.testing.assert_allclose(found.sum(axis=-1), 0.0, atol=1e-14)


def test_cold_the_direction_is_the_step_of_the_perceptron():
    found = improvement_direction(U, np.asarray(2), 1e-3)
    np.testing.assert_allclose(found, [-1.0, 0.0, 1.0, 0.0], atol=1e-15)


@given(TABLES, st.integers(0, 4))
def test_the_margin_is_against_the_best_other(utility, chosen):
    found = revealed_margin(utility, np.full((2, 3), chosen))
    others = np.delete(utility, chosen, axis=-1)
    np.testing.assert_array_equal(found, utility[..., chosen] - others.max(axis=-1))


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_other_libraries(library):
    utility = np.stack([U, U[::-1]])
    mask = np.array([[True, True, False, True], [True, True, True, True]])
    chosen, value = np.array([0, 1]), np.stack([U**2, U])
    calls = {
        utility_probability: (utility, 0.5, mask),
        sharpening_slope: (utility, value, 0.5, mask),
        revealed_margin: (utility, chosen),
        improvement_direction: (utility, chosen, 0.5),
    }
    for function, arguments in calls.items():
        moved = [
            library.asarray(each) if isinstance(each, np.ndarray) else each for each in arguments
        ]
        found = function(*moved)
        assert isinstance(found, type(moved[0]))
        np.testing.assert_allclose(np.asarray(found), function(*arguments), atol=1e-14)


def test_the_temperature_must_be_said_and_positive():
    with pytest.raises(TypeError, match="temperature"):
        utility_probability(U)
    for temperature in (0.0, -1.0, np.array([1.0, 0.0]), np.inf, np.nan):
        with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
            utility_probability(U, temperature)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: utility_probability([0.0, np.nan], 1.0), "utility must hold no NaN"),
        (lambda: utility_probability([0.0, np.inf], 1.0), "utility must be finite, or -inf"),
        (lambda: utility_probability([-np.inf, -np.inf], 1.0), "utility must leave a candidate"),
        (lambda: utility_probability(np.zeros(0), 1.0), "at least one candidate in every row"),
        (
            lambda: utility_probability(U, 1.0, np.zeros(4, dtype=bool)),
            "mask must leave a candidate of finite value in every row",
        ),
        (lambda: utility_probability(U, 1.0, np.ones(3, dtype=bool)), "shapes must broadcast"),
        (
            lambda: sharpening_slope(U, np.array([0.0, 0.0, 0.0, np.inf]), 1.0),
            "value must be finite",
        ),
        (lambda: revealed_margin(U, np.asarray(4)), "chosen must be >= 0 and < 4"),
        (lambda: revealed_margin(U, np.array([0, 1])), "chosen must have shape"),
        (lambda: revealed_margin(U[:1], np.asarray(0)), "at least two responses"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
