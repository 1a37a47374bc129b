"""Returns of policies and their scale."""

import numpy as np
import pytest
from hypothesis import given

from prefsim.analysis.returns import mean_return, scaled_return
from prefsim.solvers.planning import policy_evaluation, policy_iteration, soft_value_iteration
from prefsim.testing.mdps import mdps_with_policy
from prefsim.worlds import TabularMDP

CORRIDOR = TabularMDP.grid_world(
    [[-1.0, -1.0, 10.0]], terminal=[[False, False, True]], discount=0.9
)


@given(mdps_with_policy())
def test_mean_return_is_the_value_at_the_start(instance):
    mdp, policy = instance
    assert mean_return(mdp, policy) == pytest.approx(
        policy_evaluation(mdp, policy).value @ mdp.start_probs
    )


@given(mdps_with_policy())
def test_the_entropy_bonus_is_that_of_the_soft_values(instance):
    mdp, policy = instance
    expert = soft_value_iteration(mdp, temperature=0.7)
    best = mean_return(mdp, expert.policy, temperature=0.7)
    assert best == pytest.approx(expert.value @ mdp.start_probs, rel=1e-9, abs=1e-9)
    assert mean_return(mdp, policy, temperature=0.7) <= best + 1e-9


def test_the_scale():
    uniform, best = np.full((3, 4), 0.25), policy_iteration(CORRIDOR).policy
    np.testing.assert_allclose(
        scaled_return(CORRIDOR, np.stack([uniform, best])), [0.0, 1.0], atol=1e-12
    )
    expert = soft_value_iteration(CORRIDOR, temperature=2.0).policy
    np.testing.assert_allclose(
        scaled_return(CORRIDOR, np.stack([uniform, expert]), temperature=2.0), [0.0, 1.0], atol=1e-9
    )
    assert scaled_return(CORRIDOR, best, temperature=2.0) < 1
    circles = np.eye(4)[[2, 2, 2]]
    assert scaled_return(CORRIDOR, circles) < -1
    assert scaled_return(CORRIDOR, circles, floor=-1.0) == -1


def test_bad_input():
    with pytest.raises(ValueError, match="must beat the uniform one"):
        scaled_return(CORRIDOR.with_reward(np.zeros((3, 4))), np.full((3, 4), 0.25))
    with pytest.raises(ValueError, match="policy must have trailing shape"):
        mean_return(CORRIDOR, np.full((2, 4), 0.25))
    with pytest.raises(ValueError, match="one decision process"):
        mean_return(
            TabularMDP.random(2, 2, discount=0.5, seed=0, batch_shape=(2,)), np.full((2, 2), 0.5)
        )
    with pytest.raises(ValueError, match="sum to 1"):
        mean_return(CORRIDOR, np.full((3, 4), 0.5))
