"""Projected Newton in a box against its objective by definition and a general optimiser."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp

from prefsim.solvers.optimisers import box_newton
from prefsim.solvers.optimisers.box_newton import BoxProblem, minimise_in_box

BATCH, N, BETA = 4, 5, 0.6
RNG = np.random.default_rng(0)
REFERENCE = RNG.normal(size=(BATCH, N))
PROBLEM = BoxProblem(
    linear=RNG.normal(size=(BATCH, N)),
    tilt=RNG.uniform(0.5, 3.0, BATCH),
    log_reference=REFERENCE - logsumexp(REFERENCE, axis=-1, keepdims=True),
    beta=BETA,
    wins=RNG.poisson(1.5, (BATCH, N, N)) * (1.0 - np.eye(N)),
    low=np.full((BATCH, N), -1.0),
    high=np.full((BATCH, N), 0.5),
)


def value(i, r):
    won = PROBLEM.wins[i] * log_expit(r[:, None] - r[None, :])
    partition = PROBLEM.tilt[i] * BETA * logsumexp(PROBLEM.log_reference[i] + r / BETA)
    return partition + PROBLEM.linear[i] @ r - won.sum()


@pytest.fixture
def found():
    return minimise_in_box(PROBLEM, tolerance=1e-10, max_iterations=100)


@pytest.mark.parametrize("i", range(BATCH))
def test_the_minimum_is_that_of_a_general_optimiser(found, i):
    bounds = list(zip(PROBLEM.low[i], PROBLEM.high[i], strict=True))
    other = minimize(
        lambda r: value(i, r),
        np.zeros(N),
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 0.0, "gtol": 1e-9},
    )
    point = found.minimiser[i]
    assert value(i, point) <= other.fun + 1e-12
    np.testing.assert_allclose(point, other.x, atol=1e-5)


def test_few_steps_end_at_the_tolerance():
    found = minimise_in_box(PROBLEM, tolerance=1e-10, max_iterations=100)
    assert (found.residual <= 1e-10).all() and (found.gap >= 0).all()
    assert (found.gap <= 1e-8).all() and 1 <= found.iterations <= 6
    at_bounds = (found.minimiser == PROBLEM.low) | (found.minimiser == PROBLEM.high)
    assert at_bounds.any() and not at_bounds.all()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_gap_bounds_what_is_left(found, steps):
    early = minimise_in_box(PROBLEM, tolerance=1e-14, max_iterations=steps)
    assert early.iterations == steps
    for i in range(BATCH):
        left = value(i, early.minimiser[i]) - value(i, found.minimiser[i])
        assert -1e-12 <= left <= early.gap[i] + 1e-12


def test_a_start_outside_the_box_is_put_on_its_edge():
    raised = PROBLEM._replace(low=np.full((BATCH, N), 0.2))
    found = minimise_in_box(raised, tolerance=1e-10, max_iterations=100)
    assert (found.minimiser >= 0.2).all() and (found.residual <= 1e-10).all()


def test_a_slope_that_does_not_curve_leads_to_the_edge():
    # Two of three were compared; the third only has a faint slope, and the box is wide.
    n = 3
    wins = np.zeros((1, n, n))
    wins[0, 0, 1] = wins[0, 1, 0] = 0.1
    linear = np.array([[0.0, 0.0, 1e-5]])
    problem = BoxProblem(
        linear,
        np.zeros(1),
        np.zeros((1, n)),
        1.0,
        wins,
        np.full((1, n), -4.0),
        np.full((1, n), 4.0),
    )
    found = minimise_in_box(problem, tolerance=1e-10, max_iterations=20)
    np.testing.assert_allclose(found.minimiser, [[0.0, 0.0, -4.0]], atol=1e-9)
    assert found.residual[0] <= 1e-10


@pytest.mark.parametrize("slope", [0.0, 1.0, -1.0])
def test_an_edge_at_infinity_gains_nothing_without_a_slope(slope):
    linear = np.array([[0.5, slope], [0.5, slope]])
    problem = BoxProblem(
        linear,
        np.zeros(2),
        np.zeros((2, 2)),
        1.0,
        np.zeros((2, 2, 2)),
        np.array([[-1.0, -1.0], [-1.0, -np.inf]]),
        np.array([[1.0, 3.0], [1.0, np.inf]]),
    )
    point = np.zeros((2, 2))
    with np.errstate(all="raise"):
        gap = box_newton._gap(problem, point, linear)
    room = {0.0: 0.0, 1.0: 1.0, -1.0: 3.0}[slope]
    np.testing.assert_array_equal(gap, [0.5 + room, np.inf if slope else 0.5])
