r"""KL-regularised worst cases over a finite set.

The primitive under adaptive-temperature and robust losses.

For scores ``v`` over K outcomes, put a distribution p on the outcomes and take the worst one,
regularised towards uniform:

.. math:: \max_{p \in \Delta_K} \langle p, v \rangle - \lambda\,\mathrm{KL}(p \,\|\, 1/K)
    = \lambda \log \tfrac1K \sum_k e^{v_k/\lambda}

The maximum moves from the largest score (λ = 0) to the mean score (λ = ∞). The last axis always
holds the K outcomes.
"""

from __future__ import annotations

import math
from typing import Any, Generic, NamedTuple

import numpy as np

from prefsim.checks import (
    as_array,
    as_floats,
    check_broadcast,
    check_entries,
    check_integer,
    check_interval,
    check_shape,
)
from prefsim.numerics import (
    array_namespace,
    logsumexp,
    stop_gradient,
    widened,
)
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "KlDroDual",
    "capped_kl_dro",
    "capped_kl_dro_weights",
    "kl_dro",
    "kl_dro_dual",
]


class KlDroDual(NamedTuple, Generic[ArrayT]):
    """The worst distribution and what it tells.

    Attributes
    ----------
    weights
        The maximiser p, ``(..., K)``; also the gradient of the value in the scores.
    divergence
        ``KL(p || 1/K)``, ``(...)``, nats.
    slope
        Derivative of the value in λ, ``(...)``: minus the divergence.
    """

    weights: ArrayT
    divergence: ArrayT
    slope: ArrayT


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _log_mean_exp(x: ArrayT) -> ArrayT:
    """Return ``log(mean(exp(x)))`` along the last axis (kept).

    Accurate also where it is close to ``mean(x)``.
    """
    xp = array_namespace(x)
    mean = xp.mean(x, axis=-1, keepdims=True)
    near = xp.max(xp.abs(stop_gradient(x - mean)), axis=-1, keepdims=True) < 1.0
    # At high temperature log(sum) - log(K) would cancel; around the mean the first order vanishes
    # and nothing does.
    small = xp.where(near, x - mean, xp.zeros_like(x))
    close = mean + xp.log1p(xp.mean(xp.expm1(small), axis=-1, keepdims=True))
    # Around the peak, or single precision would lose the weights' sum at margins of 1e4.
    peak = stop_gradient(xp.max(x, axis=-1, keepdims=True))
    return xp.where(
        near, close, peak + (logsumexp(x - peak, keepdims=True) - math.log(x.shape[-1]))
    )


def _together(scores: Any, lambda_: Any) -> tuple[Any, Any]:
    """Return scores ``(..., K)`` and an array λ in floating point of one library, or raise.

    A NaN is seen in the value.
    """
    number = _is_scalar(lambda_)
    read, array = as_floats(nan=True, scores=scores, lambda_=1.0 if number else lambda_)
    check_shape(read, "scores", (None,))
    if read.shape[-1] == 0:
        raise ValueError(
            f"scores must hold at least one outcome along the last axis, got {tuple(read.shape)}"
        )
    if not number:
        check_broadcast(scores=read[..., 0], lambda_=array)
    return read, lambda_ if number else array


def _fits(scores: ArrayT, lambda_: Any) -> Any:
    """Return for which rows the scores over λ are numbers of their dtype, ``(..., 1)``.

    For the others λ is below every resolution of the scores, and its limit 0 is exact.
    """
    xp = array_namespace(scores)
    largest = xp.max(xp.abs(stop_gradient(scores)), axis=-1, keepdims=True)
    # With room for the difference of two of them.
    return largest / (0.25 * float(xp.finfo(scores.dtype).max)) <= lambda_


def _is_zero(lambda_: Any, scores: Array) -> bool:
    """Return whether a number λ is 0 in the dtype of the scores, in which one may divide by it."""
    smallest = float(array_namespace(scores).finfo(scores.dtype).smallest_normal)
    return _is_scalar(lambda_) and float(lambda_) < smallest


