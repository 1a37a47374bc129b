r"""The law of what users keep: of several samples one, the likelier the higher its reward.

Fitted by maximum likelihood, a model becomes that law; :mod:`prefsim.loops.self_consuming` does so
again and again. Of candidates without number it keeps :math:`p\,e^r / E_p e^r`; the best of n
samples is :func:`prefsim.solvers.closed_forms.self_training.best_of_n`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.backend import like, to_numpy
from prefsim.checks import as_floats, as_log_policies, check_broadcast, check_entries, check_integer
from prefsim.numerics import array_namespace, log_softmax, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = ["curated_law", "curation_factor"]

# The integrand is analytic within π/2 of the real line, so that the trapezoid rule is off by about
# e^{−π²/STEP}; below e^{−BEFORE} and beyond e^{AFTER} over the smallest weight nothing is left.
STEP, BEFORE, AFTER = 0.25, 40.0, 4.0
# Points of the integral at a time.
AT_ONCE = 64


def curation_factor(reward: ArrayT, log_policy: Array, *, candidates: float) -> ArrayT:
    r"""Return by how much curation multiplies the probability of each response.

    .. math:: H(y) = E_{y_2, \dots, y_K \sim p}\,
        \frac{K e^{r(y)}}{e^{r(y)} + \sum_{j \ge 2} e^{r(y_j)}}
        = K a_y \int_0^\infty e^{-s a_y} \Big(\sum_j p_j e^{-s a_j}\Big)^{K-1} ds,
        \qquad a = e^r

    Of K samples one is kept with probability proportional to e^r. The integral is computed to
    rounding, at a cost linear in the number of responses whatever K.

    Parameters
    ----------
    reward
        r, ``(..., Y)``: users weigh by e^r, so that its unit is theirs.
    log_policy
        A policy, or log p, ``(..., Y)`` in nats.
    candidates
        K, an integer >= 1, or ``math.inf``: then :math:`H = e^r / E_p e^r`.

    Returns
    -------
    Array ``(..., Y)``, in (0, K] with mean 1 under p, and increasing in the reward.

    Raises
    ------
    ValueError
        If ``candidates`` is out of range, the reward is not finite, a row of the policy does not
        sum to one or the shapes do not fit.

    References
    ----------
    Ferbach et al. 2024, the retraining step, arXiv:2407.09499 (number not confirmed); the integral
    is derived here.

    Examples
    --------
    >>> p, r = np.log([0.5, 0.3, 0.15, 0.05]), np.asarray([0.0, 0.5, 1.0, 2.0])
    >>> curation_factor(r, p, candidates=2).round(6)
    array([0.819127, 1.053964, 1.281428, 1.640659])
    """
    if candidates != math.inf:
        check_integer(low=1, candidates=candidates)
    (log_policy,) = as_log_policies(log_policy=log_policy)
    reward, log_policy = as_floats(reward=reward, log_policy=log_policy)
    check_broadcast(reward=reward, log_policy=log_policy)
    check_entries(reward, "reward", "be finite", np.isfinite)
    xp = array_namespace(reward)
    reward, log_policy = xp.broadcast_arrays(reward, log_policy)
    if candidates == math.inf:
        return xp.exp(reward - logsumexp(log_policy + reward, keepdims=True))
    top = xp.max(reward, axis=-1, keepdims=True)
    return _integral(xp, reward - top, xp.exp(log_policy), int(candidates))


def _integral(xp: Any, log_weight: Array, policy: Array, candidates: int) -> Any:
    """Return K a ∫ e^{−sa} φ(s)^{K−1} ds in v = log s, for weights a of at most 1."""
    weight = xp.exp(log_weight)
    low = -BEFORE - math.log(candidates)
    high = AFTER - float(to_numpy(log_weight).min(initial=0.0))
    nodes = np.arange(low, high + STEP, STEP)
    total = xp.zeros_like(weight)
    for first in range(0, nodes.size, AT_ONCE):
        points = like(np.exp(nodes[first : first + AT_ONCE]), weight)
        survive = xp.exp(-weight[..., None] * points)
        others = xp.sum(policy[..., None] * survive, axis=-2) ** (candidates - 1)
        total = total + xp.sum(survive * (points * others)[..., None, :], axis=-1)
    return candidates * STEP * weight * total


def curated_law(reward: ArrayT, log_policy: Array, *, candidates: float) -> ArrayT:
    r"""Return the law of the kept sample, :math:`\log(p H)` in nats, ``(..., Y)``.

    It is normalised anew: an error of the sum grows K-fold with every further curation.

    Parameters
    ----------
    reward, log_policy, candidates
        As for :func:`curation_factor`.

    Raises
    ------
    ValueError
        As :func:`curation_factor`.

    References
    ----------
    Ferbach et al. 2024, the retraining step, arXiv:2407.09499 (number not confirmed).

    Examples
    --------
    >>> p, r = np.log([0.5, 0.3, 0.15, 0.05]), np.asarray([0.0, 0.5, 1.0, 2.0])
    >>> np.exp(curated_law(r, p, candidates=4)).round(6)
    array([0.352315, 0.310507, 0.217373, 0.119805])
    """
    factor = curation_factor(reward, log_policy, candidates=candidates)
    (log_policy,) = as_log_policies(log_policy=log_policy)
    factor, log_policy = as_floats(factor=factor, log_policy=log_policy)
    return log_softmax(log_policy + array_namespace(factor).log(factor))
