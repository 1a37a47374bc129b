"""The frontier of reward against distance: each point is an optimum, and the whole is ordered."""

import numpy as np
import pytest

from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.frontier import optimal_frontier
from prefsim.divergences import DIVERGENCES
from prefsim.policies import TabularPolicy
from prefsim.solvers import optimal_policy
from prefsim.worlds import ContextualBandit

WORLD, REFERENCE = ContextualBandit.random(2, 5, seed=0), TabularPolicy.random(2, 5, seed=1)
PENALTIES = np.asarray([0.1, 3.0, 0.5])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_each_point_is_the_optimum_of_its_penalty(divergence):
    frontier = optimal_frontier(WORLD, REFERENCE.log_probs, PENALTIES, divergence=divergence)
    np.testing.assert_array_equal(frontier.penalty, [3.0, 0.5, 0.1])
    for i, beta in enumerate(frontier.penalty):
        table = np.log(
            optimal_policy(WORLD.reward, REFERENCE.probs, beta=float(beta), divergence=divergence)
        )
        np.testing.assert_allclose(np.exp(frontier.log_policy[i]), np.exp(table), atol=1e-10)
        assert frontier.reward[i] == pytest.approx(expected_reward(table, WORLD), abs=1e-9)
        assert frontier.reverse_kl[i] == pytest.approx(
            kl_to_reference(table, REFERENCE.log_probs, WORLD), abs=1e-8
        )
        assert frontier.forward_kl[i] == pytest.approx(
            kl_to_reference(REFERENCE.log_probs, table, WORLD), abs=1e-8
        )
    assert np.all(np.diff(frontier.reward) > 0)


def test_columns_at_a_reward():
    frontier = optimal_frontier(WORLD, REFERENCE.log_probs, PENALTIES)
    np.testing.assert_allclose(frontier.at_reward(frontier.reward, "entropy"), frontier.entropy)
    middle = frontier.at_reward(float(frontier.reward[:2].mean()), "reverse_kl")
    assert frontier.reverse_kl[0] < middle < frontier.reverse_kl[1]
    assert np.isnan(frontier.at_reward([-100.0, 100.0], "penalty")).all()


def test_bad_input_is_refused():
    frontier = optimal_frontier(WORLD, REFERENCE.log_probs, PENALTIES)
    with pytest.raises(ValueError, match=r"column must be one of 'penalty'.*got 'regret'"):
        frontier.at_reward(0.0, "regret")
    with pytest.raises(ValueError, match=r"penalties must be > 0, got -1\.0"):
        optimal_frontier(WORLD, REFERENCE.log_probs, [1.0, -1.0])
    with pytest.raises(ValueError, match="penalties must be finite"):
        optimal_frontier(WORLD, REFERENCE.log_probs, [1.0, np.nan])
    with pytest.raises(
        ValueError, match="a frontier needs one world with a reward, got batch shape"
    ):
        optimal_frontier(
            ContextualBandit(reward=np.zeros((3, 2, 5))), REFERENCE.log_probs, PENALTIES
        )
    with pytest.raises(ValueError, match="reward NoneType"):
        optimal_frontier(
            ContextualBandit(preference=np.full((2, 5, 5), 0.5)), REFERENCE.log_probs, PENALTIES
        )
    with pytest.raises(ValueError, match="divergence must be one of"):
        optimal_frontier(WORLD, REFERENCE.log_probs, PENALTIES, divergence="tv")


def test_no_policy_earns_more_than_the_largest_reward_at_its_distance():
    frontier = optimal_frontier(WORLD, REFERENCE.log_probs, np.geomspace(20, 0.05, 400))
    policies = [TabularPolicy.random(2, 5, seed=k).log_probs for k in range(50)]
    kl = np.array([kl_to_reference(each, REFERENCE.log_probs, WORLD) for each in policies])
    earned = np.array([expected_reward(each, WORLD) for each in policies])
    assert (earned <= frontier.largest_reward(kl)).all()
    # Optima earn it, up to the spacing of the tangents.
    between = optimal_frontier(WORLD, REFERENCE.log_probs, [3.0, 0.7, 0.2])
    at = frontier.largest_reward(between.reverse_kl)
    np.testing.assert_allclose(between.reward, at, atol=1e-3)
    assert (between.reward <= at + 1e-12).all()
    assert frontier.largest_reward(np.zeros((2, 3))).shape == (2, 3)