def _tempered(scores: Array, lambda_: Any) -> tuple[Array, Array | float, Array, Array | None]:
    """Return ``(scores / λ, λ, λ is 0, λ is ∞)`` with rows in the limits replaced.

    The mask of ∞ is None where λ is a regular float.
    """
    xp = array_namespace(scores)
    infinite = None
    if _is_scalar(lambda_):
        safe: Any = float(lambda_)
        zero = ~_fits(scores, safe)
    else:
        wide = widened(lambda_)[..., None]
        infinite = xp.isinf(wide)
        # Of no NaN, which is to be seen.
        zero = ~infinite & (wide == wide) & ((wide == 0) | ~_fits(scores, wide))
        safe = xp.where(zero | infinite, xp.ones_like(wide), wide)
    return xp.where(zero, xp.zeros_like(scores), scores) / safe, safe, zero, infinite


def _check_lambda(lambda_: Any) -> None:
    if not (hasattr(lambda_, "dtype") or isinstance(lambda_, list | tuple)) or _is_scalar(lambda_):
        check_interval(lambda_=lambda_, low=0.0, high=math.inf, closed="both")
        return
    array = as_array(lambda_, "lambda_", "real floating", "integral")
    # A temperature may be computed from the scores: a NaN of theirs is seen in the value.
    check_entries(array, "lambda_", "lie in [0, inf]", lambda x: ~(x < 0))


def kl_dro(scores: ArrayT, *, lambda_: Number | Array) -> ArrayT:
    r"""Return the KL-regularised worst mean of the scores.

    :math:`\lambda \log \frac1K \sum_k e^{v_k/\lambda}`.

    Parameters
    ----------
    scores
        ``(..., K)``, any finite size.
    lambda_
        Temperature in [0, ∞]: a number, or an array that broadcasts against ``(...)`` (then
        differentiable too). 0 gives the maximum and ∞ the mean, each exactly.

    Returns
    -------
    Array ``(...)`` in the units of the scores. At λ = 0 torch shares the gradient among tied
    maxima, the limit of λ → 0.

    Raises
    ------
    ValueError
        If ``lambda_`` is negative, or a number that is NaN.

    References
    ----------
    Zhu, Ying, Yang 2023, "Label distributionally robust losses", eq. of LDR-KL, arXiv:2112.14869.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.asarray([0.0, -1.0, -1.5, -3.0])
    >>> [round(float(kl_dro(scores, lambda_=l)), 6) for l in (0, 1.0, np.inf)]
    [0.0, -0.891112, -1.375]
    """
    _check_lambda(lambda_)
    scores, lambda_ = _together(scores, lambda_)
    xp = array_namespace(scores)
    x = widened(scores)
    if _is_zero(lambda_, x):
        value = xp.max(x, axis=-1)
    elif _is_scalar(lambda_) and lambda_ == math.inf:
        value = xp.mean(x, axis=-1)
    else:
        tempered, safe, zero, infinite = _tempered(x, lambda_)
        kept = safe * _log_mean_exp(tempered)
        kept = xp.where(zero, xp.max(x, axis=-1, keepdims=True), kept)
        if infinite is not None:
            kept = xp.where(infinite, xp.mean(x, axis=-1, keepdims=True), kept)
        value = kept[..., 0]
    return xp.astype(value, scores.dtype, copy=False)


