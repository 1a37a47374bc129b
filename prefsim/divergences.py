r"""The f-divergences of the field: generator, derivative and the derivative's inverse.

With :math:`u = \pi / \pi_{ref} = e^a`, a divergence is
:math:`D_f(\pi \| \pi_{ref}) = E_{\pi_{ref}} f(u)`. A loss needs the *score* :math:`f'(e^a)`
(constants cancel in pairs), a closed-form optimum needs the inverse of :math:`f'`. All functions
take log-ratios ``a`` so that nothing overflows before it must.

References
----------
Wang et al. 2023, "Beyond Reverse KL", arXiv:2309.16240, table 1. Huang et al. 2024,
arXiv:2407.13399 (mixed chi-squared).
"""

from __future__ import annotations

import math

from prefsim.checks import (
    as_log_policies,
    as_policies,
    check_broadcast,
    check_choice,
    check_interval,
)
from prefsim.numerics import array_namespace, bounded_exp, log_sigmoid
from prefsim.typing import Array, ArrayT

DIVERGENCES = ("reverse_kl", "forward_kl", "jensen_shannon", "alpha", "mixed_chi_squared")

__all__ = [
    "DIVERGENCES",
    "derivative_at_one",
    "divergence_score",
    "f_divergence",
    "inverse_derivative",
    "pinsker_constant",
    "total_variation",
]


def check_divergence(divergence: str, alpha: float) -> None:
    """Raise unless the divergence is known and ``alpha`` lies in (0, 1)."""
    check_choice(DIVERGENCES, divergence=divergence)
    check_interval(alpha=alpha, low=0.0, high=1.0, closed="neither")


def divergence_score(log_ratio: ArrayT, divergence: str, *, alpha: float = 0.5) -> ArrayT:
    r"""Return :math:`f'(e^a)` up to a constant that cancels between two responses.

    Parameters
    ----------
    log_ratio
        ``a = log π − log π_ref`` in nats, any shape.
    divergence
        ``"reverse_kl"`` (score ``a``), ``"forward_kl"`` (``−e^{−a}``), ``"jensen_shannon"``
        (``log σ(a)``), ``"alpha"`` (``(1 − e^{−αa})/α``) or ``"mixed_chi_squared"`` (``a + e^a``).
    alpha
        Order of the alpha divergence, in (0, 1): 0 is the limit of the reverse, 1 that of the
        forward KL.
    """
    check_divergence(divergence, alpha)
    if divergence == "reverse_kl":
        return log_ratio
    if divergence == "forward_kl":
        return -bounded_exp(-log_ratio)
    if divergence == "jensen_shannon":
        return log_sigmoid(log_ratio)
    if divergence == "mixed_chi_squared":
        return log_ratio + bounded_exp(log_ratio)
    return _scaled_expm1(log_ratio, alpha)


def _scaled_expm1(log_ratio: ArrayT, alpha: float) -> ArrayT:
    r"""Return :math:`(1 - e^{-\alpha a})/\alpha`.

    Exact as ``alpha → 0``, continued by a tangent where it overflows.
    """
    xp = array_namespace(log_ratio)
    exponent = -alpha * log_ratio
    moderate = exponent < 1.0
    near = xp.where(moderate, exponent, xp.zeros_like(exponent))
    far = xp.where(moderate, xp.ones_like(exponent), exponent)
    return -xp.where(moderate, xp.expm1(near), bounded_exp(far) - 1.0) / alpha


def f_divergence(logp: ArrayT, logq: Array, divergence: str, *, alpha: float = 0.5) -> ArrayT:
    r"""Return :math:`D_f(p \| q) = \sum_y q_y f(p_y / q_y)` along the last axis, in nats.

    Defined for every pair of distributions (``-inf`` is probability zero) and ``inf`` only where
    the divergence is, or where it exceeds the dtype. Jensen–Shannon is the un-halved form,
    ``KL(p‖m) + KL(q‖m)``.

    Examples
    --------
    >>> import numpy as np
    >>> p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    >>> [
    ...     round(float(f_divergence(p, q, d)), 6)
    ...     for d in ("reverse_kl", "forward_kl", "jensen_shannon")
    ... ]
    [0.143841, 0.130812, 0.067644]
    """
    check_divergence(divergence, alpha)
    logp, logq = as_log_policies(logp=logp, logq=logq)
    check_broadcast(logp=logp, logq=logq)
    xp = array_namespace(logp, logq)
    logp, logq = xp.broadcast_arrays(logp, logq)
    p, q = xp.exp(logp), xp.exp(logq)
    shared = xp.isfinite(logp) & xp.isfinite(logq)
    zero = xp.zeros_like(logp)
    a = xp.where(shared, logp, zero) - xp.where(shared, logq, zero)
    # Terms q f(u) with a multiple of u − 1 added to f, so that each is >= 0; written in p, q and a
    # because u alone overflows first.
    if divergence == "reverse_kl":
        terms, at_zero, at_infinity = p * a - p + q, 1.0, math.inf
    elif divergence == "forward_kl":
        terms, at_zero, at_infinity = -q * a + p - q, math.inf, 1.0
    elif divergence == "jensen_shannon":
        terms = p * (log_sigmoid(a) + math.log(2.0)) + q * (log_sigmoid(-a) + math.log(2.0))
        at_zero = at_infinity = math.log(2.0)
    elif divergence == "alpha":
        # D_α(p‖q) = D_{1−α}(q‖p): the smaller order of the two does not cancel near its limit.
        if alpha <= 0.5:
            terms = (p * _scaled_expm1(a, alpha) - p + q) / (1.0 - alpha)
        else:
            terms = (q * _scaled_expm1(-a, 1.0 - alpha) - q + p) / alpha
        at_zero, at_infinity = 1.0 / (1.0 - alpha), 1.0 / alpha
    else:
        squared = xp.exp(xp.where(shared, 2.0 * logp, zero) - xp.where(shared, logq, zero))
        terms, at_zero, at_infinity = p * a - p + 0.5 * squared + 0.5 * q, 0.5, math.inf
    terms = xp.where(shared, terms, zero)
    terms = xp.where(xp.isfinite(logp) & ~shared, _multiple(p, at_infinity), terms)
    terms = xp.where(xp.isfinite(logq) & ~shared, _multiple(q, at_zero), terms)
    return xp.sum(terms, axis=-1)


