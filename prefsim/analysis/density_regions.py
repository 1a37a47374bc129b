r"""Highest-density regions: the smallest sets that hold so much of a law, with their exact masses.

Here ``level`` is the mass that is kept, 1 − α. A region of a mixture may be in several pieces.
NumPy's float64 throughout, but for the box, which takes arrays of any library.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.posteriors import check_components
from prefsim.checks import (
    as_float_array,
    as_floats,
    as_probabilities,
    check_broadcast,
    check_interval,
    check_number,
    check_positive,
    check_shape,
)
from prefsim.checks.values import check_entries

__all__ = [
    "Box",
    "DensityRegion",
    "MixtureRegion",
    "central_box",
    "highest_density_region",
    "mixture_density_region",
    "mixture_quantile",
]

# Of each component, in its own deviations: where the density is looked at for its peaks.
PROFILE = np.linspace(-9.0, 9.0, 361)
# Deviations beyond which the density of a component is 0 in float64.
NOWHERE = 40.0
# Halvings of an interval: more than the digits of float64.
HALVINGS = 60


class DensityRegion(NamedTuple):
    """The smallest set of points that holds so much of each law.

    Attributes
    ----------
    inside
        Which points are in it, ``(..., G)``.
    mass
        What it holds, ``(...,)``: at least what was asked for.
    threshold
        The least probability of a point in it, ``(...,)``.
    """

    inside: np.ndarray
    mass: np.ndarray
    threshold: np.ndarray


class MixtureRegion(NamedTuple):
    """The shortest set of numbers that holds so much of a mixture of Gaussians.

    Attributes
    ----------
    intervals
        Ends of its pieces, ``(pieces, 2)``, from left to right.
    mass
        What it holds.
    threshold
        The density at the ends; it is higher inside, and lower outside.
    """

    intervals: np.ndarray
    mass: float
    threshold: float

    @property
    def length(self) -> float:
        """Total length of the pieces."""
        return float(np.diff(self.intervals).sum())


class Box(NamedTuple):
    """Intervals of each coordinate, ``(..., d)``, and the mass of all of them together."""

    lower: Any
    upper: Any
    mass: float


def highest_density_region(probs: Any, *, level: float) -> DensityRegion:
    r"""Return the fewest points that hold at least ``level`` of a law.

    They are taken in the order of their probability, equal ones from left to right, until they hold
    enough: no fewer points hold as much, and a larger level only adds points.

    Parameters
    ----------
    probs
        Laws on G points, ``(..., G)``.
    level
        Mass to hold, 1 − α in (0, 1). What is below it by rounding alone is enough.

    Returns
    -------
    DensityRegion

    Raises
    ------
    ValueError
        If a row is no distribution, or ``level`` is out of range.

    References
    ----------
    Hyndman 1996. Lu et al. 2023, arXiv:2305.14782 (as the parameters that a preference selects).

    Examples
    --------
    >>> found = highest_density_region([0.05, 0.4, 0.1, 0.25, 0.2], level=0.75)
    >>> found.inside.nonzero()[0], found.mass.round(12), float(found.threshold)
    (array([1, 3, 4]), np.float64(0.85), 0.2)
    """
    check_interval(level=level, low=0.0, high=1.0, closed="neither")
    p = as_probabilities(probs, "probs")
    order = np.argsort(-p, axis=-1, kind="stable")
    held = np.cumsum(np.take_along_axis(p, order, axis=-1), axis=-1)
    # A sum of G numbers is off by up to G units in the last place.
    enough = held >= level - p.shape[-1] * np.finfo(np.float64).eps
    # What sums to a little less than one may not reach a level next to it: then all points.
    enough[..., -1] = True
    last = np.argmax(enough, axis=-1)[..., None]
    inside = np.zeros(p.shape, dtype=bool)
    np.put_along_axis(inside, order, np.arange(p.shape[-1]) <= last, axis=-1)
    at_last = np.take_along_axis(order, last, axis=-1)
    return DensityRegion(
        inside,
        np.take_along_axis(held, last, axis=-1)[..., 0],
        np.take_along_axis(p, at_last, axis=-1)[..., 0],
    )


# --- mixtures of Gaussians on the line ---


def mixture_density_region(
    mean: Any, deviation: Any, weight: Any, *, level: float
) -> MixtureRegion:
    r"""Return the shortest set of numbers that holds ``level`` of a mixture of Gaussians.

    It is :math:`\{q \ge t\}` with the t at which it holds so much, and may be in several pieces.
    The density is followed from peak to valley to peak: on the way it crosses t once.

    Parameters
    ----------
    mean, deviation, weight
        Of the n components, ``(n,)`` each: deviations > 0, weights that sum to one.
    level
        Mass to hold, 1 − α in (0, 1).

    Returns
    -------
    MixtureRegion

    Raises
    ------
    ValueError
        If lengths differ, there is no component, or a number is out of range.

    Notes
    -----
    Peaks are looked for at steps of a twentieth of a deviation of each component. A peak and a
    valley within one step, which differ next to nothing in density, would pass unseen.

    Examples
    --------
    >>> found = mixture_density_region([-1, 0.5, 2], [0.3, 0.5, 0.8], [0.5, 0.3, 0.2], level=0.75)
    >>> found.intervals.round(6)
    array([[-1.526894, -0.408679],
           [-0.036701,  1.248075]])
    """
    from scipy.optimize import brentq

    check_interval(level=level, low=0.0, high=1.0, closed="neither")
    parts = _line_mixture(mean, deviation, weight)
    if parts[0].ndim != 1:
        raise ValueError(f"mean must be of one mixture, (n,), got shape {parts[0].shape}")
    turns = _turning_points(*parts)
    height = _density(turns, *parts)

    def missing(log_threshold: float) -> float:
        ends = _crossings(math.exp(log_threshold), turns, height, *parts)
        return float(_mass(ends, *parts)) - level

    # Below the density at which what lies beyond NOWHERE is left out, all is inside.
    top = math.log(height.max())
    low = top - 1.0
    while missing(low) < 0:
        low = top + 2 * (low - top)
    log_threshold = brentq(missing, low, top, xtol=1e-14, rtol=4 * np.finfo(float).eps)
    threshold = math.exp(log_threshold)
    ends = _crossings(threshold, turns, height, *parts)
    return MixtureRegion(ends, float(_mass(ends, *parts)), threshold)


def mixture_quantile(mean: Any, deviation: Any, weight: Any, level: Any) -> np.ndarray:
    """Return the points below which so much of a mixture of Gaussians on the line lies.

    Parameters
    ----------
    mean, deviation, weight
        Of the n components, ``(..., n)`` each: deviations > 0, weights that sum to one.
    level
        Mass below the point, in (0, 1); a number, or an array that broadcasts to ``(...)``.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    Examples
    --------
    >>> mixture_quantile([-1, 0.5, 2], [0.3, 0.5, 0.8], [0.5, 0.3, 0.2], [0.05, 0.95]).round(10)
    array([-1.38455747,  2.53967707])
    """
    wanted = as_float_array(level, "level")
    check_entries(wanted, "level", "lie in (0, 1)", lambda x: (x > 0) & (x < 1))
    mean, deviation, weight = _line_mixture(mean, deviation, weight)
    check_broadcast(mean=mean[..., 0], level=wanted)
    shape = np.broadcast_shapes(mean.shape[:-1], wanted.shape)
    low = np.broadcast_to((mean - NOWHERE * deviation).min(axis=-1), shape)
    high = np.broadcast_to((mean + NOWHERE * deviation).max(axis=-1), shape)
    return _halved(low, high, lambda x: _distribution(x, mean, deviation, weight) < wanted)


def _halved(
    low: np.ndarray, high: np.ndarray, is_before: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return where something changes that holds from ``low`` on, and no more before ``high``."""
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        before = is_before(middle)
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return np.asarray(0.5 * (low + high))