def kl_dro_dual(scores: ArrayT, *, lambda_: float | Array) -> KlDroDual[ArrayT]:
    r"""Return the maximiser of :func:`kl_dro`, its divergence from uniform, and the slope in λ.

    Parameters
    ----------
    scores, lambda_
        As in :func:`kl_dro`.

    Returns
    -------
    KlDroDual
        At λ = 0 the weights are uniform on the maximisers (the limit of λ → 0), at ∞ uniform on
        all.

    Raises
    ------
    ValueError
        If ``lambda_`` is negative, or a number that is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> dual = kl_dro_dual(np.asarray([1.0, 0.0]), lambda_=1.0)
    >>> dual.weights.round(6), round(float(dual.divergence), 6)
    (array([0.731059, 0.268941]), 0.110944)
    """
    _check_lambda(lambda_)
    scores, lambda_ = _together(scores, lambda_)
    xp = array_namespace(scores)
    x = widened(scores)
    size = x.shape[-1]
    if _is_scalar(lambda_):
        small = _is_zero(lambda_, x)
        lambda_ = xp.full_like(x[..., 0], 0.0 if small else float(lambda_))
    tempered, _, zero, infinite = _tempered(x, lambda_)
    log_ratio = tempered - _log_mean_exp(tempered)  # log(K p)
    ratio = xp.exp(log_ratio)
    # mean of t log t - t + 1 with t = K p: every term is non-negative, so that a small divergence
    # does not cancel.
    divergence = xp.mean(ratio * log_ratio - xp.expm1(log_ratio), axis=-1, keepdims=True)
    peak = xp.max(x, axis=-1, keepdims=True)
    top = xp.where(
        x == peak, xp.ones_like(x), xp.where(x < peak, xp.zeros_like(x), peak)
    )  # NaN stays NaN
    ties = xp.sum(top, axis=-1, keepdims=True)
    weights = xp.where(zero, top / ties, xp.where(infinite, xp.ones_like(x) / size, ratio / size))
    divergence = xp.where(
        zero,
        math.log(size) - xp.log(ties),
        xp.where(infinite, xp.zeros_like(divergence), divergence),
    )
    divergence = xp.astype(divergence[..., 0], scores.dtype, copy=False)
    return KlDroDual(xp.astype(weights, scores.dtype, copy=False), divergence, -divergence)


def _suffix_logsumexp(x: ArrayT) -> ArrayT:
    """Return ``logsumexp(x[..., j:])`` for every j, by doubling.

    log2(n) vectorised steps, no cancellation.
    """
    xp = array_namespace(x)
    size, step = x.shape[-1], 1
    while step < size:
        nothing = xp.full((*x.shape[:-1], step), -math.inf, dtype=x.dtype, device=x.device)
        x = xp.logaddexp(x, xp.concat([x[..., step:], nothing], axis=-1))
        step *= 2
    return x


def _capped_count(ordered: ArrayT, k: int) -> ArrayT:
    """Return how many of the tempered scores get the full weight 1/k, ``(..., 1)``.

    Less than k of the ``ordered`` (decreasing) scores.
    """
    xp = array_namespace(ordered)
    tail = _suffix_logsumexp(ordered)[..., : k - 1]
    remaining = xp.asarray(
        np.log1p(-np.arange(k - 1) / k), dtype=ordered.dtype, device=ordered.device
    )
    # With m capped the rest shares 1 - m/k; once its largest share fits under 1/k it does so for
    # every larger m.
    overflows = remaining - tail + ordered[..., : k - 1] > -math.log(k)
    return xp.sum(xp.astype(overflows, ordered.dtype), axis=-1, keepdims=True)


def _water_filling(x: Array, k: int, lambda_: float) -> tuple[Array, Array]:
    """Return the value ``(..., 1)`` and the log of the scale s of the worst distribution.

    p = min(1/k, s e^{v/λ}), for 0 < λ < ∞.
    """
    xp = array_namespace(x)
    size = x.shape[-1]
    ordered = xp.sort(x, axis=-1, descending=True)
    count = _capped_count(stop_gradient(ordered) / lambda_, k)
    capped = xp.arange(size, dtype=x.dtype, device=x.device) < count
    free = logsumexp(xp.where(capped, xp.full_like(x, -math.inf), ordered / lambda_), keepdims=True)
    rest = (k - count) / k
    on_cap = xp.sum(
        xp.where(capped, ordered, xp.zeros_like(x)), axis=-1, keepdims=True
    ) / k - lambda_ * count / k * math.log(size / k)
    value = on_cap + lambda_ * rest * (free - xp.log(rest * size))
    plain = lambda_ * _log_mean_exp(x / lambda_)
    return xp.where(count == 0, plain, value), xp.log(rest) - free


