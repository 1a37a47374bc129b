"""Planners name what is no process, and pure backups take lists."""

import functools
import itertools

import numpy as np
import pytest
import torch

from prefsim.policies import TabularPolicy
from prefsim.solvers import planning
from prefsim.worlds import ContextualBandit, PreferenceGame, TabularMDP

MDP = TabularMDP.random(3, 2, discount=0.9, seed=0)
VALUE = [0.0, 1.0, -1.0]
EVEN = np.full((3, 2), 0.5)
LOGS = np.log(EVEN).tolist()

TAKE_PROCESSES = {
    "value_iteration": planning.value_iteration,
    "soft_value_iteration": functools.partial(planning.soft_value_iteration, temperature=1.0),
    "advantages": planning.advantages,
    "modified_policy_iteration": planning.modified_policy_iteration,
    "policy_iteration": planning.policy_iteration,
    "linear_program": planning.linear_program,
    "policy_evaluation": lambda mdp: planning.policy_evaluation(mdp, EVEN),
    "occupancy": lambda mdp: planning.occupancy(mdp, EVEN),
    "successor_features": lambda mdp: planning.successor_features(mdp, EVEN, np.ones((3, 2, 1))),
    "objective_returns": lambda mdp: planning.objective_returns(mdp, EVEN),
    "constrained_program": lambda mdp: planning.constrained_program(mdp, [1.0]),
    "largest_slack": lambda mdp: planning.largest_slack(mdp, [0.0]),
    "log_barrier_optimum": lambda mdp: planning.log_barrier_optimum(
        mdp, [1.0], [0.0], sharpness=1.0
    ),
    "uniform_over_reachable": planning.uniform_over_reachable,
}
BACKUPS = {
    "action_values": planning.action_values,
    "bellman_backup": planning.bellman_backup,
    "soft_bellman_backup": functools.partial(
        planning.soft_bellman_backup, temperature=0.5, log_reference=LOGS
    ),
}
OF_ACTION_VALUES = {
    "greedy_policy": planning.greedy_policy,
    "soft_policy": functools.partial(planning.soft_policy, temperature=0.5),
    "soft_maximum": functools.partial(planning.soft_maximum, temperature=0.5),
}


@pytest.mark.parametrize(
    "wrong",
    [
        "FrozenLake-v1",
        None,
        {},
        PreferenceGame([[0.5]]),
        ContextualBandit([[0.0]]),
        TabularPolicy.uniform(3, 2),
    ],
)
@pytest.mark.parametrize("name", TAKE_PROCESSES)
def test_what_is_no_process_is_named(name, wrong):
    with pytest.raises(TypeError, match=f"mdp must be a TabularMDP, got {type(wrong).__name__}"):
        TAKE_PROCESSES[name](wrong)


@pytest.mark.parametrize("name", BACKUPS)
def test_backups_take_lists(name):
    exact = BACKUPS[name](MDP.transitions, MDP.reward, np.array(VALUE), discount=0.9)
    found = BACKUPS[name](MDP.transitions.tolist(), MDP.reward.tolist(), VALUE, discount=0.9)
    np.testing.assert_allclose(found, exact, rtol=1e-14)


@pytest.mark.parametrize("name", OF_ACTION_VALUES)
def test_functions_of_action_values_take_lists(name):
    exact = OF_ACTION_VALUES[name](MDP.reward)
    np.testing.assert_array_equal(OF_ACTION_VALUES[name](MDP.reward.tolist()), exact)


@pytest.mark.parametrize("forms", list(itertools.product(["list", "numpy", "torch"], repeat=3)))
def test_backups_take_lists_and_arrays_of_both_libraries_together(forms):
    convert = {"list": np.ndarray.tolist, "numpy": np.asarray, "torch": torch.as_tensor}
    plain = np.asarray(MDP.transitions), np.asarray(MDP.reward), np.asarray(VALUE)
    given = [convert[form](array) for form, array in zip(forms, plain, strict=True)]
    found = planning.action_values(*given, discount=0.9)
    np.testing.assert_allclose(found, planning.action_values(*plain, discount=0.9), atol=1e-15)
    assert isinstance(found, torch.Tensor) == ("torch" in forms)
