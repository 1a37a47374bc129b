"""Modified policy iteration: the fast planner for large sparse processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from prefsim.backend import to_numpy
from prefsim.checks import check_integer, check_interval, check_kind, check_positive
from prefsim.numerics import array_namespace
from prefsim.solvers.planning.bellman import (
    action_values,
    best_action,
    best_value,
    hard_criterion,
    paid_before,
    zeros,
)
from prefsim.solvers.planning.certificate import (
    PlanningResult,
    SpanStop,
    certify,
    require_no_better_without_end,
    residual_limit,
)
from prefsim.solvers.planning.policy_chain import solve_chain
from prefsim.typing import Array
from prefsim.worlds.mdp import TabularMDP

__all__ = ["modified_policy_iteration"]

TRIAL_SWEEPS = 10
"""Sweeps after which an evaluation looks at its pace."""

PATIENCE = 20
"""More sweeps than this still to go, at the pace so far, cost more than a Krylov solve."""

STATES_A_SWEEP = 20
"""A dense solve of S states costs about S over this many sweeps: S / 3 by arithmetic, of which
factorisations make several times more in a second than products with one vector."""


def modified_policy_iteration(
    mdp: TabularMDP,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 10_000,
    sweeps: int = 50,
    contraction: float = 0.3,
) -> PlanningResult:
    r"""Return the optimal values, improving the policy only after a few cheap sweeps under it.

    A sweep under a fixed policy costs one A-th of a Bellman backup. Convergence is measured by the
    *span* of the differences between successive values, after which all values are shifted to the
    middle of their bounds: what all states still miss in common need not be iterated away. (With
    terminal states there is no such common part, and the largest difference counts.) How far an
    evaluation goes follows from how much the last improvement gained, so that the late steps, where
    the policy is settled, converge in one go. Where a chain mixes slowly, or is periodic, so that
    the rounding of sweeps adds up, an evaluation ends in a linear solve instead: of a sparse chain
    by BiCGSTAB, of a dense one directly.

    Parameters
    ----------
    mdp
        A process of infinite horizon, dense or sparse.
    tolerance
        Bellman residual to reach, as for :func:`value_iteration`. For values within ``e`` of the
        optimum take ``e * (1 - discount)``.
    max_iterations
        Largest number of improvement steps.
    sweeps
        Largest number of sweeps after an improvement.
    contraction
        Factor in (0, 1] by which the sweeps after an improvement shrink the differences at least
        (if their number allows).

    Returns
    -------
    PlanningResult
        ``iterations`` counts improvement steps.

    Raises
    ------
    ValueError
        If an option is out of range, the horizon is finite, or never ending is better in an
        undiscounted process than what ends.

    References
    ----------
    Puterman and Shin 1978, "Modified policy iteration algorithms for discounted Markov decision
    problems"; Puterman 1994, sections 6.5 and 6.6 (span); Eisenstat and Walker 1996, "Choosing the
    forcing terms in an inexact Newton method", choice 2 (accuracy of evaluations).

    Examples
    --------
    >>> mdp = TabularMDP.random_sparse(1000, 4, 5, discount=0.95, seed=0)
    >>> modified_policy_iteration(mdp).converged
    True
    """
    check_kind(TabularMDP, mdp=mdp)
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations, sweeps=sweeps)
    check_interval(contraction=contraction, low=0.0, high=1.0, closed="right")
    if mdp.horizon is not None:
        raise ValueError(
            f"modified_policy_iteration needs an infinite horizon, got {mdp.horizon};"
            " value_iteration takes finite ones"
        )
    xp = array_namespace(mdp.reward)
    value = best_value(mdp.reward) + zeros(mdp)
    stop, criterion = SpanStop(mdp), hard_criterion(mdp)
    evaluate = _SparseEvaluation(mdp, stop) if mdp.is_sparse else _DenseEvaluation(mdp, stop)
    iterations, before = 0, None
    while True:
        iterations += 1
        q_value = action_values(mdp.transitions, mdp.reward, value, discount=mdp.discount)
        improved, action = best_action(q_value)
        low, high = stop.bounds(improved - value)
        residual = xp.where(high > -low, high, -low)
        if (
            bool(xp.all(residual <= residual_limit(value, tolerance, criterion.unit)))
            or iterations == max_iterations
        ):
            break
        gap = stop.gap(low, high)
        # Quadratic in the last gain, as fits a method that is Newton's method once the policy has
        # settled.
        forcing = (
            xp.full_like(gap, contraction)
            if before is None
            else xp.minimum((gap / before) ** 2, xp.full_like(gap, contraction))
        )
        before = xp.where(gap > 0, gap, xp.ones_like(gap))
        goal = xp.maximum(forcing * gap, 0.5 * tolerance * criterion.unit)
        value = evaluate(action, improved, goal, sweeps)
    found = certify(
        "modified_policy_iteration",
        mdp,
        value,
        criterion,
        tolerance=tolerance,
        iterations=iterations,
        q_value=q_value,
    )
    return require_no_better_without_end("modified_policy_iteration", mdp, found)


class _DenseEvaluation:
    """Sweeps under a policy, all processes of a batch at once."""

    def __init__(self, mdp: TabularMDP, stop: SpanStop) -> None:
        self.mdp, self.stop = mdp, stop
        self.patience = max(PATIENCE, mdp.n_states / STATES_A_SWEEP)

    def __call__(self, action: Array, value: Array, goal: Array, sweeps: int) -> Array:
        mdp = self.mdp
        xp = array_namespace(value)
        chain, paid = self._adopt(action)

        def sweep(value: Array) -> tuple[Array, Array]:
            swept = paid_before(paid, mdp.discount, xp.matmul(chain, value[..., None])[..., 0])
            return swept, swept - value

        first = None
        for done in range(1, sweeps + 1):
            value, change = sweep(value)
            low, high = self.stop.bounds(change)
            gap = self.stop.gap(low, high)
            if bool(xp.all(gap <= goal)):
                break
            first = gap if first is None else first
            if (
                done == TRIAL_SWEEPS
                and mdp.discount < 1
                and _any_is_slow((first, gap), goal, patience=self.patience)
            ):
                residual = sweep(value)[1]
                solved = value + solve_chain(chain, residual, mdp)
                # Where a solve gains nothing, the sweeps stand.
                better = _largest(sweep(solved)[1]) < _largest(residual)
                value, change = sweep(xp.where(better[..., None], solved, value))
                low, high = self.stop.bounds(change)
                break
        return self.stop.shifted(value, low, high)

    def _adopt(self, action: Array) -> tuple[Array, Array]:
        """Return the moves ``(*batch, S, S)`` and the rewards ``(*batch, S)`` of a policy."""
        mdp = self.mdp
        xp = array_namespace(action)
        states, actions = mdp.n_states, mdp.n_actions
        batch = tuple(action.shape[:-1])
        shares = (tuple(mdp.transitions.shape[:-3]), tuple(mdp.reward.shape[:-2])) != (batch, batch)
        if shares:
            # One table for many rewards, or the other way round: sums broadcast, rows do not.
            chosen = xp.astype(
                action[..., None] == xp.arange(actions, device=action.device), mdp.reward.dtype
            )
            chain = xp.matmul(chosen[..., None, :], mdp.transitions)[..., 0, :]
            return chain, xp.sum(chosen * mdp.reward, axis=-1)
        action = xp.reshape(xp.astype(action, xp.int64), (-1,))
        rows = xp.arange(action.shape[0], device=action.device) * actions + action
        chain = xp.take(xp.reshape(mdp.transitions, (-1, states)), rows, axis=0)
        paid = xp.take(xp.reshape(mdp.reward, (-1,)), rows, axis=0)
        return xp.reshape(chain, (*batch, states, states)), xp.reshape(paid, (*batch, states))


def _largest(change: Array) -> Array:
    xp = array_namespace(change)
    return xp.max(xp.abs(change), axis=-1)


def _any_is_slow(gaps: tuple[Any, Any], goal: Any, *, patience: float) -> bool:
    """Return whether a process needs more than so many sweeps to its goal at its pace so far.

    ``gaps`` are those of the first and the last of the trial sweeps.
    """
    first, last, wanted = (to_numpy(each) for each in (*gaps, goal))
    with np.errstate(divide="ignore", invalid="ignore"):
        pace = np.log(first / last) / (TRIAL_SWEEPS - 1)
        return bool(np.any((last > wanted) & (np.log(last / wanted) > patience * pace)))


class _SparseEvaluation:
    """Sweeps under a policy on its rows of the CSR table.

    The rows are kept and patched from one policy to the next.
    """

    chain: Any
    paid: np.ndarray

    def __init__(self, mdp: TabularMDP, stop: SpanStop) -> None:
        self.mdp, self.stop = mdp, stop
        self.first_row = np.arange(mdp.n_states) * mdp.n_actions
        # Of no policy: all rows of the first one are new.
        self.rows = np.full(mdp.n_states, -1)

    def __call__(self, action: Any, value: Any, goal: Any, sweeps: int) -> Any:
        self._adopt(self.first_row + action)
        gaps: list[float] = []
        goal = float(goal)
        while len(gaps) < sweeps:
            value, change = self._sweep(value)
            low, high = self.stop.bounds(change)
            gaps.append(float(self.stop.gap(low, high)))
            if gaps[-1] <= goal:
                break
            if (
                len(gaps) == TRIAL_SWEEPS
                and self.mdp.discount < 1
                and _any_is_slow((gaps[0], gaps[-1]), goal, patience=PATIENCE)
            ):
                value, change = self._sweep(self._solve(value, goal))
                low, high = self.stop.bounds(change)
                break
        return self.stop.shifted(value, low, high)

    def _sweep(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        swept = paid_before(self.paid, self.mdp.discount, self.chain @ value)
        return swept, swept - value

    def _solve(self, value: np.ndarray, goal: float) -> np.ndarray:
        matrix = sp.eye_array(value.size, format="csr") - self.mdp.discount * self.chain
        residual = self._sweep(value)[1]
        with np.errstate(all="ignore"):
            step, _ = spla.bicgstab(matrix, residual, rtol=0.0, atol=goal, maxiter=500)
        # A breakdown costs the attempt, never the values.
        better = np.abs(self._sweep(value + step)[1]).max() < np.abs(residual).max()
        return value + step if better else value

    def _adopt(self, rows: np.ndarray) -> None:
        """Make ``rows`` of the table the chain.

        Late policies differ in few states, whose entries are overwritten where they fit.
        """
        table, changed = self.mdp.transitions, np.flatnonzero(rows != self.rows)
        self.rows = rows
        if changed.size < rows.size // 4:
            source, target = table.indptr[rows[changed]], self.chain.indptr[changed]
            length = table.indptr[rows[changed] + 1] - source
            if np.array_equal(length, self.chain.indptr[changed + 1] - target):
                offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
                source, target = (
                    np.repeat(source, length) + offset,
                    np.repeat(target, length) + offset,
                )
                self.chain.data[target], self.chain.indices[target] = (
                    table.data[source],
                    table.indices[source],
                )
                self.paid[changed] = self.mdp.reward.reshape(-1)[rows[changed]]
                return
        self.chain, self.paid = table[rows], self.mdp.reward.reshape(-1)[rows]
