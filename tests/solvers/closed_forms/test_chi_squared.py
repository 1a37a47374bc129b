"""The optimum under a pure χ² penalty against a conic solver, its conditions and its threshold."""

import array_api_strict
import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.solvers.closed_forms.chi_squared import chi_squared_optimum
from prefsim.testing.bandits import bandits_with_reference, betas


@pytest.mark.parametrize("beta", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_a_conic_solver(seed, beta):
    rng = np.random.default_rng(seed)
    reward, reference = rng.standard_normal(6), rng.dirichlet(np.ones(6))
    policy = cp.Variable(6)
    penalty = cp.sum(cp.multiply(1 / reference, cp.square(policy - reference)))
    problem = cp.Problem(
        cp.Maximize(reward @ policy - beta * penalty), [cp.sum(policy) == 1, policy >= 0]
    )
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    np.testing.assert_allclose(
        chi_squared_optimum(reward, reference, beta=beta).policy, policy.value, atol=1e-5
    )


@given(bandits_with_reference(), betas(0.01, 10.0))
def test_conditions_of_the_optimum(instance, beta):
    world, reference = instance
    found = chi_squared_optimum(world.reward, reference.probs, beta=beta)
    assert found.residual.max() <= 1e-13
    implied = 2 * beta * (found.policy / reference.probs - 1) + found.multiplier[:, None]
    scale = 1e-12 * (1 + beta + np.abs(world.reward).max())
    assert np.all(implied >= world.reward - scale)
    assert np.all(np.abs(implied - world.reward)[found.policy > 0] <= scale)


def test_above_the_threshold_every_response_is_kept_and_below_one_is_dropped():
    reward, reference = np.asarray([1.0, 0.0, -1.0]), np.asarray([0.5, 0.3, 0.2])
    for beta, kept in ((0.651, 3), (0.649, 2), (0.01, 1)):
        found = chi_squared_optimum(reward, reference, beta=beta)
        assert int(np.sum(found.policy > 0)) == kept
    assert chi_squared_optimum(reward, reference, beta=2.0).multiplier == pytest.approx(
        0.3
    )  # E_ref r


def test_ties_batches_and_responses_outside_the_reference():
    np.testing.assert_allclose(
        chi_squared_optimum(np.zeros(3), np.asarray([0.2, 0.5, 0.3]), beta=0.1).policy,
        [0.2, 0.5, 0.3],
    )
    outside = chi_squared_optimum(
        np.asarray([9.0, 1.0, 0.0]), np.asarray([0.0, 0.5, 0.5]), beta=0.1
    )
    np.testing.assert_allclose(outside.policy, [0.0, 1.0, 0.0])
    rewards = np.random.default_rng(0).standard_normal((4, 3, 5))
    batch = chi_squared_optimum(rewards, np.full(5, 0.2), beta=0.3)
    assert batch.policy.shape == (4, 3, 5)
    np.testing.assert_allclose(
        batch.policy[2, 1], chi_squared_optimum(rewards[2, 1], np.full(5, 0.2), beta=0.3).policy
    )


def test_namespaces_agree():
    reward, reference = np.asarray([1.0, 0.0, -1.0]), np.asarray([0.5, 0.3, 0.2])
    expected = chi_squared_optimum(reward, reference, beta=0.4)
    for convert in (torch.as_tensor, array_api_strict.asarray):
        found = chi_squared_optimum(convert(reward.copy()), convert(reference.copy()), beta=0.4)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, np.asarray(other), atol=1e-15)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="beta must be a finite number > 0, got 0"):
        chi_squared_optimum(np.zeros(2), np.full(2, 0.5), beta=0)
    with pytest.raises(ValueError, match=r"reward must have trailing shape \(2\), got \(3,\)"):
        chi_squared_optimum(np.zeros(3), np.full(2, 0.5), beta=1.0)
