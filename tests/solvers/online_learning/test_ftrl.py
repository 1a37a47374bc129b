"""Regularised leaders: closed forms, bisection, projections, and what has no gradient."""

import pickle

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.online_learning.ftrl import (
    ENTROPY,
    EUCLIDEAN,
    Regulariser,
    ftrl,
    ftrl_ball,
    project_to_ball,
    project_to_simplex,
    tsallis,
)
from prefsim.solvers.online_learning.hedge import hedge
from prefsim.testing.bandits import tables

L = np.array([0.3, 1.2, -0.4])
ROWS = st.tuples(st.integers(1, 3), st.integers(1, 6)).flatmap(
    lambda shape: tables(shape, low=-50.0, high=50.0)
)


@given(ROWS)
def test_bisection_ends_at_the_closed_forms(rows):
    for regulariser in (ENTROPY, EUCLIDEAN):
        exact = ftrl(rows, step=0.3, regulariser=regulariser)
        found = ftrl(rows, step=0.3, regulariser=regulariser._replace(exact=None))
        np.testing.assert_allclose(found, exact, atol=1e-12)


@given(ROWS)
def test_tsallis_joins_them(rows):
    np.testing.assert_allclose(
        ftrl(rows, step=0.6, regulariser=tsallis(2.0)),
        ftrl(rows, step=0.3, regulariser=EUCLIDEAN),
        atol=1e-12,
    )
    near_one = ftrl(rows / 50, step=0.3, regulariser=tsallis(1 + 1e-6))
    np.testing.assert_allclose(near_one, hedge(rows / 50, step=0.3), atol=1e-5)
    assert tsallis(1.0) is ENTROPY


@pytest.mark.parametrize("regulariser", [ENTROPY, EUCLIDEAN, tsallis(0.5)])
def test_regularisers_reach_other_processes(regulariser):
    sent = pickle.loads(pickle.dumps(regulariser))
    losses = np.array([0.3, 1.2, -0.4])
    np.testing.assert_array_equal(
        ftrl(losses, step=0.7, regulariser=sent), ftrl(losses, step=0.7, regulariser=regulariser)
    )


def test_a_regulariser_of_ones_own():
    # Minus the logarithm: p = 1/(ηL − λ).
    barrier = Regulariser(lambda p: -1.0 / p, lambda s: -1.0 / s)
    found = ftrl(L, step=0.7, regulariser=barrier)
    multipliers = 1 / found - 0.7 * L
    np.testing.assert_allclose(multipliers, multipliers[0], rtol=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-14)
    assert (found > 0).all()


def test_far_losses_leave_nothing_or_little():
    far = np.array([0.0, 1e8, 1e3])
    assert (ftrl(far, step=1.0, regulariser=EUCLIDEAN) == [1.0, 0.0, 0.0]).all()
    little = ftrl(far, step=1.0, regulariser=tsallis(0.5))
    # Of order 4/L² with q = ½.
    assert 0 < little[1] < 1e-15 < little[2] < 1e-5


@given(ROWS)
def test_the_projection_is_the_nearest_distribution(rows):
    found = project_to_simplex(rows)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-12)
    assert (found >= 0).all()
    # No vertex is on the other side of the plane through it.
    away = rows - found
    ahead = away.max(axis=-1) - (away * found).sum(axis=-1)
    np.testing.assert_allclose(ahead, 0.0, atol=1e-10)
    np.testing.assert_allclose(project_to_simplex(found), found, atol=1e-14)


def test_the_ball():
    np.testing.assert_allclose(project_to_ball([[3.0, 4.0], [0.3, 0.4]]), [[0.6, 0.8], [0.3, 0.4]])
    np.testing.assert_allclose(ftrl_ball([3.0, 4.0], step=0.5, radius=2.0), [-1.2, -1.6])
    steps = np.array([0.1, 9.0])
    both = ftrl_ball(np.array([[3.0, 4.0], [3.0, 4.0]]), step=steps)
    np.testing.assert_allclose(both, [[-0.3, -0.4], [-0.6, -0.8]])
    assert (project_to_ball(np.zeros(3)) == 0).all()


def test_on_other_libraries():
    strict = array_api_strict.asarray(L)
    for regulariser in (ENTROPY, EUCLIDEAN, tsallis(0.5)):
        expected = ftrl(L, step=0.7, regulariser=regulariser)
        np.testing.assert_allclose(
            np.asarray(ftrl(strict, step=0.7, regulariser=regulariser)), expected, rtol=1e-12
        )
        found = ftrl(torch.tensor(L), step=0.7, regulariser=regulariser)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    moving = torch.tensor(L, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ftrl(x, step=0.7, regulariser=EUCLIDEAN), moving)
    assert torch.autograd.gradcheck(lambda x: ftrl_ball(x, step=2.0), moving)
    with pytest.raises(ValueError, match="cumulative_loss is a torch tensor that requires a grad"):
        ftrl(moving, step=0.7, regulariser=tsallis(0.5))


def test_bad_input():
    with pytest.raises(ValueError, match="order must be a finite number > 0"):
        tsallis(0.0)
    with pytest.raises(TypeError, match="regulariser"):
        ftrl(L, step=1.0, regulariser="entropy")


def test_far_points_are_projected():
    far = np.array([3e200, -4e200])
    np.testing.assert_allclose(project_to_ball(far), [0.6, -0.8], rtol=1e-15)
    single = np.array([3e20, -4e20], dtype=np.float32)
    np.testing.assert_allclose(project_to_ball(single), [0.6, -0.8], rtol=1e-6)
    near = np.array([3e-200, -4e-200])
    np.testing.assert_allclose(project_to_ball(near, radius=1e-200), near / 5.0, rtol=1e-14)
    np.testing.assert_array_equal(project_to_ball(near), near)


@pytest.mark.parametrize("project", [project_to_ball, project_to_simplex])
def test_infinite_points_have_no_projection(project):
    with pytest.raises(ValueError, match="points must be finite, got inf at index 1"):
        project(np.array([0.0, np.inf]))


@pytest.mark.parametrize("regulariser", [ENTROPY, EUCLIDEAN, tsallis(0.5)])
def test_infinite_losses_are_refused(regulariser):
    with pytest.raises(ValueError, match="cumulative_loss must be finite, got inf at index 1"):
        ftrl(np.array([0.0, np.inf]), step=1.0, regulariser=regulariser)
