"""The classifier of prompts: the ratio of two densities, by its optimality and by sampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsim.losses import density_ratio_weights
from prefsim.solvers.likelihood.prompt_classifier import fit_prompt_classifier


def check_the_gradient(x, up, ridge):
    found = fit_prompt_classifier(x, up, ridge=ridge)
    z, p = (x - x.mean(0)) / x.std(0), found.prob(x)
    weight = np.where(up, 0.5 / up.sum(), 0.5 / (~up).sum())
    slope = z.T @ (weight * (p - up)) + ridge * found.weights
    np.testing.assert_allclose(slope, 0, atol=1e-10)
    assert (weight * (p - up)).sum() == pytest.approx(0, abs=1e-10)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(z @ found.weights + found.bias))), rtol=1e-12)


@settings(max_examples=15)
@given(st.integers(0, 999), st.sampled_from([1e-3, 0.1, 2.0]))
def test_the_gradient_vanishes(seed, ridge):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 3)) * [1.0, 100.0, 0.01] + [0.0, 5.0, -3.0]
    up = rng.random(40) < 0.3
    up[:2] = True, False
    check_the_gradient(x, up, ridge)


def test_the_gradient_vanishes_where_whole_newton_steps_lead_astray():
    x = np.asarray([[3.6, -2.0], [-3.7, -33.7], [0.8, 10.3], [0.3, -0.7]])
    check_the_gradient(x, np.asarray([True, False, False, False]), 1.8e-6)


def test_odds_are_the_ratio_of_densities_whatever_the_classes_count():
    """Normal prompts around ±μ: the log-ratio is 2μ·x, with a fifth as many of one class."""
    rng, mean = np.random.default_rng(0), np.asarray([0.5, -0.25])
    up, down = rng.normal(mean, 1, (40_000, 2)), rng.normal(-mean, 1, (8_000, 2))
    features = np.concatenate([up, down])
    found = fit_prompt_classifier(features, np.arange(48_000) < 40_000, ridge=1e-9)
    at = np.asarray([[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]])
    ratio = density_ratio_weights(found.prob(at), low=0.0, high=1e9)
    np.testing.assert_allclose(np.log(ratio), 2 * at @ mean, atol=0.05)


def test_a_constant_feature_and_separable_classes():
    x = np.asarray([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    found = fit_prompt_classifier(x, np.asarray([False, False, True, True]))
    assert found.weights[0] == pytest.approx(0, abs=1e-12)
    assert np.isfinite(found.weights).all()
    assert (np.diff(found.prob(x)) > 0).all()


@pytest.mark.parametrize(
    ("features", "desirable", "options", "message"),
    [
        (np.ones((2, 1)), [True, True], {}, "both classes, got 2 true of 2"),
        (np.ones((2, 1)), [False, False], {}, "both classes, got 0 true of 2"),
        (np.ones((2, 1)), [0, 1], {}, "desirable must hold booleans"),
        (np.ones((2, 1)), [True], {}, "desirable must have trailing shape"),
        (np.ones(2), [True, False], {}, "features"),
        ([[np.nan], [0.0]], [True, False], {}, "features must be finite"),
        (np.ones((2, 1)), [True, False], {"ridge": 0.0}, "ridge must be a finite number > 0"),
    ],
)
def test_bad_input(features, desirable, options, message):
    with pytest.raises(ValueError, match=message):
        fit_prompt_classifier(features, np.asarray(desirable), **options)


def test_bad_features_of_new_prompts():
    found = fit_prompt_classifier([[0.0], [1.0]], np.asarray([False, True]))
    for features in ([[np.nan]], 1.0):
        with pytest.raises(ValueError, match=r"^features must "):
            found.prob(features)
