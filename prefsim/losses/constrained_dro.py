r"""Worst cases within a KL ball around uniform: the temperature is the dual variable of its radius.

.. math:: \max_{\mathrm{KL}(p \| 1/K) \le \rho} \langle p, v \rangle
    - \underline\lambda\,\mathrm{KL}(p \| 1/K)
    = \min_{\lambda \ge \underline\lambda} \lambda \log \tfrac1K \sum_k e^{v_k/\lambda}
    + (\lambda - \underline\lambda)\rho
"""

from __future__ import annotations

import math
from typing import NamedTuple

from prefsim.checks import (
    as_floats,
    check_broadcast,
    check_interval,
    check_nonnegative,
    check_positive,
    check_shape,
)
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.numerics import array_namespace, host_values, widened
from prefsim.numerics import stop_gradient as constant
from prefsim.typing import Array, ArrayT, Number

__all__ = ["ConstrainedKlDro", "constrained_kl_dro"]

STEPS = 60  # safeguarded Newton ends in about six; bisection alone would end in these


class ConstrainedKlDro(NamedTuple):
    """A worst case over a KL ball.

    Attributes
    ----------
    value
        ``(...)``; its first derivative in the scores is exact, because the temperature is a
        minimiser (envelope theorem).
    lambda_
        The minimising temperature, ``(...)``, a constant of differentiation.
    residual
        Certificate: how far ``KL(p || 1/K)`` is from the radius, or beyond it in the direction in
        which an end of the interval allows no step, nats.
    """

    value: Array
    lambda_: Array
    residual: Array


def constrained_kl_dro(
    scores: ArrayT, *, radius: Number, lowest: float, highest: float = math.inf
) -> ConstrainedKlDro:
    r"""Return the worst mean of the scores within a KL ball, and the temperature that gives it.

    .. math:: \min_{\underline\lambda \le \lambda \le \overline\lambda}
        \lambda \log \tfrac1K \sum_k e^{v_k/\lambda} + (\lambda - \underline\lambda)\rho

    Parameters
    ----------
    scores
        ``(..., K)``, any finite size.
    radius
        ρ >= 0, nats, a number or an array that broadcasts against ``(...)``. From log(K / number
        of largest scores) on the temperature is ``lowest``.
    lowest
        Smallest temperature, > 0: also the weight of the KL penalty that remains in the ball.
    highest
        Largest temperature, up to ∞, at which the value is the worst mean itself; below, it is an
        upper bound.

    Returns
    -------
    ConstrainedKlDro

    Raises
    ------
    ValueError
        If ``radius`` is negative, ``lowest`` not a finite number > 0, or ``highest`` not in
        [lowest, ∞].

    Notes
    -----
    The objective is convex in λ with slope ρ − KL(p_λ‖1/K), and the divergence falls strictly in λ
    unless all scores are equal. Newton's method in log λ finds the root within a bracket that
    halves whenever a step leaves it; KL <= range²/(8λ²) bounds it from above.

    References
    ----------
    Qiu, Hu, Yuan, Zhou, Zhang, Yang 2023, the dual of the KL-constrained problem, arXiv:2305.11965.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.asarray([-0.3, -0.7, -1.1, -1.6])
    >>> found = constrained_kl_dro(scores, radius=0.3, lowest=0.05)
    >>> round(float(found.lambda_), 10), round(float(found.value + 0.05 * 0.3), 10)
    (0.535826301, -0.5709716121)
    """
    check_nonnegative(arrays=True, radius=radius)
    check_positive(lowest=lowest)
    check_interval(highest=highest, low=lowest, high=math.inf, closed="both")
    read, ball = as_floats(nan=True, scores=scores, radius=radius)
    check_shape(read, "scores", (None,))
    check_broadcast(scores=read[..., 0], radius=ball)
    x, rho = widened(read), widened(ball)
    xp = array_namespace(x)
    lambda_ = _temperature(constant(x), constant(rho), float(lowest), float(highest))
    # A ball of radius 0 costs nothing, at any temperature.
    finite = xp.where(xp.isinf(lambda_), xp.full_like(lambda_, lowest), lambda_)
    slope = constant(rho) - kl_dro_dual(constant(x), lambda_=lambda_).divergence
    at_an_end = ((lambda_ == lowest) & (slope > 0)) | ((lambda_ == highest) & (slope < 0))
    residual = xp.where(at_an_end, 0 * slope, xp.abs(slope))
    parts = (kl_dro(x, lambda_=lambda_) + (finite - lowest) * rho, lambda_, residual)
    return ConstrainedKlDro(*(xp.astype(part, read.dtype, copy=False) for part in parts))


def _temperature(rows: ArrayT, radius: Array, lowest: float, highest: float) -> ArrayT:
    """Return the minimising temperature of scores ``(..., K)`` for radii that broadcast."""
    xp = array_namespace(rows)
    some = radius > 0
    safe = xp.where(some, radius, xp.ones_like(radius))
    span = xp.max(rows, axis=-1) - xp.min(rows, axis=-1)
    floor = xp.full_like(span + safe, lowest)
    # With room for the rounding of a bound that two equal groups of scores attain.
    bound = xp.where(some, 1.01 * span / xp.sqrt(8 * safe), xp.full_like(floor, math.inf))
    ceiling = xp.clip(bound, lowest, highest)
    at_lowest = kl_dro_dual(rows, lambda_=floor).divergence <= radius
    settled = at_lowest | (kl_dro_dual(rows, lambda_=ceiling).divergence >= radius)
    ends = xp.where(at_lowest, floor, ceiling)
    # Where nothing is looked for the bracket is a point, and no infinite one.
    found = _root(rows, safe, floor, xp.where(settled, floor, ceiling))
    return xp.where(settled, ends, found)


def _root(rows: ArrayT, radius: Array, low: Array, high: Array) -> ArrayT:
    """Return where the divergence is the radius, between temperatures on either side of it."""
    xp = array_namespace(rows)
    tolerance = 8 * float(xp.finfo(rows.dtype).eps)
    # That of normal scores, which is where many scores are.
    start = xp.std(rows, axis=-1) / xp.sqrt(2 * radius)
    lambda_ = xp.minimum(xp.maximum(start, low), high)
    for _ in range(STEPS):
        dual = kl_dro_dual(rows, lambda_=lambda_)
        mean = xp.sum(dual.weights * rows, axis=-1, keepdims=True)
        variance = xp.sum(dual.weights * (rows - mean) ** 2, axis=-1)
        excess = dual.divergence - radius
        low, high = xp.where(excess > 0, lambda_, low), xp.where(excess > 0, high, lambda_)
        flat = variance <= 0
        # d KL / d log λ = −Var/λ²
        step = excess * lambda_**2 / xp.where(flat, xp.ones_like(variance), variance)
        newton = lambda_ * xp.exp(xp.clip(step, -50.0, 50.0))
        inside = ~flat & (newton > low) & (newton < high)
        moved = xp.where(inside, newton, xp.sqrt(low) * xp.sqrt(high))
        # Rounding of the divergence is no reason to move.
        moved = xp.where(xp.abs(excess) <= tolerance * radius, lambda_, moved)
        # Where there are no values to look at, all steps are made.
        left = host_values(xp.abs(moved - lambda_) > tolerance * lambda_)
        lambda_ = moved
        if left is not None and not left.any():
            break
    return lambda_