def _line_mixture(mean: Any, deviation: Any, weight: Any) -> tuple[np.ndarray, ...]:
    """Return the components of mixtures on the line, ``(..., n)`` each, or raise."""
    mean, deviation = as_float_array(mean, "mean"), as_float_array(deviation, "deviation")
    shares = as_probabilities(weight, "weight")
    check_shape(mean, "mean", (None,))
    check_shape(deviation, "deviation", (mean.shape[-1],))
    check_components(mean[..., None], deviation[..., None], shares)
    mean, deviation, shares = np.broadcast_arrays(mean, deviation, shares)
    return mean, deviation, shares


def _density(x: np.ndarray, mean: Any, deviation: Any, weight: Any) -> np.ndarray:
    z = (x[..., None] - mean) / deviation
    scale = weight / (deviation * math.sqrt(2 * math.pi))
    return np.asarray((scale * np.exp(-0.5 * z * z)).sum(axis=-1))


def _slope(x: np.ndarray, mean: Any, deviation: Any, weight: Any) -> np.ndarray:
    z = (x[..., None] - mean) / deviation
    scale = weight / (deviation * deviation * math.sqrt(2 * math.pi))
    return np.asarray((-scale * z * np.exp(-0.5 * z * z)).sum(axis=-1))


def _distribution(x: np.ndarray, mean: Any, deviation: Any, weight: Any) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray((weight * ndtr((x[..., None] - mean) / deviation)).sum(axis=-1))


