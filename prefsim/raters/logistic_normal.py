r"""Log-odds that are normal: what they cost on average, and whom they prefer on average.

With :math:`x \sim N(m, v^2)` there is no formula for :math:`E\log(1+e^x)` nor for
:math:`E\,\sigma(x)`. Gauss–Hermite nodes do for narrow laws; for wide ones they miss the bend at 0
(64 of them by .025 at v = 20). There the logistic function is taken for what it is, the law of a
further logistic error, and the normal law is integrated out first, in closed form: what remains is
as smooth as that law is wide.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial.hermite_e import hermegauss

from prefsim.checks import as_floats, check_broadcast, check_entries
from prefsim.numerics import (
    array_namespace,
    host_values,
    like,
    log_sigmoid,
    logsumexp,
    normal_cdf,
    normal_log_cdf,
    softplus,
    widened,
)
from prefsim.typing import Array, ArrayT

__all__ = [
    "expected_softplus",
    "log_expected_sigmoid",
    "log_sigmoid_of_law",
    "logistic_normal_preference",
    "softplus_of_law",
]

# Laws narrower than this are integrated over the normal error, wider ones over a logistic error;
# either rule is exact to 1e-13 there.
NARROW = 1.0
HERMITE_NODES = 32
# Of the trapezoidal rule, whose error for the logistic density is about 160 exp(-2 pi^2 / step), or
# 1e-15; its mass beyond the reach is 2e-16.
STEP, REACH = 0.5, 36.0
LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)

Rule = Callable[[Any, Any], Any]


@functools.cache
def _normal_rule() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and logarithms of the weights of a standard normal error."""
    at, weight = hermegauss(HERMITE_NODES)
    return at, np.log(weight) - LOG_ROOT_TWO_PI