def total_variation(p: ArrayT, q: Array) -> ArrayT:
    """Return half the sum of ``|p − q|`` along the last axis, in [0, 1].

    It is the largest difference of the probabilities that two distributions give to one event.

    Parameters
    ----------
    p, q
        Probabilities ``(..., n)``.

    Examples
    --------
    >>> import numpy as np
    >>> float(total_variation(np.array([0.5, 0.5]), np.array([0.25, 0.75])))
    0.25
    """
    p, q = as_policies(p=p, q=q)
    check_broadcast(p=p, q=q)
    xp = array_namespace(p, q)
    return 0.5 * xp.sum(xp.abs(p - q), axis=-1)


def _multiple(x: ArrayT, factor: float) -> ArrayT:
    """Return ``x * factor`` for positive ``x`` without ``0 * inf``."""
    xp = array_namespace(x)
    return xp.full_like(x, math.inf) if math.isinf(factor) else x * factor


def pinsker_constant(divergence: str) -> float:
    r"""Return the least c of Pinsker's inequality for a divergence.

    :math:`\mathrm{TV}(p, q) \le c\,\sqrt{D_f(p \| q)}` for all distributions.

    It is attained as q approaches p, where :math:`D_f \approx \tfrac12 f''(1) \chi^2`: c² = 1/(2
    f''(1)), for every order of the alpha divergence the same.

    Examples
    --------
    >>> (
    ...     pinsker_constant("reverse_kl"),
    ...     pinsker_constant("jensen_shannon"),
    ...     pinsker_constant("mixed_chi_squared"),
    ... )
    (0.7071067811865476, 1.0, 0.5)
    """
    check_choice(DIVERGENCES, divergence=divergence)
    return math.sqrt(0.5 / {"jensen_shannon": 0.5, "mixed_chi_squared": 2.0}.get(divergence, 1.0))


def derivative_at_one(divergence: str) -> float:
    """Return ``f'(1)`` of the full derivative that :func:`inverse_derivative` inverts."""
    return {
        "reverse_kl": 1.0,
        "forward_kl": -1.0,
        "jensen_shannon": 0.0,
        "alpha": 0.0,
        "mixed_chi_squared": 1.0,
    }[divergence]


def derivative(log_ratio: ArrayT, divergence: str, *, alpha: float = 0.5) -> ArrayT:
    """Return the full ``f'(e^a)``, constants included (arXiv:2309.16240, table 1)."""
    constant = {"reverse_kl": 1.0, "jensen_shannon": math.log(2.0)}.get(divergence, 0.0)
    return divergence_score(log_ratio, divergence, alpha=alpha) + constant


def inverse_derivative(v: ArrayT, divergence: str, *, alpha: float = 0.5) -> ArrayT:
    r"""Return the log-ratio ``a`` with :math:`f'(e^a) = v`.

    ``+inf`` where ``v`` lies above the range of ``f'``.
    """
    xp = array_namespace(v)
    if divergence == "reverse_kl":
        return v - 1.0
    if divergence == "mixed_chi_squared":
        return _log_wright_omega(v)
    room = {"forward_kl": -v, "jensen_shannon": 2.0 - xp.exp(v), "alpha": 1.0 - alpha * v}[
        divergence
    ]
    inside = ~(room <= 0)  # a NaN stays one
    log_room = xp.log(xp.where(inside, room, xp.ones_like(room)))
    if divergence == "forward_kl":
        a = -log_room
    elif divergence == "jensen_shannon":
        a = v - log_room
    else:
        a = -xp.log1p(xp.where(inside, -alpha * v, xp.zeros_like(v))) / alpha
    return xp.where(inside, a, xp.full_like(v, math.inf))


def _log_wright_omega(v: ArrayT) -> ArrayT:
    """Solve ``a + e^a = v`` by Newton from the right, where it converges monotonically."""
    xp = array_namespace(v)
    a = xp.where(v > 1, xp.log(xp.where(v > 1, v, xp.ones_like(v))), v)
    for _ in range(12):
        u = xp.exp(a)
        a = a - (a + u - v) / (1.0 + u)
    return a
