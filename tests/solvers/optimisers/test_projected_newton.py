"""Projected Newton between bounds: minima inside, at edges, and none at all."""

import numpy as np
import pytest
from scipy.optimize import minimize

from prefsim.solvers.optimisers.projected_newton import Bounded, minimise_between

RNG = np.random.default_rng(0)
B, N = 6, 3
SLOPE = RNG.standard_normal((B, N))
POINTS = RNG.standard_normal((B, 8, N))
LOW, HIGH = np.full((B, N), -0.4), np.full((B, N), 0.6)


def value(rows, x):
    """The logarithm of a sum of exponentials, and a slope."""
    return np.log(np.exp(np.einsum("bkn,bn->bk", POINTS[rows], x)).sum(-1)) + (SLOPE[rows] * x).sum(
        -1
    )


def shares(rows, x):
    weight = np.exp(np.einsum("bkn,bn->bk", POINTS[rows], x))
    return weight / weight.sum(-1, keepdims=True)


def gradient(rows, x):
    return np.einsum("bk,bkn->bn", shares(rows, x), POINTS[rows]) + SLOPE[rows]


def hessian(rows, x):
    weight = shares(rows, x)
    centred = POINTS[rows] - np.einsum("bk,bkn->bn", weight, POINTS[rows])[:, None]
    return np.einsum("bk,bki,bkj->bij", weight, centred, centred)


def test_the_minimum_is_that_of_a_general_optimiser():
    found = minimise_between(
        Bounded(value, gradient, hessian, LOW, HIGH),
        np.zeros((B, N)),
        tolerance=1e-12,
        max_iterations=50,
    )
    assert (found.residual <= 1e-12).all()
    for i in range(B):
        rows = np.array([i])
        other = minimize(
            lambda x, rows=rows: value(rows, x[None])[0],
            np.zeros(N),
            jac=lambda x, rows=rows: gradient(rows, x[None])[0],
            method="L-BFGS-B",
            bounds=[(-0.4, 0.6)] * N,
            options={"ftol": 0.0, "gtol": 1e-10},
        )
        assert value(rows, found.minimiser[rows])[0] <= other.fun + 1e-12
        np.testing.assert_allclose(found.minimiser[i], other.x, atol=1e-5)
    held = (found.minimiser == LOW) | (found.minimiser == HIGH)
    assert held.any() and not held.all()


def test_what_falls_below_its_floor_is_given_up():
    free = np.full((B, N), np.inf)
    # Beyond the hull of the points nothing holds the slope.
    slope = np.where(np.arange(B)[:, None] == 2, 5.0, 0.0) - POINTS.mean(axis=1)

    def tilted(rows, x):
        return value(rows, x) + ((slope - SLOPE)[rows] * x).sum(-1)

    def tilted_gradient(rows, x):
        return gradient(rows, x) + (slope - SLOPE)[rows]

    problem = Bounded(tilted, tilted_gradient, hessian, -free, free, np.full(B, -20.0))
    found = minimise_between(problem, np.zeros((B, N)), tolerance=1e-9, max_iterations=500)
    lost = np.arange(B) == 2
    assert (found.residual[~lost] <= 1e-9).all() and found.residual[2] > 0.1
    assert tilted(np.array([2]), found.minimiser[2:3])[0] < -20.0
    assert found.iterations < 60


def test_far_from_the_origin_a_slope_is_no_rounding():
    far = np.full((1, 1), 1e20)
    problem = Bounded(
        lambda rows, x: -x[:, 0],
        lambda rows, x: -np.ones_like(x),
        lambda rows, x: np.zeros((len(x), 1, 1)),
        np.zeros((1, 1)),
        np.full((1, 1), np.inf),
    )
    assert minimise_between(problem, far, tolerance=1e-9, max_iterations=1).residual[0] == 1.0


@pytest.mark.parametrize("change", [{"tolerance": 0.0}, {"max_iterations": 0}])
def test_bad_options(change):
    problem = Bounded(value, gradient, hessian, LOW, HIGH)
    options = {"tolerance": 1e-9, "max_iterations": 5} | change
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
        minimise_between(problem, np.zeros((B, N)), **options)
