"""Planning with constraints as logarithms, as interior-point policy search has them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import check_integer, check_positive
from prefsim.solvers.planning.constrained import lagrangian_bound, largest_slack, together
from prefsim.solvers.planning.objectives import (
    Flows,
    as_levels,
    as_objectives,
    flows,
    objective_returns,
    policy_of_visits,
    require_objectives,
    visits_of,
)
from prefsim.solvers.results import warn_caller
from prefsim.worlds.mdp import TabularMDP

__all__ = ["BarrierOptimum", "log_barrier_optimum"]

TO_EDGE = 0.99
"""Share of the way to the edge of what is allowed that a step may go."""
CENTRING = 0.1
"""Factor by which every step wants products of visits and their prices smaller."""
LEAST_SPARE = 1e-9
"""What must be to spare, relative to the levels."""
GAP = 1e-9
"""Duality gap, relative to the value, at which the optimum counts as found."""


@readable
class BarrierOptimum(NamedTuple):
    r"""The optimum of :math:`w \cdot J + \frac1t \sum_i \log(J_i - c_i)`, with its certificates.

    Attributes
    ----------
    policy
        ``(*batch, S, A)``.
    returns
        ``(*batch, m)``.
    value
        ``(*batch,)``: :math:`w \cdot J`, without the logarithms.
    multipliers
        ``(*batch, m)``: :math:`1 / (t (J_i - c_i))`, 0 where nothing is asked.
    bound
        ``(*batch,)``: no policy that meets the constraints has a larger :math:`w \cdot J`.
    loss
        ``bound - value``; at the exact optimum the number of constraints over t.
    gap
        ``(*batch,)``: by how much the objective, logarithms included, may be below its maximum.
    iterations
        Newton steps.
    converged
        Whether every gap is 1e-9 of the value, or of 1, at most.
    """

    policy: np.ndarray
    returns: np.ndarray
    value: np.ndarray
    multipliers: np.ndarray
    bound: np.ndarray
    loss: np.ndarray
    gap: np.ndarray
    iterations: int
    converged: bool


def log_barrier_optimum(
    mdp: TabularMDP,
    weights: Any,
    at_least: Any,
    *,
    sharpness: float,
    max_iterations: int = 200,
) -> BarrierOptimum:
    r"""Return the policy that maximises :math:`w \cdot J + \frac1t \sum_i \log(J_i - c_i)`.

    The sum is over the objectives with a finite level. A primal–dual interior-point method over the
    visits, of which all members of a batch take their steps together, started between the uniform
    policy and the one with most to spare; gap and bound are then computed anew.

    Its multipliers :math:`\lambda_i = 1/(t s_i)` make it optimal for the reward
    :math:`(w + \lambda) \cdot r`; for k constraints :math:`w \cdot J^* - w \cdot J \le k/t`.

    Parameters
    ----------
    mdp
        One dense process of infinite horizon with rewards ``(m, S, A)``.
    weights
        w, ``(*batch, m)``.
    at_least
        c, ``(*batch, m)``; ``-inf`` where nothing is asked, not everywhere.
    sharpness
        t > 0, in units of one over a return.
    max_iterations
        Newton steps.

    Raises
    ------
    ValueError
        If the process has not several rewards, a shape does not fit, ``sharpness`` is not positive,
        or no policy exceeds the constraints strictly.

    References
    ----------
    Liu, Ding and Liu 2020, "IPO: interior-point policy optimization under constraints",
    arXiv:1910.09615, theorem 1 (the bound on the loss).

    Examples
    --------
    >>> rewards = [[[1.0, 0.0]], [[0.0, 1.0]]]
    >>> mdp = TabularMDP([[[1.0], [1.0]]], rewards, discount=0.5)
    >>> found = log_barrier_optimum(mdp, [1.0, 0.0], [-np.inf, 1.0], sharpness=10.0)
    >>> found.returns.round(6), found.loss.round(6)
    (array([0.9, 1.1]), np.float64(0.1))
    """
    count = require_objectives("log_barrier_optimum", mdp)
    factor = as_objectives(weights, "weights", count)
    level = as_levels(at_least, "at_least", count)
    check_positive(sharpness=sharpness)
    check_integer(low=1, max_iterations=max_iterations)
    factor, level = together(factor, level)
    system = flows(mdp)
    spare, policy = largest_slack(mdp, level)
    most = float(np.min(spare))
    # Equality up to rounding leaves no room for a logarithm.
    if not (
        spare
        > LEAST_SPARE
        * np.maximum(1.0, np.abs(level).max(axis=-1, initial=0, where=np.isfinite(level)))
    ).all():
        raise ValueError(
            f"at_least must be exceeded strictly by some policy, the best has {most:.3g} to spare"
        )
    asked = np.isfinite(level)
    start = _interior(mdp, system, level, spare, policy)
    path = _Path(system, factor, np.where(asked, level, 0.0), asked, sharpness)
    visits, iterations = path.follow(start, max_iterations)
    even = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    policy = policy_of_visits(system.spread(visits), even)
    returns = objective_returns(mdp, policy)
    slack = np.where(asked, returns - level, 1.0)
    multipliers = np.where(asked, 1.0 / (sharpness * slack), 0.0)
    value = (factor * returns).sum(axis=-1)
    bound, _ = lagrangian_bound(mdp, factor, level, multipliers)
    # At these multipliers the dual of the objective with its logarithms is the bound on w·J less
    # k/t, plus those very logarithms.
    gap = bound - value - asked.sum(axis=-1) / sharpness
    converged = bool((gap <= GAP * np.maximum(1.0, np.abs(value))).all())
    if not converged:
        warn_caller(
            f"log_barrier_optimum stopped after {iterations} iterations with a gap of"
            f" {float(np.max(gap)):.3g}"
        )
    return BarrierOptimum(
        policy=policy,
        returns=returns,
        value=value,
        multipliers=multipliers,
        bound=bound,
        loss=bound - value,
        gap=gap,
        iterations=iterations,
        converged=converged,
    )


def _interior(
    mdp: TabularMDP, system: Flows, level: np.ndarray, spare: np.ndarray, policy: np.ndarray
) -> np.ndarray:
    """Return positive visits ``(*batch, L * A)`` that exceed every level.

    Half of what the safest policy has to spare is given up for visits everywhere.
    """
    even = (system.rewards @ system.uniform - level).min(axis=-1)
    share = np.minimum(0.5, 0.5 * spare / np.maximum(spare - even, 1e-300))[..., None]
    safest = visits_of(mdp, policy)[..., system.live, :].reshape(*policy.shape[:-2], -1)
    return (1.0 - share) * safest + share * system.uniform


class _Path(NamedTuple):
    """Newton's method on the optimality conditions, for a batch of weights and levels.

    For visits x, prices z of ``x >= 0``, values v and the multipliers u of slacks s = Gx − c:
    ``r + Gᵀu − Aᵀv + z = 0``, ``Ax = b``, ``u s = 1/t`` and ``x z = κ``, with κ to 0.
    """

    system: Flows
    weights: np.ndarray
    level: np.ndarray
    asked: np.ndarray
    sharpness: float

    def follow(self, visits: np.ndarray, max_iterations: int) -> tuple[np.ndarray, int]:
        """Return the visits at the end of the path, and the number of steps."""
        rewards, matrix = self.system.rewards, self.system.matrix
        wanted = self.weights @ rewards
        scale = np.maximum(1.0, np.abs(wanted).max(axis=-1, initial=0.0))
        x, target = visits, np.where(self.asked, 1.0 / self.sharpness, 0.0)
        slack = self._slack(x)
        u = target / slack
        z = np.broadcast_to(scale[..., None], x.shape)
        v = np.zeros((*x.shape[:-1], self.system.start.size))
        pairs = x.shape[-1]
        for iteration in range(max_iterations):
            dual = wanted + u @ rewards - v @ matrix + z
            missed = self.system.start - x @ matrix.T
            centre = CENTRING * (x * z).sum(axis=-1, keepdims=True) / pairs
            residual = np.abs(dual).max(axis=-1) / scale
            off = np.abs(np.where(self.asked, u * slack * self.sharpness - 1, 0.0)).max(axis=-1)
            if ((centre[..., 0] <= 1e-16 * scale) & (residual <= 1e-11) & (off <= 1e-9)).all():
                return x, iteration
            curvature = np.einsum("...i,ip,iq->...pq", u / slack, rewards, rewards)
            curvature[..., np.arange(pairs), np.arange(pairs)] += z / x
            pull = (target - u * slack) / slack
            right = dual + pull @ rewards + centre / x - z
            step, values = _saddle(curvature, matrix, right, missed)
            step_z = (centre - x * z - z * step) / x
            change = step @ rewards.T
            step_u = pull - u / slack * change
            # One length for visits and slacks, another for their prices.
            first = _length((x, step), (slack, np.where(self.asked, change, 0.0)))
            second = _length((z, step_z), (np.where(self.asked, u, 1.0), step_u * self.asked))
            x = x + first * step
            z, v, u = z + second * step_z, v + second * values, u + second * step_u * self.asked
            slack = self._slack(x)
        return x, max_iterations

    def _slack(self, visits: np.ndarray) -> np.ndarray:
        return np.where(self.asked, visits @ self.system.rewards.T - self.level, 1.0)


def _saddle(
    curvature: np.ndarray, matrix: np.ndarray, right: np.ndarray, missed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``H dx + Aᵀ dv = right``, ``A dx = missed`` for a batch."""
    pairs, count = right.shape[-1], missed.shape[-1]
    system = np.zeros((*right.shape[:-1], pairs + count, pairs + count))
    system[..., :pairs, :pairs] = curvature
    system[..., :pairs, pairs:] = matrix.T
    system[..., pairs:, :pairs] = matrix
    # Rows are divided by their own size: prices over visits range over many orders.
    size = np.abs(system).max(axis=-1, keepdims=True)
    sides = np.concatenate([right, missed], axis=-1)[..., None]
    found = np.linalg.solve(system / size, sides / size)[..., 0]
    return found[..., :pairs], found[..., pairs:]


def _length(*pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the longest step, at most 1, that keeps all positive, ``(*batch, 1)``."""
    longest = [
        np.where(step < 0, -value / np.where(step < 0, step, -1.0), math.inf).min(axis=-1)
        for value, step in pairs
    ]
    return np.minimum(1.0, TO_EDGE * np.minimum.reduce(longest))[..., None]
