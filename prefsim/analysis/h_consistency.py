r"""How far a small risk in a comp-sum loss brings the zero-one risk down: bounds of H-consistency.

For a set H of scorers that is symmetric and complete, and every scorer h of it,

.. math:: R_{01}(h) - R^*_{01}(H) + M_{01}(H) \le \Gamma_\tau\big(R_\tau(h) - R^*_\tau(H)
    + M_\tau(H)\big),

where :math:`\Gamma_\tau` is the inverse of the *error transformation* :math:`T_\tau` and M a
*minimisability gap*: by how much the best scorer of H misses the best risk at each input by itself.
Everything is exact, in NumPy's float64, and broadcasts over leading axes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.checks import (
    as_float_array,
    as_probabilities,
    check_broadcast,
    check_integer,
    check_nonnegative,
    check_unit_interval,
)
from prefsim.losses.comp_sum import comp_sum_link

__all__ = [
    "constant_minimisability_gap",
    "h_consistency_bound",
    "h_consistency_transformation",
    "least_comp_sum_risk",
    "minimisability_gap_bound",
    "simple_h_consistency_bound",
]


def _log_mean_of_powers(weight: np.ndarray, value: np.ndarray, power: float) -> np.ndarray:
    """Return ``log(sum w x^power)`` along the last axis, of weights that sum to one.

    A weight of zero counts for nothing, whatever its value.
    """
    counted = weight > 0
    exponent = power * np.log(np.where(counted, value, 1.0))
    if abs(power) < 1:
        # Around one, where a logarithm of the sum itself would cancel.
        return np.log1p(np.sum(weight * np.expm1(exponent), axis=-1))
    logs = np.where(counted, np.log(np.where(counted, weight, 1.0)) + exponent, -np.inf)
    peak = np.max(logs, axis=-1, keepdims=True)
    return np.log(np.sum(np.exp(logs - peak), axis=-1)) + peak[..., 0]


def least_comp_sum_risk(label_probs: Any, *, tau: float) -> np.ndarray:
    r"""Return the least expected comp-sum loss at an input with a law q of labels, over all scores.

    .. math:: C^*_\tau(q) = \frac{(\sum_y q_y^{1/(2-\tau)})^{2-\tau} - 1}{1 - \tau} \quad (\tau < 2)

    It is attained at :math:`p_y \propto q_y^{1/(2-\tau)}`, and the entropy of q at τ = 1. From
    τ = 2 on it is :math:`(1 - \max q)/(\tau - 1)`, approached as the scores grow.

    Parameters
    ----------
    label_probs
        q, ``(..., K)``.
    tau
        τ >= 0 of :func:`prefsim.losses.comp_sum`.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If a row is no distribution, or ``tau`` is out of range.

    References
    ----------
    Derived from the comp-sum losses of Mao, Mohri, Zhong 2023, arXiv:2304.07288.

    Examples
    --------
    >>> q = [0.5, 0.3, 0.15, 0.05]
    >>> [round(float(least_comp_sum_risk(q, tau=t)), 6) for t in (0.0, 1.0, 1.5, 2.0)]
    [2.480965, 1.14212, 0.791695, 0.5]
    """
    check_nonnegative(tau=tau)
    q = as_probabilities(label_probs, "label_probs")
    if tau >= 2:
        return (1 - np.max(q, axis=-1)) / (tau - 1)
    if tau == 1:
        return -np.sum(q * np.log(np.where(q > 0, q, 1.0)), axis=-1)
    root = (2 - tau) * _log_mean_of_powers(q, q, (tau - 1) / (2 - tau))
    return np.expm1(root) / (1 - tau)


def h_consistency_transformation(gap: Any, *, tau: float, n_classes: int) -> np.ndarray:
    r"""Return :math:`T_\tau(\beta)`: what an excess zero-one risk of β costs a comp-sum loss.

    With :math:`M = \big(\tfrac12(1+\beta)^{1/(2-\tau)} + \tfrac12(1-\beta)^{1/(2-\tau)}\big)
    ^{2-\tau}`,

    .. math::
        T_\tau = \frac{2^{1-\tau}}{1-\tau}(1 - M) \ (\tau < 1),\quad
        T_\tau = \frac{M - 1}{(\tau-1)\,n^{\tau-1}} \ (1 < \tau < 2),\quad
        T_\tau = \frac{\beta}{(\tau-1)\,n^{\tau-1}} \ (\tau\ge2),

    and :math:`T_1 = \log 2 - H(\frac{1+\beta}2)`. It is convex and increasing. Up to τ = 1, and for
    two classes up to τ = 2, some law and some scores attain it.

    Parameters
    ----------
    gap
        β in [0, 1], any shape.
    tau
        τ >= 0 of :func:`prefsim.losses.comp_sum`.
    n_classes
        Number n >= 2 of classes, which matters for τ > 1.

    Returns
    -------
    Array of the shape of ``gap``.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Mao, Mohri, Zhong 2023, arXiv:2304.07288.

    Examples
    --------
    >>> taus = (0.0, 0.5, 1.0, 1.5, 2.0)
    >>> [round(float(h_consistency_transformation(0.3, tau=t, n_classes=2)), 6) for t in taus]
    [0.046061, 0.04335, 0.045701, 0.062269, 0.15]
    """
    check_nonnegative(tau=tau)
    check_integer(n_classes=n_classes, low=2)
    beta = as_float_array(gap, "gap", min_ndim=0)
    check_unit_interval(beta, "gap")
    if tau >= 2:
        return beta / ((tau - 1) * float(n_classes) ** (tau - 1))
    doubled = np.stack([1 + beta, 1 - beta], axis=-1)
    if tau == 1:
        logs = np.log(np.where(doubled > 0, doubled, 1.0))
        return np.sum(doubled / 2 * logs, axis=-1)
    root = (2 - tau) * _log_mean_of_powers(doubled / 2, doubled, (tau - 1) / (2 - tau))
    several = 2 ** (1 - tau) if tau < 1 else float(n_classes) ** (1 - tau)
    return -several * np.expm1(root) / (1 - tau)


def h_consistency_bound(excess: Any, *, tau: float, n_classes: int) -> np.ndarray:
    r"""Return :math:`\Gamma_\tau(t)`, the largest excess zero-one risk that a loss allows.

    The inverse of :func:`h_consistency_transformation`; 1 where no excess zero-one risk costs as
    much.

    Parameters
    ----------
    excess
        Excess surrogate risk t >= 0, its minimisability gap added, any shape.
    tau, n_classes
        As in :func:`h_consistency_transformation`.

    Returns
    -------
    Array of the shape of ``excess``, in [0, 1].

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Mao, Mohri, Zhong 2023, the H-consistency bounds of comp-sum losses, arXiv:2304.07288.

    Examples
    --------
    >>> [round(float(h_consistency_bound(0.05, tau=t, n_classes=3)), 6) for t in (0.0, 1.0, 2.0)]
    [0.31225, 0.313563, 0.15]
    """
    t = _excess(excess)
    low, high = np.zeros_like(t), np.ones_like(t)
    # A bisection to the last bit: from 1 to 2^-60.
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = h_consistency_transformation(middle, tau=tau, n_classes=n_classes) < t
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def simple_h_consistency_bound(excess: Any, *, tau: float, n_classes: int) -> np.ndarray:
    r"""Return a bound in closed form that is above :func:`h_consistency_bound`.

    :math:`\sqrt{2^\tau(2-\tau)t}` for τ < 1, :math:`\sqrt{2n^{\tau-1}t}` for 1 <= τ < 2, and
    :math:`(\tau-1)n^{\tau-1}t` from 2 on.

    Parameters
    ----------
    excess, tau, n_classes
        As in :func:`h_consistency_bound`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Mao, Mohri, Zhong 2023, arXiv:2304.07288.

    Examples
    --------
    >>> float(simple_h_consistency_bound(0.02, tau=1.0, n_classes=3))
    0.2
    """
    check_nonnegative(tau=tau)
    check_integer(n_classes=n_classes, low=2)
    t = _excess(excess)
    if tau < 1:
        return np.sqrt(2**tau * (2 - tau) * t)
    several = float(n_classes) ** (tau - 1)
    return np.sqrt(2 * several * t) if tau < 2 else (tau - 1) * several * t


def _excess(excess: Any) -> np.ndarray:
    t = as_float_array(excess, "excess", min_ndim=0)
    if (t < 0).any():
        raise ValueError(f"excess must be >= 0, got {float(np.min(t))}")
    return t


def _laws(context_probs: Any, label_probs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of inputs ``(..., X)`` and laws of labels ``(..., X, K)``, or raise."""
    mu = as_probabilities(context_probs, "context_probs")
    q = as_probabilities(label_probs, "label_probs", min_ndim=2)
    check_broadcast(context_probs=mu, label_probs=q[..., 0])
    return mu, q


