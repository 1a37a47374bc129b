"""The largest margin, against a general convex solver, its certificate, and worlds without one."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.likelihood.hard_margin import hard_margin


def separable(seed, n=10, d=4):
    rng = np.random.default_rng(seed)
    rows, direction = rng.standard_normal((n, d)), rng.standard_normal(d)
    return rows * np.sign(rows @ direction)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_against_a_convex_solver(seed):
    rows = separable(seed)
    weights = cp.Variable(4)
    cp.Problem(cp.Minimize(cp.sum_squares(weights)), [rows @ weights >= 1]).solve()
    size = np.linalg.norm(weights.value)
    found = hard_margin(rows)
    assert found.margin == pytest.approx(1 / size, rel=1e-6)
    np.testing.assert_allclose(found.direction, weights.value / size, atol=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 6), st.floats(-8.0, 8.0))
def test_the_certificate_is_met_at_every_scale(seed, n, d, exponent):
    rows = 10.0**exponent * separable(seed, n, d)
    found = hard_margin(rows)
    assert found.margin > 0
    assert np.linalg.norm(found.direction) == pytest.approx(1.0)
    assert (rows @ found.direction).min() == pytest.approx(found.margin, rel=1e-12)
    assert abs(found.gap) <= 1e-7 * np.linalg.norm(rows, axis=-1).max()


def test_no_weights_rank_what_contradicts_itself():
    row = np.array([[1.0, 2.0], [-1.0, -2.0], [0.5, 0.0]])
    found = hard_margin(row)
    assert (found.margin, found.gap) == (0.0, pytest.approx(0.0, abs=1e-12))
    np.testing.assert_array_equal(found.direction, 0.0)
    assert hard_margin(np.zeros((3, 2))).margin == 0.0


def test_leading_axes_are_problems_of_their_own():
    rows = np.stack([[separable(seed) for seed in (0, 1)], [separable(2), -np.eye(10, 4)]])
    found = hard_margin(rows)
    assert found.margin.shape == (2, 2)
    assert found.direction.shape == (2, 2, 4)
    for i, j in np.ndindex(2, 2):
        alone = hard_margin(rows[i, j])
        assert alone.margin == found.margin[i, j]
        np.testing.assert_array_equal(alone.direction, found.direction[i, j])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((0, 3)), "at least one comparison"),
        (np.zeros(3), "at least 2 axes"),
        ([[np.inf, 0.0]], "differences must be finite"),
    ],
)
def test_what_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        hard_margin(rows)