@functools.cache
def _logistic_rule() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and logarithms of the weights of a standard logistic error."""
    half = STEP * np.arange(1, round(REACH / STEP) + 1)
    at = np.concatenate([-half[::-1], [0.0], half])
    return at, math.log(STEP) - np.logaddexp(0.0, at) - np.logaddexp(0.0, -at)


def expected_softplus(mean: ArrayT, deviation: Array) -> ArrayT:
    r"""Return :math:`E\log(1 + e^x)` of :math:`x \sim N(m, v^2)`.

    With :math:`m = -d` it is what a comparison costs on average, :math:`E[-\log\sigma(\Delta)]`,
    whose log-odds Δ have mean d.

    Parameters
    ----------
    mean
        m, ``(...)`` in log-odds.
    deviation
        v >= 0, ``(...)``; shapes broadcast.

    Returns
    -------
    Array ``(...)`` in nats, exact to 1e-12 of 1 + v for any v; with a gradient on torch.

    Raises
    ------
    ValueError
        If an entry is NaN, a deviation is negative or infinite, or shapes do not fit.

    References
    ----------
    Liu et al. 2023, robust reward learning, arXiv:2306.03615, where it is a mean over draws.

    Examples
    --------
    >>> expected_softplus([-1.0, -1.0, -1.0], [0.0, 1.0, 2.0]).round(6)
    array([0.313262, 0.406856, 0.642495])
    """
    return softplus_of_law(*_law(mean, deviation))


def softplus_of_law(mean: ArrayT, deviation: ArrayT) -> ArrayT:
    """Return :func:`expected_softplus` of floating arrays of one library that are known to fit."""
    xp = array_namespace(mean)
    wide = (widened(mean), widened(deviation))
    value = _by_width(_softplus_of_narrow, _softplus_of_wide, *wide)
    return xp.astype(value, xp.result_type(mean, deviation), copy=False)


def _softplus_of_narrow(mean: Any, deviation: Any) -> Any:
    xp = array_namespace(mean)
    at, log_weight = (like(each, mean) for each in _normal_rule())
    return xp.sum(xp.exp(log_weight) * softplus(deviation * at + mean), axis=-1)


def _softplus_of_wide(mean: Any, deviation: Any) -> Any:
    xp = array_namespace(mean)
    at, log_weight = (like(each, mean) for each in _logistic_rule())
    # E max(0, y) of y ~ N(m + l, v^2), the softplus being E max(0, x + l) over logistic l.
    standard = (mean + at) / deviation
    density = xp.exp(-0.5 * standard**2 - LOG_ROOT_TWO_PI)
    ahead = standard * normal_cdf(standard) + density
    return xp.sum(xp.exp(log_weight) * ahead, axis=-1) * deviation[..., 0]


def log_expected_sigmoid(mean: ArrayT, deviation: Array) -> ArrayT:
    r"""Return :math:`\log E\,\sigma(x)` of :math:`x \sim N(m, v^2)`, accurate in both tails.

    Parameters
    ----------
    mean
        m, ``(...)`` in log-odds.
    deviation
        v >= 0, ``(...)``; shapes broadcast.

    Returns
    -------
    Array ``(...)`` in nats, with a gradient on torch.

    Raises
    ------
    ValueError
        If an entry is NaN, a deviation is negative or infinite, or shapes do not fit.

    Notes
    -----
    In the lower tail :math:`E\,\sigma(x; m) = e^{m + v^2/2}\,E\,\sigma(x; -m - v^2)`, as
    :math:`\sigma(x) = e^x\,\sigma(-x)`: nodes stay where the mass is.

    Examples
    --------
    Noise takes a preference towards one half:

    >>> np.exp(log_expected_sigmoid([1.0, 1.0, 1.0], [0.0, 1.0, 2.0])).round(6)
    array([0.731059, 0.696735, 0.647726])
    """
    return log_sigmoid_of_law(*_law(mean, deviation))


def log_sigmoid_of_law(mean: ArrayT, deviation: ArrayT) -> ArrayT:
    """Return :func:`log_expected_sigmoid` of floating arrays of one library that fit."""
    xp = array_namespace(mean)
    m, v = widened(mean), widened(deviation)
    tilt = m + 0.5 * v**2
    turned = tilt < 0
    value = _by_width(
        _log_sigmoid_of_narrow, _log_sigmoid_of_wide, xp.where(turned, -m - v**2, m), v
    )
    value = value + xp.where(turned, tilt, xp.zeros_like(tilt))
    return xp.astype(value, xp.result_type(mean, deviation), copy=False)


def _log_sigmoid_of_narrow(mean: Any, deviation: Any) -> Any:
    at, log_weight = (like(each, mean) for each in _normal_rule())
    return logsumexp(log_weight + log_sigmoid(deviation * at + mean))


def _log_sigmoid_of_wide(mean: Any, deviation: Any) -> Any:
    at, log_weight = (like(each, mean) for each in _logistic_rule())
    return logsumexp(log_weight + normal_log_cdf((mean + at) / deviation))


def logistic_normal_preference(mean: ArrayT, deviation: Array) -> ArrayT:
    r"""Return how often a rater prefers the first whose log-odds are normal, :math:`E\,\sigma(x)`.

    Parameters
    ----------
    mean
        m of the log-odds of the first, ``(...)``.
    deviation
        v >= 0 of the rater's own error, in log-odds, ``(...)``; shapes broadcast.

    Returns
    -------
    Array ``(...)`` in [0, 1]; 1 less it is the preference for the second.

    Raises
    ------
    ValueError
        If an entry is NaN, a deviation is negative or infinite, or shapes do not fit.

    Examples
    --------
    >>> logistic_normal_preference([1.0, -1.0], 1.0).round(6)
    array([0.696735, 0.303265])
    """
    value = log_expected_sigmoid(mean, deviation)
    xp = array_namespace(value)
    # Rounding can be a unit above one.
    return xp.clip(xp.exp(value), None, 1.0)


def _law(mean: Any, deviation: Any) -> tuple[Any, Any]:
    mean, deviation = as_floats(mean=mean, deviation=deviation)
    check_entries(deviation, "deviation", "be finite and >= 0", lambda x: (x >= 0) & (x < math.inf))
    check_broadcast(mean=mean, deviation=deviation)
    return mean, deviation


def _by_width(narrow: Rule, wide: Rule, mean: Any, deviation: Any) -> Any:
    """Return what the rule for narrow laws says of these, and that for wide ones of the others."""
    xp = array_namespace(mean)
    mean, deviation = xp.broadcast_arrays(mean, deviation)
    known = host_values(deviation)
    if known is None:
        over_normal = narrow(mean[..., None], xp.clip(deviation, None, NARROW)[..., None])
        over_logistic = wide(mean[..., None], xp.clip(deviation, NARROW, None)[..., None])
        return xp.where(deviation <= NARROW, over_normal, over_logistic)
    # Nobody is asked what will not be used: the rule for wide laws has many nodes.
    is_narrow = np.ravel(known) <= NARROW
    flat = [xp.reshape(each, (-1,)) for each in (mean, deviation)]
    parts, places = [], []
    for rule, asked in ((narrow, is_narrow), (wide, ~is_narrow)):
        at = np.flatnonzero(asked)
        if at.size or not is_narrow.size:
            here = like(at, mean, integer=True)
            parts.append(rule(*(xp.take(each, here, axis=0)[:, None] for each in flat)))
            places.append(at)
    back = like(np.argsort(np.concatenate(places)), mean, integer=True)
    return xp.reshape(xp.take(xp.concat(parts), back, axis=0), tuple(mean.shape))