def constant_minimisability_gap(
    context_probs: Any, label_probs: Any, *, tau: float | None = None
) -> np.ndarray:
    r"""Return the minimisability gap of the scorers that give every input the same scores.

    .. math:: M_\tau = C^*_\tau\big(\textstyle\sum_x\mu(x)q(\cdot|x)\big)
        - \sum_x\mu(x) C^*_\tau(q(\cdot|x))

    The set is symmetric and complete. Of all scorers without restriction the gap is 0.

    Parameters
    ----------
    context_probs
        μ, ``(..., X)``.
    label_probs
        ``q(·|x)``, ``(..., X, K)``.
    tau
        τ >= 0 of :func:`prefsim.losses.comp_sum`; the zero-one loss unless given.

    Returns
    -------
    Array ``(...)``, >= 0.

    Raises
    ------
    ValueError
        If a row is no distribution, ``tau`` is out of range, or shapes do not fit.

    References
    ----------
    Mao, Mohri, Zhong 2023, minimisability gaps, arXiv:2304.07288.

    Examples
    --------
    >>> mu, q = [0.6, 0.4], [[0.9, 0.05, 0.05], [0.1, 0.8, 0.1]]
    >>> [round(float(constant_minimisability_gap(mu, q, tau=t)), 6) for t in (None, 0.0, 1.0)]
    [0.28, 0.515484, 0.377276]
    """
    mu, q = _laws(context_probs, label_probs)
    mixed = np.sum(mu[..., None] * q, axis=-2)

    def least(laws: np.ndarray) -> np.ndarray:
        return 1 - np.max(laws, axis=-1) if tau is None else least_comp_sum_risk(laws, tau=tau)

    return least(mixed) - np.sum(mu * least(q), axis=-1)


