"""The mode of a logistic regression under a Laplace prior."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefsim.numerics import softplus
from prefsim.solvers.likelihood.sparse_logistic import fit_sparse_logistic
from prefsim.solvers.results import ConvergenceWarning

HAS = np.array([1.0, 1.0, 1.0, -1.0, 0.0, 1.0])[:, None]
FIRST = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0])


def drawn(seed, n=60, p=5, batch=()):
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 2, (*batch, n, p)).astype(float), rng.integers(0, 2, (*batch, n)) * 1.0


def test_known_modes():
    assert fit_sparse_logistic(HAS, FIRST).weights[0] == 0
    assert fit_sparse_logistic(HAS, FIRST, scale=1.0).weights[0] == pytest.approx(np.log(1.5))
    many = fit_sparse_logistic(HAS, FIRST, weight=np.full(6, 30.0))
    assert many.weights[0] == pytest.approx(1.0116, abs=5e-5)
    wide = fit_sparse_logistic(HAS, FIRST, scale=1e9)
    assert wide.weights[0] == pytest.approx(np.log(4), abs=1e-7)


@given(st.integers(0, 10**6), st.floats(0.02, 3.0))
def test_no_other_optimiser_ends_lower(seed, scale):
    x, y = drawn(seed)

    def split(both):
        z = x @ (both[:5] - both[5:])
        return np.sum(softplus(z) - y * z) + both.sum() / scale

    found = fit_sparse_logistic(x, y, scale=scale)
    other = minimize(split, np.full(10, 0.01), bounds=[(0, None)] * 10, method="L-BFGS-B")
    assert found.value <= other.fun + 1e-9
    assert found.value == pytest.approx(other.fun, abs=1e-3)
    assert found.residual <= 1e-9


@given(st.integers(0, 10**6))
def test_a_batch_is_its_members_and_weights_are_repetitions(seed):
    x, y = drawn(seed, batch=(3,))
    weight = np.random.default_rng(seed).integers(0, 3, 60)
    many = fit_sparse_logistic(x, y, weight=weight)
    for i in range(3):
        alone = fit_sparse_logistic(np.repeat(x[i], weight, axis=0), np.repeat(y[i], weight))
        np.testing.assert_allclose(many.weights[i], alone.weights, atol=1e-9)
        assert many.value[i] == pytest.approx(float(alone.value))
    folds = np.arange(5)[:, None] != np.arange(60) % 5
    assert fit_sparse_logistic(x[0], y[0], weight=folds).weights.shape == (5, 5)


def test_equal_columns_share_and_constant_ones_have_nothing():
    x, y = drawn(3)
    x = np.concatenate([x[:, :2], x[:, :1], np.zeros((60, 1))], axis=1)
    found = fit_sparse_logistic(x, (x[:, 0] > 0) * 1.0, scale=1.0)
    assert found.weights[0] == pytest.approx(found.weights[2]) and found.weights[0] > 0.1
    assert found.weights[3] == 0
    assert fit_sparse_logistic(np.zeros((4, 2)), y[:4]).weights.tolist() == [0, 0]


def test_separable_choices_have_a_finite_mode():
    found = fit_sparse_logistic(np.ones((50, 1)), np.ones(50), scale=1.0)
    assert found.weights[0] == pytest.approx(np.log(49))


def test_too_few_steps_are_told():
    x, y = drawn(0, n=500, p=40)
    x[:, 1:] = x[:, :1] + 0.01 * x[:, 1:]
    with pytest.warns(ConvergenceWarning, match="the mode has a residual of"):
        fit_sparse_logistic(x, y, scale=100.0, max_iterations=1, tolerance=1e-16)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"features": HAS[:, 0]}, "features must have at least 2 axes"),
        ({"prob": FIRST[:3]}, "must have one length"),
        ({"prob": FIRST + 0.5}, "prob must lie in"),
        ({"weight": -np.ones(6)}, "weight must be >= 0"),
        ({"features": np.ones((6, 0))}, "at least one feature"),
        ({"scale": 0.0}, "scale must be"),
    ],
)
def test_bad_input(given_, message):
    with pytest.raises(ValueError, match=message):
        fit_sparse_logistic(**{"features": HAS, "prob": FIRST, **given_})
