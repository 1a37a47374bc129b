"""Planning is differentiable in rewards and in transitions, each with or without the other."""

import numpy as np
import pytest
import torch

from prefsim.backend import use_backend
from prefsim.solvers import planning
from prefsim.worlds import TabularMDP

SINGLE = TabularMDP.random(4, 3, discount=0.9, seed=0)
LOGITS = torch.log(torch.as_tensor(SINGLE.transitions) + 1e-3)
REWARD = torch.as_tensor(np.asarray(SINGLE.reward))

PLANNERS = {
    "policy_iteration": planning.policy_iteration,
    "newton": lambda mdp: planning.soft_value_iteration(mdp, temperature=0.4, method="newton"),
    "evaluation": lambda mdp: planning.policy_evaluation(mdp, np.full((4, 3), 1 / 3)),
}


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("of", ["reward", "moves", "both"])
def test_the_gradient_of_values(name, of):
    def total(reward, moves):
        with use_backend("torch"):
            mdp = TabularMDP(torch.softmax(moves, -1), reward, discount=0.9)
            return PLANNERS[name](mdp).value.sum()

    inputs = (
        REWARD.clone().requires_grad_(of != "moves"),
        LOGITS.clone().requires_grad_(of != "reward"),
    )
    assert torch.autograd.gradcheck(total, inputs, atol=1e-6, fast_mode=True)