def minimisability_gap_bound(
    sum_exponential_risk: Any, context_probs: Any, label_probs: Any, *, tau: float
) -> np.ndarray:
    r"""Return :math:`\Phi^\tau(R^*_0(H)) - \sum_x\mu(x)C^*_\tau`, above a minimisability gap.

    By Jensen's inequality the least risk of a set H in a comp-sum loss is at most
    :math:`\Phi^\tau` of its least risk in the sum-exponential loss (τ = 0).

    Parameters
    ----------
    sum_exponential_risk
        :math:`R^*_0(H)` >= 0, ``(...)``.
    context_probs, label_probs
        As in :func:`constant_minimisability_gap`.
    tau
        τ >= 0 of :func:`prefsim.losses.comp_sum`.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If an argument is out of range, or shapes do not fit.

    References
    ----------
    Mao, Mohri, Zhong 2023, minimisability gaps, arXiv:2304.07288.

    Examples
    --------
    >>> round(float(minimisability_gap_bound(1.0, [1.0], [[1.0, 0.0]], tau=1.0)), 6)
    0.693147
    """
    risk = as_float_array(sum_exponential_risk, "sum_exponential_risk", min_ndim=0)
    if (risk < 0).any() or not math.isfinite(float(np.sum(risk))):
        raise ValueError(f"sum_exponential_risk must be finite and >= 0, got {float(np.min(risk))}")
    mu, q = _laws(context_probs, label_probs)
    least = np.sum(mu * least_comp_sum_risk(q, tau=tau), axis=-1)
    return comp_sum_link(np.log1p(risk), tau=tau) - least
