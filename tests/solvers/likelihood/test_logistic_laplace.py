"""The Gaussian that touches the posterior of a logistic regression at its mode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize

from prefsim.numerics import sigmoid
from prefsim.solvers.likelihood.logistic_laplace import logistic_laplace
from prefsim.solvers.results import ConvergenceWarning


def problem(seed, n=30, p=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, p)), (rng.random(n) < 0.6) * 1.0, rng.standard_normal(p)


@given(st.integers(0, 10**6), st.floats(0.1, 5.0))
def test_nothing_is_left_at_the_mode(seed, deviation):
    x, y, centre = problem(seed)
    found = logistic_laplace(x, y, mean=centre, deviation=deviation)
    q = sigmoid(x @ found.mean)
    left = x.T @ (q - y) + (found.mean - centre) / deviation**2
    np.testing.assert_allclose(left, 0.0, atol=1e-9)
    curvature = (q * (1 - q)) @ x**2 + 1 / deviation**2
    np.testing.assert_allclose(found.deviation, curvature**-0.5, rtol=1e-9)


def test_the_mode_by_another_solver():
    x, y, centre = problem(3)

    def value(theta):
        z = x @ theta
        return (np.logaddexp(0, z) - y * z).sum() + ((theta - centre) ** 2).sum() / 8

    expected = minimize(value, centre, method="BFGS", options={"gtol": 1e-9}).x
    found = logistic_laplace(x, y, mean=centre, deviation=2.0).mean
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_data_make_it_the_posterior():
    x, prob = np.array([[1.0], [-0.5]]), np.array([0.7, 0.4])
    found = logistic_laplace(x, prob, mean=0.0, deviation=1.0, weight=[4000.0, 4000.0])

    def log_density(theta):
        z = x[:, 0] * theta
        return -(np.logaddexp(0, z) - prob * z).sum() * 4000 - theta**2 / 2

    def density(theta):
        return np.exp(log_density(theta) - log_density(found.mean[0]))

    around = found.mean[0] + 10 * np.array([-1, 1]) * found.deviation[0]
    total = quad(density, *around)[0]
    mean = quad(lambda t: t * density(t), *around)[0] / total
    variance = quad(lambda t: (t - mean) ** 2 * density(t), *around)[0] / total
    assert mean == pytest.approx(found.mean[0], abs=2e-3)
    assert np.sqrt(variance) == pytest.approx(found.deviation[0], rel=1e-2)


def test_leading_axes_are_separate_and_far_priors_are_reached():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((3, 1, 20, 2)), (rng.random((3, 1, 20)) < 0.5) * 1.0
    deviation = np.array([[0.1, 0.1], [1.0, 5.0]])
    centre = np.array([30.0, -30.0])  # where all predictions are certain, and many wrong
    found = logistic_laplace(x, y, mean=centre, deviation=deviation)
    assert found.mean.shape == found.deviation.shape == (3, 2, 2)
    assert found.residual.shape == (3, 2)
    alone = logistic_laplace(x[2, 0], y[2, 0], mean=centre, deviation=deviation[1])
    np.testing.assert_allclose(found.mean[2, 1], alone.mean, atol=1e-10)


def test_weights_count_rows():
    x, y, _ = problem(5)
    weight = np.arange(30) % 3
    counted = logistic_laplace(x, y, mean=0.0, deviation=1.0, weight=weight)
    repeated = logistic_laplace(
        np.repeat(x, weight, axis=0), np.repeat(y, weight), mean=0.0, deviation=1.0
    )
    np.testing.assert_allclose(counted.mean, repeated.mean, atol=1e-12)
    np.testing.assert_allclose(counted.deviation, repeated.deviation, atol=1e-12)


def test_priors_may_be_many():
    x, y, _ = problem(4)
    p = x.shape[-1]
    means = np.random.default_rng(4).normal(size=(3, p))
    together = logistic_laplace(x, y, mean=means, deviation=0.5)
    assert together.mean.shape == together.deviation.shape == (3, p)
    for i, mean in enumerate(means):
        alone = logistic_laplace(x, y, mean=mean, deviation=0.5)
        np.testing.assert_allclose(together.mean[i], alone.mean, atol=1e-9)


def test_too_few_steps_are_said():
    x, y, _ = problem(7)
    with pytest.warns(ConvergenceWarning, match="residual"):
        logistic_laplace(x, y, mean=0.0, deviation=1.0, max_iterations=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"deviation": 0.0}, "deviation must be > 0"),
        ({"mean": np.zeros(3)}, "mean must have trailing shape"),
        ({"prob": np.full(30, 1.5)}, "prob must lie in"),
        ({"weight": np.full(30, -1.0)}, "weight must be >= 0"),
        ({"tolerance": 0.0}, "tolerance must"),
        ({"max_iterations": 0}, "max_iterations must"),
    ],
)
def test_bad_input(change, message):
    x, y, _ = problem(0)
    given = {"features": x, "prob": y, "mean": 0.0, "deviation": 1.0} | change
    with pytest.raises(ValueError, match=message):
        logistic_laplace(**given)
