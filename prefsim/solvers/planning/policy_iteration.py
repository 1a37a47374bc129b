"""Policy iteration, which is Newton's method on the Bellman equation."""

from __future__ import annotations

import numpy as np
from array_api_compat import is_torch_array

from prefsim.checks import check_integer, check_kind, check_positive
from prefsim.numerics import array_namespace, stop_gradient
from prefsim.solvers.planning.bellman import Criterion, action_values, hard_criterion
from prefsim.solvers.planning.certificate import (
    PlanningResult,
    certify,
    require_no_better_without_end,
    residual_limit,
)
from prefsim.solvers.planning.evaluation import policy_evaluation
from prefsim.solvers.planning.policy_chain import policy_chain, solve_chain
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP

__all__ = ["newton_steps", "policy_iteration", "require_infinite_horizon"]


def policy_iteration(
    mdp: TabularMDP, *, tolerance: float = 1e-12, max_iterations: int = 1000
) -> PlanningResult:
    r"""Return the optimal values by policy iteration.

    It is Newton's method on the Bellman equation.

    Every step solves :math:`(I - \gamma P_\pi)\,\delta = Tv - v` for the greedy policy and moves by
    :math:`\delta`. The first policy is the uniform one, and greedy ties are shared, so that an
    undiscounted process stays proper.

    Parameters
    ----------
    mdp
        A process of infinite horizon. Sparse systems are solved as in :func:`policy_evaluation`.
    tolerance, max_iterations
        As for :func:`value_iteration`; steps count as iterations.

    Raises
    ------
    ValueError
        If an option is out of range, the horizon is finite, or never ending is better in an
        undiscounted process than what ends.

    References
    ----------
    Howard 1960; Puterman 1994, section 6.4 (theorem 6.4.1 for the Newton form).
    """
    check_kind(TabularMDP, mdp=mdp)
    check_positive(tolerance=tolerance)
    require_infinite_horizon(mdp, "policy_iteration")
    uniform = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    start = policy_evaluation(_detached(mdp), uniform, tolerance=max(tolerance, 1e-12)).value
    criterion = hard_criterion(mdp)
    found = newton_steps("policy_iteration", mdp, criterion, start, tolerance, max_iterations)
    return require_no_better_without_end("policy_iteration", mdp, found)


def newton_steps(
    name: str,
    mdp: TabularMDP,
    criterion: Criterion,
    value: Array,
    tolerance: float,
    max_iterations: int,
) -> PlanningResult:
    """Return the values that Newton's method reaches from ``value``, certified.

    With torch the result carries the exact gradient with respect to rewards and transitions.
    """
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    constant = _detached(mdp)
    xp = array_namespace(value)
    iterations = 0
    # One sparse process has one unit; dense systems are solved directly.
    accuracy = 0.1 * tolerance * float(xp.min(criterion.unit))
    while True:
        q_value = action_values(constant.transitions, constant.reward, value, discount=mdp.discount)
        change = criterion.maximum(q_value) - value
        met = xp.max(xp.abs(change), axis=-1) <= residual_limit(value, tolerance, criterion.unit)
        if bool(xp.all(met)) or iterations == max_iterations:
            break
        chain = policy_chain(constant, criterion.improvement(q_value))
        value = value + solve_chain(chain, change, constant, tolerance=accuracy)
        iterations += 1
    if _tracked(mdp.reward) or _tracked(mdp.transitions):
        # At the solution v = Tv, so one Newton step with the policy held constant moves nothing but
        # carries the exact gradient.
        chain = policy_chain(constant, stop_gradient(criterion.improvement(q_value)))
        moved = (
            criterion.maximum(
                action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount)
            )
            - value
        )
        value = value + solve_chain(chain, moved, constant)
    return certify(
        name,
        mdp,
        value,
        criterion,
        tolerance=tolerance,
        iterations=iterations,
    )


def _tracked(array: Array) -> bool:
    return is_torch_array(array) and bool(array.requires_grad)


def _detached(mdp: TabularMDP) -> TabularMDP:
    return mdp.replace_checked(
        reward=stop_gradient(mdp.reward), transitions=stop_gradient(mdp.transitions)
    )


def require_infinite_horizon(mdp: TabularMDP, name: str) -> None:
    """Raise where the process has a finite horizon, of which the method has no use."""
    if mdp.horizon is not None:
        raise ValueError(
            f"{name} needs an infinite horizon, got {mdp.horizon}; value_iteration solves finite"
            " ones backwards"
        )