def _mass(ends: np.ndarray, mean: Any, deviation: Any, weight: Any) -> np.ndarray:
    """Return what intervals ``(pieces, 2)`` hold together."""
    return np.asarray(np.diff(_distribution(ends, mean, deviation, weight)).sum())


def _turning_points(mean: np.ndarray, deviation: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the peaks and valleys of a density between two points where it is 0."""
    at = np.unique(mean[:, None] + deviation[:, None] * PROFILE)
    slope = _slope(at, mean, deviation, weight)
    # Where the slope is 0 it is a peak, or the density has gone before float64 ends.
    change = np.flatnonzero((slope[:-1] > 0) != (slope[1:] > 0))
    low, high, is_peak = at[change], at[change + 1], slope[change] > 0
    turns = _halved(low, high, lambda x: (_slope(x, mean, deviation, weight) > 0) == is_peak)
    outer = (mean - NOWHERE * deviation).min(), (mean + NOWHERE * deviation).max()
    return np.concatenate([[outer[0]], turns, [outer[1]]])


def _crossings(
    threshold: float, turns: np.ndarray, height: np.ndarray, mean: Any, deviation: Any, weight: Any
) -> np.ndarray:
    """Return the intervals ``(pieces, 2)`` on which a density is at least a threshold."""
    is_high = height >= threshold
    (crossed,) = np.nonzero(is_high[:-1] != is_high[1:])
    low, high, falls = turns[crossed], turns[crossed + 1], is_high[crossed]
    ends = _halved(
        low, high, lambda x: (_density(x, mean, deviation, weight) >= threshold) == falls
    )
    # The density is 0 at both outer ends, so that every piece begins and ends.
    return ends.reshape(-1, 2)


# --- Gaussians with independent coordinates ---


def central_box(mean: Any, deviation: Any, *, level: float) -> Box:
    r"""Return the central interval of each coordinate of a diagonal Gaussian.

    .. math:: \mu \pm s\,\Phi^{-1}\Big(\frac{1 + a}{2}\Big)

    Each coordinate is inside with probability a = ``level``, all d of them with :math:`a^d`, which
    is the mass of the box. For a box of mass m ask for a level of :math:`m^{1/d}`.

    Parameters
    ----------
    mean, deviation
        ``(..., d)`` each, the deviations > 0.
    level
        Mass of each coordinate that is kept, in (0, 1).

    Returns
    -------
    Box

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is out of range.

    References
    ----------
    Lu et al. 2023, arXiv:2305.14782: the region of the authors' code, where ``alpha`` is the mass
    that is kept.

    Examples
    --------
    >>> box = central_box(np.asarray([0.05]), np.asarray([0.46]), level=0.1)
    >>> box.lower.round(12), box.upper.round(12), box.mass
    (array([-0.00780422]), array([0.10780422]), 0.1)
    """
    from scipy.special import ndtri

    check_interval(level=level, low=0.0, high=1.0, closed="neither")
    mean, deviation = as_floats(mean=mean, deviation=deviation)
    check_shape(mean, "mean", (None,))
    check_shape(deviation, "deviation", (mean.shape[-1],))
    if mean.shape[-1] == 0:
        raise ValueError("mean must be of at least one coordinate, got none")
    check_number(arrays=True, mean=mean)
    check_positive(arrays=True, deviation=deviation)
    check_broadcast(mean=mean, deviation=deviation)
    reach = deviation * float(ndtri(0.5 + 0.5 * level))
    return Box(mean - reach, mean + reach, float(level) ** mean.shape[-1])
