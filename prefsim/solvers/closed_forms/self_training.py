r"""Exact updates of two methods that self-play is compared with.

They are iterative DPO, and tuning on the best of K samples.

Both work on whole batches of games in NumPy, in log space: a response may fall below the smallest
float and still come back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_log_policies,
    as_preference,
    check_broadcast,
    check_integer,
    check_positive,
    check_shape,
    names_shapes,
)
from prefsim.numerics import log1mexp, log_softmax, sigmoid

# A damped step moves no score by more than one nat: enough for scores of a hundred and the end.
NEWTON_STEPS = 200

__all__ = ["best_of_n", "iterative_dpo_step"]


def _finite_logs(log_policy: Any, n: int) -> np.ndarray:
    """Return the log-probabilities ``(..., n)`` of a policy with full support, or raise."""
    (table,) = as_log_policies(tail=(n,), log_policy=log_policy)
    return as_float_array(table, "log_policy", min_ndim=1)


@names_shapes
def iterative_dpo_step(preference: Any, log_policy: Any, *, beta: float) -> np.ndarray:
    r"""Return the exact minimiser of the DPO loss on all pairs that a policy draws.

    The policy itself is the reference.

    It is :math:`\pi_t e^{f/\beta}/Z`, with f the Bradley–Terry scores fitted to the preferences of
    pairs from :math:`\pi_t \otimes \pi_t`:
    :math:`\sum_{y'} \pi_t(y')\,[P(y \succ y') - \sigma(f_y - f_{y'})] = 0` for every y. In this
    form no equation is weighted by the probability of its own response, and the solution is exact
    however small that is.

    Parameters
    ----------
    preference
        ``(..., n, n)``, strictly between 0 and 1: a certain preference has no finite score.
    log_policy
        ``(..., n)`` in nats, finite.
    beta
        DPO's β > 0.

    Returns
    -------
    Array ``(..., n)``: normalised log-probabilities in nats.

    Raises
    ------
    ValueError
        If the preferences are none, one of them is 0 or 1, a log-probability is not finite, or
        ``beta`` is out of range.

    References
    ----------
    Rosset et al. 2024, arXiv:2404.03715 (iterative DPO as the rival of DNO); the scaled equations
    are derived.

    Examples
    --------
    >>> P = [[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]]
    >>> np.exp(iterative_dpo_step(P, np.log([0.4, 0.4, 0.2]), beta=0.5)).round(7)
    array([0.6632038, 0.247799 , 0.0889972])
    """
    check_positive(beta=beta)
    table = as_preference(preference)
    logs = _finite_logs(log_policy, table.shape[-1])
    certain = (table <= 0) | (table >= 1)
    if certain.any():
        raise ValueError(
            f"preference must lie strictly between 0 and 1, got {table[certain][0]:g}: no finite"
            " score is certain to win"
        )
    n = logs.shape[-1]
    batch = np.broadcast_shapes(table.shape[:-2], logs.shape[:-1])
    logs, table = (
        np.broadcast_to(log_softmax(logs), (*batch, n)),
        np.broadcast_to(table, (*batch, n, n)),
    )
    drawn, eye = np.exp(logs), np.eye(n)
    # The scores have a free constant: the likeliest response keeps 0, in place of the one equation
    # that says the least.
    leader = (np.arange(n) == np.argmax(logs, axis=-1)[..., None])[..., None]
    scores = np.zeros((*batch, n))
    for _ in range(NEWTON_STEPS):
        won = sigmoid(scores[..., :, None] - scores[..., None, :])
        residual = (drawn[..., None, :] * (table - won)).sum(axis=-1)
        slope = drawn[..., None, :] * won * (1 - won)
        system = np.where(leader, eye, eye * slope.sum(axis=-1, keepdims=True) - slope)
        step = np.linalg.solve(system, np.where(leader[..., 0], 0.0, residual)[..., None])[..., 0]
        length = np.abs(step).max(axis=-1, keepdims=True)
        scores = scores + step / (1 + length)
        if (length <= 1e-14 * (1 + np.abs(scores).max(axis=-1, keepdims=True))).all():
            break
    return log_softmax(logs + scores / beta)


@names_shapes
def best_of_n(score: Any, log_policy: Any, n: int) -> np.ndarray:
    r"""Return the law of the best of n independent samples, what supervised tuning on it imitates.

    Log-probabilities ``(..., Y)``.

    With F the probability of a score up to that of y, :math:`F(y)^n - F(y^-)^n`, shared by
    responses of equal score as the policy does.

    Parameters
    ----------
    score
        ``(..., Y)``; higher is better.
    log_policy
        ``(..., Y)`` in nats, finite.
    n
        Number of samples, >= 1.

    Raises
    ------
    ValueError
        If shapes differ, a value is not finite or ``n`` is out of range.

    Examples
    --------
    >>> np.exp(best_of_n([0.0, 1.0, 2.0], np.log([0.5, 0.3, 0.2]), 2)).round(12)
    array([0.25, 0.39, 0.36])
    """
    check_integer(low=1, n=n)
    scores = as_float_array(score, "score", min_ndim=1)
    (log_policy,) = as_log_policies(log_policy=log_policy)
    check_shape(scores, "score", (log_policy.shape[-1],))
    check_broadcast(score=scores, log_policy=log_policy)
    logs = _finite_logs(log_policy, log_policy.shape[-1])
    logs = log_softmax(logs)
    below = np.where(scores[..., None, :] < scores[..., :, None], logs[..., None, :], -np.inf)
    level = np.where(scores[..., None, :] == scores[..., :, None], logs[..., None, :], -np.inf)
    worse, tied = np.logaddexp.reduce(below, axis=-1), np.logaddexp.reduce(level, axis=-1)
    upto = np.minimum(np.logaddexp(worse, tied), 0.0)
    # log(F^n − F⁻^n), and of it the response's share among its ties; F⁻/F in a form that keeps a
    # rare response.
    ratio = -np.logaddexp(0.0, tied - worse)
    gained = n * upto + log1mexp(np.minimum(n * ratio, -1e-300))
    return log_softmax(gained + logs - tied)
