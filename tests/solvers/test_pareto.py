"""Sets of trade-offs, against moocore, many weights and values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from several_rewards import process

from prefsim.solvers import (
    convex_coverage_set,
    convex_front,
    crowding_distance,
    non_dominated,
    weight_grid,
)
from prefsim.solvers.planning import constrained_program, objective_returns

moocore = pytest.importorskip("moocore")

FOUR = [[1.0, 4.0], [2.0, 3.0], [3.0, 1.0], [2.0, 2.0]]
COUNTED = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: hnp.arrays(np.int64, shape, elements=st.integers(0, 4))
)


@given(COUNTED)
def test_non_dominated_as_moocore_has_it(points):
    expected = moocore.is_nondominated(points.astype(float), maximise=True, keep_weakly=False)
    np.testing.assert_array_equal(non_dominated(points), expected)
    kept = points[non_dominated(points, tolerance=1e-9)]
    np.testing.assert_array_equal(np.unique(kept, axis=0), np.unique(points[expected], axis=0))


def test_known_sets():
    np.testing.assert_array_equal(non_dominated(FOUR), [True, True, True, False])
    np.testing.assert_array_equal(non_dominated(np.zeros((0, 2))), np.zeros(0, dtype=bool))
    # Better by no more than the tolerance is no better, in whatever order they come.
    near = np.array([[1.0, 1.0], [1.0 + 1e-7, 1.0 - 1e-12], [0.0, 2.0]])
    assert non_dominated(near).all()
    for order in ([0, 1, 2], [2, 1, 0]):
        assert non_dominated(near[order], tolerance=1e-6).sum() == 2


def test_crowding():
    found = crowding_distance([[1.0, 4.0], [2.0, 3.0], [2.5, 2.5], [3.0, 1.0]])
    np.testing.assert_allclose(found, [np.inf, 1.25, 7 / 6, np.inf])
    # An objective without differences adds nothing, not 0 / 0.
    flat = crowding_distance([[0.0, 5.0], [1.0, 5.0], [4.0, 5.0]])
    np.testing.assert_array_equal(flat, [np.inf, 1.0, np.inf])
    # Equal points are as lonely as one of them.
    twice = crowding_distance([[0.0, 2.0], [1.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    np.testing.assert_array_equal(twice, [np.inf, 2.0, 2.0, np.inf])
    np.testing.assert_array_equal(crowding_distance([[1.0, 2.0]] * 2), [np.inf, np.inf])
    assert crowding_distance(np.zeros((0, 3))).shape == (0,)


def test_crowding_does_not_depend_on_order():
    points = np.random.default_rng(0).integers(0, 4, size=(8, 3)).astype(float)
    order = np.random.default_rng(1).permutation(8)
    np.testing.assert_allclose(crowding_distance(points)[order], crowding_distance(points[order]))


@given(st.integers(1, 4), st.integers(1, 10))
def test_grids(count, parts):
    grid = weight_grid(count, parts)
    assert grid.shape == (math.comb(parts + count - 1, parts), count)
    np.testing.assert_allclose(grid.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_array_equal(np.unique(np.round(grid * parts), axis=0)[::-1], grid * parts)


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 0), (2, 1), (3, 2), (4, 3)])
def test_corners_of_points(count, seed):
    rng = np.random.default_rng(seed)
    points = rng.random((20, count))
    corners = convex_coverage_set(lambda weights: points[np.argmax(points @ weights)], count)
    weights = rng.dirichlet(np.ones(count), size=2000)
    best = points @ weights.T
    np.testing.assert_allclose((corners @ weights.T).max(axis=0), best.max(axis=0), atol=1e-12)
    seen = {tuple(points[k]) for k in np.argmax(best, axis=0)}
    assert seen <= set(map(tuple, corners)) and len(set(map(tuple, corners))) == len(corners)
    assert (np.diff(corners[:, 0]) <= 0).all()


@pytest.mark.parametrize("count", [2, 3, 4])
def test_corners_are_those_of_the_programs(count):
    """With cvxpy: a point is a corner if some weights put it above all others."""
    cvxpy = pytest.importorskip("cvxpy")
    points = np.random.default_rng(count).random((8, count))
    corners = convex_coverage_set(lambda weights: points[np.argmax(points @ weights)], count)
    weights, lead = cvxpy.Variable(count, nonneg=True), cvxpy.Variable()
    for place, point in enumerate(points):
        others = np.delete(points, place, axis=0)
        above = [(point - others) @ weights >= lead, cvxpy.sum(weights) == 1]
        most = cvxpy.Problem(cvxpy.Maximize(lead), above).solve(solver="CLARABEL")
        assert (most > 1e-7) == (point == corners).all(axis=1).any()


def test_points_on_an_edge_are_no_corners():
    points = np.array([[0.0, 4.0], [2.0, 2.0], [1.0, 3.0], [4.0, 0.0], [1.0, 1.0]])
    found = convex_coverage_set(lambda weights: points[np.argmax(points @ weights)], 2)
    np.testing.assert_array_equal(found, [[4.0, 0.0], [0.0, 4.0]])


@pytest.mark.parametrize("count", [2, 3])
def test_the_front_of_a_process(count):
    mdp = process(11, n_objectives=count, n_states=4)
    front = convex_front(mdp)
    np.testing.assert_allclose(objective_returns(mdp, front.policy), front.returns, atol=1e-9)
    weights = np.random.default_rng(0).dirichlet(np.ones(count), size=25)
    best = constrained_program(mdp, weights).value
    np.testing.assert_allclose((weights @ front.returns.T).max(axis=1), best, atol=1e-8)
    assert non_dominated(front.returns).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: non_dominated([1.0, 2.0]), "points must have 2 axes"),
        (lambda: non_dominated([[np.nan]]), "points must be finite"),
        (lambda: non_dominated(FOUR, tolerance=-1.0), "tolerance must be"),
        (lambda: crowding_distance([1.0]), "points must have 2 axes"),
        (lambda: weight_grid(0, 2), "n_objectives must be"),
        (lambda: weight_grid(2, 1.5), "parts must be"),
        (lambda: convex_coverage_set(lambda w: [1.0], 2), "best must have"),
        (lambda: convex_coverage_set(lambda w: [np.nan, 1.0], 2), "best must be finite"),
        (lambda: convex_coverage_set(lambda w: w, 3, max_points=2), "more corners than"),
        (lambda: convex_coverage_set(lambda w: w, 0), "n_objectives must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e9])
def test_corners_of_any_size(size):
    mdp = process(0, n_objectives=2)
    known = convex_front(mdp).returns
    found = convex_front(mdp.replace_checked(reward=size * mdp.reward)).returns
    assert len(found) == len(known) > 2
    np.testing.assert_allclose(found / size, known, rtol=1e-9)