def capped_kl_dro(scores: ArrayT, *, k: int, lambda_: float) -> ArrayT:
    r"""Return the worst case over distributions capped at 1/k.

    :math:`\max_{p \le 1/k} \langle p, v\rangle - \lambda\,\mathrm{KL}(p\|1/K)`.

    Parameters
    ----------
    scores
        ``(..., K)``.
    k
        Integer in [1, K]; 1 is :func:`kl_dro`, K the mean.
    lambda_
        Temperature in [0, ∞]; 0 is the mean of the k largest scores, ∞ the mean of all.

    Returns
    -------
    Array ``(...)``. Only the set of capped outcomes is held constant in differentiation, so second
    derivatives are right too.

    Raises
    ------
    ValueError
        If ``k`` is not an integer in [1, K] or ``lambda_`` not in [0, ∞].

    Notes
    -----
    Water-filling: p = min(1/k, s e^{v/λ}). The number of capped outcomes is found exactly from one
    sort, without bisection.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.asarray([1.5, 0.5, 0.0, -1.5])
    >>> round(float(capped_kl_dro(scores, k=2, lambda_=0.8)), 10)
    0.6377969749
    """
    check_integer(k=k, low=1, high=scores.shape[-1])
    check_interval(lambda_=lambda_, low=0.0, high=math.inf, closed="both")
    xp = array_namespace(scores)
    x = widened(scores)
    if math.isinf(lambda_) or k == 1:
        return kl_dro(scores, lambda_=lambda_)
    value = xp.mean(xp.sort(x, axis=-1, descending=True)[..., :k], axis=-1)
    if not _is_zero(lambda_, x):
        fits = _fits(x, float(lambda_))
        regular = xp.where(fits, x, xp.zeros_like(x))
        value = xp.where(fits[..., 0], _water_filling(regular, k, float(lambda_))[0][..., 0], value)
    return xp.astype(value, scores.dtype, copy=False)


def capped_kl_dro_weights(scores: ArrayT, *, k: int, lambda_: float) -> ArrayT:
    r"""Return the maximising distribution of :func:`capped_kl_dro`, ``(..., K)``.

    At λ = 0 the tied scores at the edge share what is left equally, the limit of λ → 0.

    Parameters
    ----------
    scores, k, lambda_
        As in :func:`capped_kl_dro`.

    Examples
    --------
    >>> import numpy as np
    >>> capped_kl_dro_weights(np.asarray([1.5, 0.5, 0.0, -1.5]), k=2, lambda_=0.8).round(8)
    array([0.5       , 0.30914836, 0.16547519, 0.02537644])
    """
    check_integer(k=k, low=1, high=scores.shape[-1])
    check_interval(lambda_=lambda_, low=0.0, high=math.inf, closed="both")
    xp = array_namespace(scores)
    x = widened(scores)
    if math.isinf(lambda_) or k == 1:
        return kl_dro_dual(scores, lambda_=lambda_).weights
    weights = _top_weights(x, k)
    if not _is_zero(lambda_, x):
        fits = _fits(x, float(lambda_))
        regular = xp.where(fits, x, xp.zeros_like(x))
        log_scale = _water_filling(regular, k, float(lambda_))[1]
        log_weights = xp.minimum(regular / lambda_ + log_scale, xp.full_like(x, -math.log(k)))
        weights = xp.where(fits, xp.exp(log_weights), weights)
    return xp.astype(weights, scores.dtype, copy=False)


def _top_weights(x: ArrayT, k: int) -> ArrayT:
    """Return 1/k on the k largest scores; those tied at the edge share what is left equally."""
    xp = array_namespace(x)
    edge = xp.sort(x, axis=-1, descending=True)[..., k - 1 : k]
    zeros, ones = xp.zeros_like(x), xp.ones_like(x)
    above = xp.where(x > edge, ones, xp.where(x <= edge, zeros, x))  # NaN stays NaN
    tied = xp.where(x == edge, ones, zeros)
    left = k - xp.sum(above, axis=-1, keepdims=True)
    return (above + tied * left / xp.sum(tied, axis=-1, keepdims=True)) / k
