"""Planning under constraints: one return as large as it can be where others have a least value."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from prefsim._readable import readable
from prefsim.backend import to_numpy
from prefsim.solvers.planning.iteration import value_iteration
from prefsim.solvers.planning.objectives import (
    Flows,
    as_levels,
    as_objectives,
    combined,
    flows,
    objective_returns,
    policy_of_visits,
    require_objectives,
    rewarded,
)
from prefsim.solvers.planning.policy_iteration import policy_iteration
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "ConstrainedOptimum",
    "InfeasibleError",
    "constrained_program",
    "lagrangian_bound",
    "largest_slack",
    "together",
]

EXACT = 1e-10
"""Tolerance of the programs, the least that HiGHS takes.

Fronts can be so steep that its default of 1e-7 in one return is a hundredth of another.
"""
ROUNDED = (1e-9, 1e-8, 1e-7)
"""By how much of itself a level is taken lower where nothing reaches it.

One in fifty levels that are the most of their objective is out of reach by up to 1e-8.
"""
INFEASIBLE = 2
"""What SciPy calls a program whose constraints nothing meets."""


class InfeasibleError(ValueError):
    """No policy meets the constraints."""


@readable
class ConstrainedOptimum(NamedTuple):
    r"""The optimum of a constrained process, with its dual certificate.

    Attributes
    ----------
    policy
        ``(*batch, S, A)``; no more states are randomised than constraints bind.
    returns
        ``(*batch, m)``, of this policy, computed anew from its visits.
    value
        ``(*batch,)``: the weighted sum of the returns.
    multipliers
        :math:`\lambda \ge 0`, ``(*batch, m)``: what a unit of each constraint costs.
    bound
        ``(*batch,)``: :math:`\max_\pi (w + \lambda) \cdot J(\pi) - \lambda \cdot c`, solved anew.
        Whatever the multipliers are, no policy that meets the constraints is worth more.
    gap
        ``bound - value``.
    shortfall
        ``(*batch,)``: by how much the returns miss the constraints at worst, 0 if nowhere.
    """

    policy: np.ndarray
    returns: np.ndarray
    value: np.ndarray
    multipliers: np.ndarray
    bound: np.ndarray
    gap: np.ndarray
    shortfall: np.ndarray


def constrained_program(mdp: TabularMDP, weights: Any, at_least: Any = None) -> ConstrainedOptimum:
    r"""Return a policy that maximises :math:`w \cdot J(\pi)` subject to :math:`J(\pi) \ge c`.

    One linear program over the visits :math:`\mu(s, a)`, of which returns are linear functions; a
    batch is one program of independent blocks. HiGHS solves it to 1e-10, most often to
    rounding; policy, returns and bound are then computed anew. A constraint that is out of reach by
    less than 1e-7 of itself is met as nearly as can be, see ``shortfall``.

    Parameters
    ----------
    mdp
        One dense process of infinite horizon with rewards ``(m, S, A)``.
    weights
        w, ``(*batch, m)``, of any sign: a weighted sum, or one objective alone.
    at_least
        c, ``(*batch, m)``; ``-inf`` where nothing is asked, nowhere unless given.

    Raises
    ------
    InfeasibleError
        If no policy meets the constraints; it is a ``ValueError``.
    ValueError
        If the process has not several rewards, a shape does not fit, an entry is NaN, or the
        program is unbounded (an undiscounted process that rewards not ending).

    References
    ----------
    Altman 1999, "Constrained Markov decision processes", chapters 3 and 4.

    Examples
    --------
    Half of the second return can be kept by choosing at random.

    >>> rewards = [[[1.0, 0.0]], [[0.0, 1.0]]]
    >>> mdp = TabularMDP([[[1.0], [1.0]]], rewards, discount=0.5)
    >>> found = constrained_program(mdp, [1.0, 0.0], [-np.inf, 1.0])
    >>> found.returns.round(9), found.multipliers.round(9)
    (array([1., 1.]), array([0., 1.]))
    """
    count = require_objectives("constrained_program", mdp)
    factor = as_objectives(weights, "weights", count)
    level = as_levels(at_least, "at_least", count)
    factor, level = together(factor, level)
    system = flows(mdp)
    visits, multipliers = _solve("constrained_program", system, factor, level)
    bound, greedy = lagrangian_bound(mdp, factor, level, multipliers)
    policy = policy_of_visits(system.spread(visits), greedy)
    returns = objective_returns(mdp, policy)
    value = (factor * returns).sum(axis=-1)
    return ConstrainedOptimum(
        policy=policy,
        returns=returns,
        value=value,
        multipliers=multipliers,
        bound=bound,
        gap=bound - value,
        shortfall=np.maximum(level - returns, 0.0).max(axis=-1),
    )


def largest_slack(mdp: TabularMDP, at_least: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Return :math:`\max_\pi \min_i (J_i(\pi) - c_i)` with its policy.

    Negative where no policy meets the constraints; zero where none exceeds them all, as at a point
    that is weakly Pareto-optimal.

    Parameters
    ----------
    mdp
        As for :func:`constrained_program`.
    at_least
        c, ``(*batch, m)``; ``-inf`` where nothing is asked, not everywhere.

    Returns
    -------
    The slack ``(*batch,)`` and probabilities ``(*batch, S, A)``.

    Raises
    ------
    ValueError
        As :func:`constrained_program`, and if nothing is asked.
    """
    count = require_objectives("largest_slack", mdp)
    level = as_levels(at_least, "at_least", count)
    if not np.isfinite(level).any(axis=-1).all():
        raise ValueError("at_least must ask for something, got -inf for every objective")
    system = flows(mdp)
    visits, _ = _solve("largest_slack", system, np.zeros(level.shape), level, slack=True)
    even = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    policy = policy_of_visits(system.spread(visits), even)
    return (objective_returns(mdp, policy) - level).min(axis=-1), policy


