r"""Learning from preferences with the best reward that still fits the data.

The same game as in :mod:`prefsim.solvers.games.pessimism` with the sign of η turned: a reward is
preferred whose optimal policy gains much on the baseline.

.. math:: L_D(r) - \eta\,E_x\big[\beta\log Z_r - E_{\pi_{base}} r\big]

References
----------
Cen et al. 2024, "Value-Incentivized Preference Optimization", arXiv:2405.19320.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.backend import asarray
from prefsim.checks import as_float_array, check_integer, check_kind, check_positive, check_shape
from prefsim.numerics import log_softmax, softmax
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.optimisers.box_newton import (
    BoxProblem,
    box_gradient,
    box_residual,
    box_value,
    minimise_in_box,
    restricted,
)
from prefsim.solvers.results import warn_caller
from prefsim.typing import Array

__all__ = ["OptimisticReward", "optimistic_reward"]


@readable
class OptimisticReward(NamedTuple):
    r"""A reward that fits the data and promises much, and the policy that believes it.

    Attributes
    ----------
    reward
        ``(*batch, X, Y)``.
    log_policy
        ``(*batch, X, Y)`` in nats: its Gibbs policy :math:`\propto \pi_{ref} e^{r / \beta}`.
    value
        ``(*batch,)``: :math:`L_D(r) - \eta (J^*(r) - E_{base} r)`.
    residual
        ``(*batch,)``: largest entry of the projected gradient.
    converged
        Whether every residual met the tolerance.
    """

    reward: Array
    log_policy: Array
    value: Array
    residual: Array
    converged: bool


def optimistic_reward(
    game: PessimisticGame, *, starts: Any = None, tolerance: float = 1e-9, max_iterations: int = 500
) -> OptimisticReward:
    r"""Return the least of the stationary points of :math:`L_D - \eta (J^* - E_{base})` in a box.

    The objective is a difference of convex functions. From every start the value is replaced by its
    tangent and what remains, a convex problem, is solved; the objective falls at every such step.
    Contexts are independent, and each keeps its best start. Nothing certifies that no reward is
    better.

    Parameters
    ----------
    game
        The data, the reference, the baseline (there called the calibration policy), β, η and the
        box, which has to be finite: without a bound the value of a reward that no comparison sees
        has none.
    starts
        Rewards to begin at, ``(S, ..., X, Y)``, moved to the nearest points of the box. Unless
        given: zero, and for each response the corner where it alone is at the upper bound.
    tolerance
        Of the projected gradient, > 0.
    max_iterations
        Convex problems solved from each start, >= 1.

    Returns
    -------
    OptimisticReward

    Raises
    ------
    ValueError
        If the box is not finite, a parameter is out of range or the starts do not fit.

    Warns
    -----
    ConvergenceWarning
        If a point that is returned misses ``tolerance``.

    References
    ----------
    Cen et al. 2024, the online objective, arXiv:2405.19320 (number not confirmed). The convex
    problems: Yuille and Rangarajan 2003, "The concave-convex procedure".

    Examples
    --------
    Two responses were compared and equally good; a bold reward promises most on the third, which
    the baseline seldom gives.

    >>> from prefsim.data import Comparisons
    >>> from prefsim.policies import TabularPolicy
    >>> game = PessimisticGame(
    ...     Comparisons([0], [0], [1], prob=0.5), TabularPolicy.uniform(1, 3), [[0.4, 0.4, 0.2]],
    ...     beta=0.5, eta=0.3, bound=1.0,
    ... )
    >>> optimistic_reward(game).reward.round(6) + 0.0
    array([[-1., -1.,  1.]])
    """
    check_kind(PessimisticGame, game=game)
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    if not (np.isfinite(game.low).all() and np.isfinite(game.high).all()):
        raise ValueError("game must have a finite bound on the rewards, got an infinite one")
    at = _starts(game, starts)
    problem, point = _problems(game, at), at.reshape(-1, at.shape[-1])
    residual = box_residual(problem, point, box_gradient(problem, point))
    for _ in range(max_iterations):
        todo = np.flatnonzero(residual > tolerance)
        if not todo.size:
            break
        part = restricted(problem, todo)
        policy = softmax(part.log_reference + point[todo] / game.beta)
        # The tangent of the optimal value is its gradient, the policy, times the reward.
        tangent = part._replace(
            linear=part.linear + part.tilt[:, None] * policy, tilt=np.zeros(todo.size)
        )
        moved = minimise_in_box(tangent, tolerance=0.1 * tolerance, max_iterations=300).minimiser
        point[todo] = moved
        residual[todo] = box_residual(part, moved, box_gradient(part, moved))
    value = box_value(problem, point).reshape(at.shape[:-1])
    best = value.argmin(axis=0)[None]
    value = np.take_along_axis(value, best, axis=0)[0]
    residual = np.take_along_axis(residual.reshape(at.shape[:-1]), best, axis=0)[0].max(axis=-1)
    reward = np.take_along_axis(point.reshape(at.shape), best[..., None], axis=0)[0]
    converged = bool((residual <= tolerance).all())
    if not converged:
        warn_caller(
            f"optimistic_reward ended with a projected gradient of {residual.max():.3g} above"
            f" tolerance = {tolerance:g}"
        )
    log_policy = log_softmax(game.log_reference + reward / game.beta)
    return OptimisticReward(
        asarray(reward), asarray(log_policy), value.sum(axis=-1), residual, converged
    )


def _starts(game: PessimisticGame, starts: Any) -> np.ndarray:
    """Return where to begin, ``(S, *batch, X, Y)``, inside the box."""
    shape = game.log_reference.shape[-2:]
    if starts is None:
        n = shape[-1]
        corners = np.where(np.eye(n, dtype=bool)[:, None, :], game.high, game.low)
        starts = np.concatenate([np.zeros((1, *shape)), corners])
        lead = np.broadcast_shapes(game.wins.shape[:-3], game.eta.shape, game.base.shape[:-2])
        starts = starts.reshape(n + 1, *(1 for _ in lead), *shape)
        starts = np.broadcast_to(starts, (n + 1, *lead, *shape))
    starts = as_float_array(starts, "starts")
    check_shape(starts, "starts", shape)
    if starts.ndim < 3:
        raise ValueError(
            f"starts must have an axis of starts before ({shape[0]}, {shape[1]}), got shape"
            f" {starts.shape}"
        )
    return np.clip(starts, game.low, game.high)


def _problems(game: PessimisticGame, at: np.ndarray) -> BoxProblem:
    """Return the problems of all starts, games and contexts along one axis.

    The value is subtracted, so that their tilt is negative and they are not convex.
    """
    lead, n = at.shape[:-1], at.shape[-1]
    tilt = game.eta[..., None] * game.context_probs
    vectors = {
        "linear": tilt[..., None] * game.base,
        "log_reference": game.log_reference,
        "low": game.low,
        "high": game.high,
    }
    return BoxProblem(
        tilt=-np.broadcast_to(tilt, lead).ravel(),
        beta=game.beta,
        wins=np.broadcast_to(game.wins, (*lead, n, n)).reshape(-1, n, n),
        **{name: np.broadcast_to(v, (*lead, n)).reshape(-1, n) for name, v in vectors.items()},
    )
