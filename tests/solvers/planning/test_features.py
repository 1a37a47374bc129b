"""Planning with features against the general planners, many weights and processes at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers import planning
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.testing.bandits import tables
from prefsim.testing.mdps import mdps
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task, random_delivery_task

TASK = random_delivery_task(3, 4, seed=1, discount=0.99)


@st.composite
def feature_processes(draw):
    mdp = draw(mdps(transition_rewards=False))
    shape = (mdp.n_states, mdp.n_actions, 2)
    return mdp, draw(tables(shape, low=-2, high=2)), draw(tables((3, 2), low=-2, high=2))


@given(feature_processes())
def test_optimal_values_are_those_of_policy_iteration(instance):
    mdp, features, weights = instance
    found = FeatureProcess(mdp, features).optimum(weights)
    alive = ~np.asarray(mdp.terminal)
    for i, w in enumerate(weights):
        plan = planning.policy_iteration(
            mdp.with_reward(np.where(alive[:, None], features @ w, 0.0))
        )
        scale = 1 + np.abs(plan.value).max()
        np.testing.assert_allclose(found.state[i] @ w, plan.value, atol=1e-8 * scale)
        np.testing.assert_allclose(found.state_action[i] @ w, plan.q_value, atol=1e-8 * scale)
        own = planning.successor_features(mdp, found.policy[i], features)
        np.testing.assert_allclose(found.state[i], own.state, atol=1e-9)
        np.testing.assert_allclose(found.state_action[i][alive], own.state_action[alive], atol=1e-9)


def test_long_circles_are_summed_to_rounding():
    """Deterministic moves are followed by doubling.

    1 / (1 − γ) for γ close to one, on a circle that never ends.
    """
    ring = TabularMDP(np.eye(3)[[[1], [2], [0]]], np.zeros((3, 1)), discount=0.9999)
    found = FeatureProcess(ring, np.ones((3, 1, 1))).optimum([1.0])
    np.testing.assert_allclose(found.state, 1e4, rtol=1e-11)


def test_a_batch_of_processes_is_solved_as_one():
    tasks = [random_delivery_task(3, 3, seed=seed, discount=0.95) for seed in range(3)]
    batch = TabularMDP(
        np.stack([t.mdp.transitions for t in tasks]),
        np.stack([t.mdp.reward for t in tasks]),
        discount=0.95,
        terminal=np.stack([t.mdp.terminal for t in tasks]),
    )
    weights = np.random.default_rng(0).standard_normal((4, 3, 6))
    together = FeatureProcess(batch, np.stack([t.features for t in tasks])).optimum(weights)
    for i, task in enumerate(tasks):
        alone = FeatureProcess(task.mdp, task.features).optimum(weights[:, i])
        np.testing.assert_allclose(together.state[:, i], alone.state, atol=1e-10)
    warm = FeatureProcess(batch, np.stack([t.features for t in tasks])).optimum(
        weights, together.policy
    )
    np.testing.assert_array_equal(warm.policy, together.policy)
    assert warm.improvements == 1
    assert together.improvements > 1


def test_greedy_policies_share_ties():
    free = FeatureProcess(TabularMDP.random(3, 4, discount=0.9, seed=0), np.zeros((3, 4, 2)))
    np.testing.assert_array_equal(free.greedy_policy([1.0, 2.0]), np.full((3, 4), 0.25))


def test_processes_that_cannot_be_planned_with_features():
    with pytest.raises(ValueError, match="discount must lie in"):
        FeatureProcess(delivery_task().mdp, delivery_task().features)
    with pytest.raises(ValueError, match="infinite horizon"):
        FeatureProcess(
            TabularMDP.random(2, 2, discount=0.9, seed=0, horizon=3), np.zeros((2, 2, 1))
        )
    with pytest.raises(ValueError, match="features must have trailing shape"):
        FeatureProcess(TASK.mdp, np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="weights must have trailing shape"):
        FeatureProcess(TASK.mdp, TASK.features).optimum(np.zeros(5))
