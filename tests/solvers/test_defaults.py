"""Numbers that hold unless given: a result that depends on one does not change unnoticed."""

import functools
import sys
from typing import Any

import numpy as np
import pytest
from room_calls import CALLS, FEATURES, GAME, MDP, SEGMENTS

from prefsim.solvers import gradient_flow, planning
from prefsim.solvers.games import nash, preference_embedding
from prefsim.solvers.likelihood import (
    bradley_terry,
    plackett_luce,
    reward_learning,
)

CHECKS = (
    "check_choice",
    "check_even",
    "check_integer",
    "check_interval",
    "check_nonnegative",
    "check_number",
    "check_positive",
)
PLANNED = {"tolerance": 1e-12}
# A call without options, and what they are then.
UNLESS_GIVEN: dict[str, dict[str, Any]] = {
    "value_iteration": PLANNED | {"max_iterations": 100_000},
    "soft_value_iteration": PLANNED | {"max_iterations": 100_000, "method": "auto"},
    "policy_iteration": PLANNED | {"max_iterations": 1000},
    "modified_policy_iteration": PLANNED
    | {"max_iterations": 10_000, "sweeps": 50, "contraction": 0.3},
    "linear_program": PLANNED,
    "policy_evaluation": PLANNED,
    "greedy_policy": {"ties": "shared", "tolerance": 1e-9},
    "fit_preference_embedding": {
        "dim": 2,
        "starts": 4,
        "tolerance": 1e-9,
        "max_iterations": 300,
    },
    "fit_bradley_terry": {"ridge": 0.0, "tolerance": 1e-12, "max_iterations": 1000},
    "fit_plackett_luce": {
        "unranked": "absent",
        "ridge": 0.0,
        "tolerance": 1e-12,
        "max_iterations": 1000,
    },
    "fit_prompt_classifier": {"ridge": 0.01},
    "cross_validated_loss": {"folds": 10},
    "fit_partial_return_reward": {"discount": 1.0, "learning_rate": 0.1, "iterations": 1500},
    "fit_regret_reward": {
        "learning_rate": 0.3,
        "iterations": 300,
        "segment_discount": 1.0,
    },
    "starts of fit_regret_reward": {"restarts": 5},
    "fit_regret_reward_library": {
        "temperature": 0.001,
        "learning_rate": 0.5,
        "iterations": 5000,
    },
    "sampled_policy_gradient": {"baseline": 0.5},
    "solve_nash": {"tau": 0.0, "max_iterations": 10_000, "tolerance": 1e-8},
    "nash_path": {"tau": 0.0, "record": 1},
    "optimistic_reward": {"tolerance": 1e-9, "max_iterations": 500},
    "PessimisticGame.solve": {"tolerance": 1e-12, "max_iterations": 300},
    "PessimisticGame.worst_reward": {"tolerance": 1e-12, "max_iterations": 300},
    "gradient_flow": {"tolerance": 1e-9, "max_gradients": 10_000},
}
# Where the example of the sweep of arguments is not that of a call without options.
CYCLE = np.array([[0.0, 3.0, 1.0], [1.0, 0.0, 3.0], [3.0, 1.0, 0.0]])
BARE = {
    "fit_bradley_terry": functools.partial(bradley_terry.fit_bradley_terry, CYCLE),
    "fit_plackett_luce": functools.partial(
        plackett_luce.fit_plackett_luce, [[0, 1, 2], [1, 2, 0], [2, 0, 1]], 3
    ),
    "fit_preference_embedding": functools.partial(
        preference_embedding.fit_preference_embedding, CYCLE
    ),
    "starts of fit_regret_reward": functools.partial(
        reward_learning.fit_regret_reward, SEGMENTS, MDP, FEATURES
    ),
    "solve_nash": functools.partial(nash.solve_nash, GAME, method="mwu"),
    "nash_path": functools.partial(nash.nash_path, GAME, method="mwu", iterations=2),
    "soft_value_iteration": functools.partial(planning.soft_value_iteration, MDP, temperature=0.3),
    "gradient_flow": functools.partial(gradient_flow, lambda x: x**2, [1.0], duration=0.1),
}


def bare_call(name):
    """Return a call of a function with what it needs, and no more."""
    if name in BARE:
        return BARE[name]
    function, arguments = CALLS[name]
    needed = {key: value for key, value in arguments.items() if key not in UNLESS_GIVEN[name]}
    # An example may be made with options of its own, for speed.
    return functools.partial(getattr(function, "func", function), **needed)


class LookedAt(Exception):
    """All that was waited for has been looked at; the rest of the call tells no more."""


def looked_at(monkeypatch, call, wanted):
    """Return the first value at which a call looks of every number that is wanted."""
    seen: dict[str, Any] = {}

    def watched(check):
        def look(*arguments, **named):
            check(*arguments, **named)
            # The argument stands beside its name, or behind it.
            beside = {arguments[1]: arguments[0]} if check.__name__ == "check_even" else {}
            for key, value in (named | beside).items():
                if key in wanted:
                    seen.setdefault(key, value)
            if seen.keys() == wanted:
                raise LookedAt

        return look

    for name, module in list(sys.modules.items()):
        for check in CHECKS if name.startswith("prefsim.solvers") else ():
            if hasattr(module, check):
                monkeypatch.setattr(module, check, watched(getattr(module, check)))
    with pytest.raises(LookedAt):
        call()
    return seen


@pytest.mark.parametrize("name", UNLESS_GIVEN)
def test_what_holds_unless_it_is_given(name, monkeypatch):
    wanted = UNLESS_GIVEN[name]
    assert looked_at(monkeypatch, bare_call(name), wanted.keys()) == wanted