def lagrangian_bound(
    mdp: TabularMDP, weights: np.ndarray, at_least: np.ndarray, multipliers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return :math:`\max_\pi (w + \lambda) \cdot J(\pi) - \lambda \cdot c` and a best policy.

    All three are ``(*batch, m)``; the bound is ``(*batch,)``, the policy ``(*batch, S, A)``.
    """
    # Without a discount a greedy policy may go round for ever, which has no value to iterate on.
    solve = value_iteration if mdp.discount == 1 else policy_iteration
    priced = combined(mdp, weights + multipliers)
    reward = to_numpy(priced.reward)
    # When planning ends is absolute too.
    sizes = _or_one(np.abs(reward).max(axis=(-2, -1), keepdims=True, initial=0.0))
    plan = solve(rewarded(priced, reward / sizes))
    values = sizes[..., 0] * to_numpy(plan.value)
    best = (values * to_numpy(mdp.start_probs)).sum(axis=-1)
    asked = np.where(np.isfinite(at_least), at_least, 0.0)
    return best - (multipliers * asked).sum(axis=-1), to_numpy(plan.policy)


def together(weights: np.ndarray, at_least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and levels of one shape ``(*batch, m)``, or raise."""
    try:
        first, second = np.broadcast_arrays(weights, at_least)
    except ValueError as error:
        raise ValueError(
            f"at_least must fit the weights, got shapes {at_least.shape} and {weights.shape}"
        ) from error
    return first, second


def _solve(
    name: str, system: Flows, weights: np.ndarray, level: np.ndarray, *, slack: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return visits ``(*batch, L * A)`` and multipliers ``(*batch, m)`` of the linear programs.

    With ``slack`` what all constraints have to spare is one more variable, and alone maximised.
    """
    from scipy.optimize import linprog

    batch, pairs = weights.shape[:-1], system.uniform.size
    factors, levels = (table.reshape(-1, weights.shape[-1]) for table in (weights, level))
    asked = np.isfinite(levels)
    some = bool(asked.any())
    # The tolerances of the program are absolute: in it rewards and weighted sums are of size one.
    sizes = np.abs(system.rewards).max(axis=1, initial=0.0)
    sizes = _or_one(np.full_like(sizes, sizes.max(initial=0.0)) if slack else sizes)
    rewards, shown = system.rewards / sizes[:, None], levels / sizes
    strengths = _or_one(np.abs(factors * sizes).max(axis=-1, keepdims=True, initial=0.0))
    spare = np.ones((rewards.shape[0], int(slack)))
    rows = np.concatenate([-rewards, spare], axis=1)
    equal = np.concatenate([system.matrix, np.zeros((system.start.size, int(slack)))], axis=1)
    cost = -(factors * sizes / strengths) @ rewards
    cost = np.concatenate([cost, np.full((len(cost), int(slack)), -1.0)], axis=1)
    limits = [(0.0, None)] * pairs + [(None, None)] * int(slack)
    given = {
        "c": cost.reshape(-1),
        "A_ub": sp.block_diag([rows[chosen] for chosen in asked], format="csr") if some else None,
        "b_ub": -shown[asked] if some else None,
        "A_eq": sp.block_diag([equal] * len(factors), format="csr"),
        "b_eq": np.tile(system.start, len(factors)),
        "bounds": limits * len(factors),
        "method": "highs",
    }
    exact = {"primal_feasibility_tolerance": EXACT, "dual_feasibility_tolerance": EXACT}
    solution = linprog(**given, options=exact)
    if solution.x is None:
        # Presolving takes what is allowed for empty where it is narrow.
        solution = linprog(**given, options={**exact, "presolve": False})
    # The most that a policy reaches, as another program found it, is out of reach by rounding.
    for near in ROUNDED if some else ():
        if solution.x is not None:
            break
        relaxed = -shown[asked] + near * (1 + np.abs(shown[asked]))
        solution = linprog(**{**given, "b_ub": relaxed}, options={**exact, "presolve": False})
    if solution.x is None:
        _explain(name, system, factors, levels, solution)
    multipliers = np.zeros(levels.shape)
    if some:
        multipliers[asked] = np.maximum(-solution.ineqlin.marginals, 0.0)
        multipliers *= strengths / sizes
    visits = solution.x.reshape(*batch, -1)[..., :pairs]
    return visits, multipliers.reshape(weights.shape)


def _or_one(sizes: np.ndarray) -> np.ndarray:
    """Return sizes to divide by, 1 where they are zero."""
    return np.where(sizes > 0, sizes, 1.0)


def _explain(
    name: str, system: Flows, factors: np.ndarray, levels: np.ndarray, solution: Any
) -> None:
    """Raise for programs that have no solution, by the first of them that has none."""
    if len(factors) > 1:
        for place in range(len(factors)):
            _solve(name, system, factors[place], levels[place])
    if solution.status == INFEASIBLE:
        raise InfeasibleError(f"{name}: no policy reaches at_least = {levels[0].tolist()}")
    raise ValueError(
        f"{name} has no finite solution for weights {factors[0].tolist()}: the discount is 1 and"
        f" never ending is worth more than anything ({solution.message})"
    )
