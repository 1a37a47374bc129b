r"""Finitely generated credal sets: all mixtures of finitely many posteriors, the extremes.

Tasks come one after another, and each brings one posterior for every prior. One that is near one
already kept is not kept, and that one stands in for it, also as the prior of the next task. Whoever
prefers some tasks to others then chooses a mixture, and learns nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.posteriors import DiagonalGaussian, check_components
from prefsim.checks import (
    as_float_array,
    as_floats,
    as_index_array,
    as_policies,
    as_probabilities,
    check_broadcast,
    check_callable,
    check_nonnegative,
    check_number,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "CredalSet",
    "Interval",
    "expectation_bounds",
    "extend_credal_set",
    "gaussian_barycentre",
    "gaussian_wasserstein",
    "preference_weights",
]

Distance = Callable[[np.ndarray, np.ndarray], Any]


class CredalSet(NamedTuple):
    """The extremes that were kept, and which of them stands for each posterior of each task.

    Attributes
    ----------
    extremes
        Parameters of the posteriors that were kept, ``(n, ...)``, in the order in which they came.
    stand_in
        Places of the extremes that stand for the posteriors, ``(tasks, m)``.
    """

    extremes: np.ndarray
    stand_in: np.ndarray

    def of_task(self, task: int = -1) -> np.ndarray:
        """Return what stands for the posteriors of a task, ``(m, ...)``: the priors of the next."""
        return np.asarray(self.extremes[self.stand_in[task]])


def extend_credal_set(
    credal: CredalSet | None, posteriors: Any, distance: Distance, *, threshold: float
) -> CredalSet:
    """Return a credal set with the posteriors of one more task.

    They are compared one by one, in their order, with all extremes kept so far, those of their own
    task included. One within ``threshold`` of the nearest is not kept: that one stands in for it.

    Parameters
    ----------
    credal
        The set so far; None before the first task.
    posteriors
        Parameters of the m posteriors of the task, ``(m, ...)`` with m >= 1.
    distance
        Takes extremes ``(n, ...)`` and one posterior ``(...)``, and returns distances ``(n,)``.
    threshold
        Largest distance at which an extreme stands in, >= 0; 0 drops repetitions alone.

    Returns
    -------
    CredalSet

    Raises
    ------
    ValueError
        If there is no posterior, shapes do not fit, distances are negative, or the threshold is.

    References
    ----------
    Lu et al. 2023, algorithm with a sublinear buffer, arXiv:2305.14782.

    Examples
    --------
    >>> def apart(extremes, one):
    ...     return np.abs(extremes - one)
    >>> first = extend_credal_set(None, [0.0, 1.0], apart, threshold=0.2)
    >>> both = extend_credal_set(first, [0.9, 2.0], apart, threshold=0.2)
    >>> both.extremes, both.stand_in
    (array([0., 1., 2.]), array([[0, 1],
           [1, 2]]))
    """
    check_callable(distance=distance)
    check_nonnegative(threshold=threshold)
    new = as_float_array(posteriors, "posteriors", min_ndim=1)
    if len(new) == 0:
        raise ValueError("posteriors must hold at least one, got none")
    kept = [] if credal is None else list(credal.extremes)
    if kept and kept[0].shape != new.shape[1:]:
        raise ValueError(
            f"posteriors must have the shape of the extremes {kept[0].shape}, got {new.shape[1:]}"
        )
    if credal is not None and len(new) != credal.stand_in.shape[1]:
        raise ValueError(
            f"posteriors must be as many as those of a task before, {credal.stand_in.shape[1]},"
            f" got {len(new)}"
        )
    places = []
    for one in new:
        away = _distances(distance, kept, one)
        if away.size and away.min() <= threshold:
            places.append(int(away.argmin()))
        else:
            places.append(len(kept))
            kept.append(one)
    row = np.asarray([places])
    stand_in = row if credal is None else np.concatenate([credal.stand_in, row])
    return CredalSet(np.stack(kept), stand_in)


def _distances(distance: Distance, kept: list[np.ndarray], one: np.ndarray) -> np.ndarray:
    if not kept:
        return np.empty(0)
    away = as_float_array(distance(np.stack(kept), one), "distance", ndim=1)
    if away.shape != (len(kept),) or away.min() < 0:
        raise ValueError(
            f"distance must return a number >= 0 for each of {len(kept)} extremes, got"
            f" {away.tolist()}"
        )
    return away


def preference_weights(preference: Any, stand_in: Any) -> np.ndarray:
    r"""Return the weights of the extremes in the mixture that a preference over tasks selects.

    A task's share is spread evenly over its m posteriors, and an extreme gets the shares of all
    that it stands for:

    .. math:: \hat q_w = \sum_i \sum_j \frac{w_i}{m}\,q_i^j

    Parameters
    ----------
    preference
        w, how much each task counts, ``(..., tasks)``, which sum to one.
    stand_in
        Places of the extremes that stand for the posteriors, ``(tasks, m)``, as in
        :class:`CredalSet`.

    Returns
    -------
    Array ``(..., n)``, for extremes up to the largest place; weights that sum to one.

    Raises
    ------
    ValueError
        If a preference is no distribution over the tasks, or there are no places.

    References
    ----------
    Lu et al. 2023, section on preference HDRs, arXiv:2305.14782.

    Examples
    --------
    >>> preference_weights([0.5, 0.5], np.asarray([[0, 1], [1, 2]]))
    array([0.25, 0.5 , 0.25])
    """
    places = as_index_array(stand_in, "stand_in")
    if places.ndim != 2 or places.size == 0:
        raise ValueError(f"stand_in must be of shape (tasks, m), not empty, got {places.shape}")
    shares = as_probabilities(preference, "preference")
    check_shape(shares, "preference", (len(places),))
    n = int(places.max()) + 1
    stands_for = (places[..., None] == np.arange(n)).mean(axis=1)
    return np.asarray(shares @ stands_for)


class Interval(NamedTuple):
    """The least and the largest value over a credal set, ``(...)`` each."""

    low: Any
    high: Any


def expectation_bounds(probs: ArrayT, values: Array) -> Interval:
    r"""Return the lower and upper expectation over all mixtures of some laws.

    They are attained at the laws themselves, as an expectation is linear in the law. Of the
    indicator of an event they are its lower and upper probability.

    Parameters
    ----------
    probs
        The n laws that generate the set, ``(..., n, G)``.
    values
        Of the points, ``(..., G)``: an indicator, or anything finite.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        If a law is no distribution, there is none, or shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> laws = np.asarray([[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])
    >>> event = np.asarray([1.0, 0.0, 1.0])
    >>> [round(float(bound), 12) for bound in expectation_bounds(laws, event)]
    [0.7, 0.8]
    """
    probs, values = as_floats(probs=probs, values=values)
    as_policies(tail=(None, None), probs=probs)
    if probs.shape[-2] == 0:
        raise ValueError(f"probs must hold at least one law, got shape {tuple(probs.shape)}")
    check_shape(values, "values", (probs.shape[-1],))
    check_number(arrays=True, values=values)
    check_broadcast(probs=probs[..., 0, :], values=values)
    xp = array_namespace(probs)
    means = xp.sum(probs * values[..., None, :], axis=-1)
    return Interval(xp.min(means, axis=-1), xp.max(means, axis=-1))


def gaussian_wasserstein(
    mean: ArrayT, deviation: Array, other_mean: Array, other_deviation: Array
) -> ArrayT:
    r"""Return the 2-Wasserstein distance of Gaussians with independent coordinates.

    .. math:: W_2^2 = \|\mu - \mu'\|^2 + \|s - s'\|^2

    with the standard deviations s.

    Parameters
    ----------
    mean, deviation, other_mean, other_deviation
        ``(..., d)`` each, the deviations > 0.

    Returns
    -------
    Array ``(...)``, in units of the coordinates.

    Raises
    ------
    ValueError
        If shapes do not fit, or a deviation is not positive.

    References
    ----------
    Dowson and Landau 1982 (the distance of Gaussians).

    Examples
    --------
    >>> import numpy as np
    >>> float(gaussian_wasserstein(np.zeros(2), np.ones(2), np.asarray([3.0, 0.0]), [1.0, 5.0]))
    5.0
    """
    named = as_floats(
        mean=mean,
        deviation=deviation,
        other_mean=other_mean,
        other_deviation=other_deviation,
    )
    mean, deviation, other_mean, other_deviation = named
    check_shape(mean, "mean", (None,))
    d = mean.shape[-1]
    check_shape(deviation, "deviation", (d,))
    check_shape(other_mean, "other_mean", (d,))
    check_shape(other_deviation, "other_deviation", (d,))
    check_number(arrays=True, mean=mean, other_mean=other_mean)
    check_positive(arrays=True, deviation=deviation, other_deviation=other_deviation)
    check_broadcast(
        mean=mean, deviation=deviation, other_mean=other_mean, other_deviation=other_deviation
    )
    xp = array_namespace(mean)
    squares = (mean - other_mean) ** 2 + (deviation - other_deviation) ** 2
    return xp.sqrt(xp.sum(squares, axis=-1))


def gaussian_barycentre(mean: ArrayT, deviation: Array, weight: Array) -> DiagonalGaussian[Any]:
    r"""Return the 2-Wasserstein barycentre of Gaussians with independent coordinates.

    .. math:: \bar\mu = \sum_j w_j\mu_j,\qquad \bar s = \sum_j w_j s_j

    It has the mean of the mixture, and is narrower than it by
    :math:`\bar s^2_{mixture} - \bar s^2 = \mathrm{Var}_w(\mu) + \mathrm{Var}_w(s)`
    (:func:`prefsim.analysis.mixture_moments`).

    Parameters
    ----------
    mean, deviation
        Of the n Gaussians, ``(..., n, d)`` each, the deviations > 0.
    weight
        ``(..., n)``, which sum to one.

    Returns
    -------
    DiagonalGaussian
        The law q with the least :math:`\sum_j w_j W_2^2(q, q_j)`.

    Raises
    ------
    ValueError
        If shapes do not fit, a deviation is not positive, or the weights are no distribution.

    References
    ----------
    Agueh and Carlier 2011 (barycentres of Gaussians). Lu et al. 2023, arXiv:2305.14782, whose code
    takes it in the place of the mixture.

    Examples
    --------
    >>> import numpy as np
    >>> gaussian_barycentre([[-1.0], [2.0]], [[0.3], [0.8]], np.asarray([0.5, 0.5]))
    DiagonalGaussian(mean=array([0.5]), deviation=array([0.55]))
    """
    mean, deviation, weight = as_floats(mean=mean, deviation=deviation, weight=weight)
    check_components(mean, deviation, weight)
    xp = array_namespace(mean)
    each = weight[..., None]
    return DiagonalGaussian(xp.sum(each * mean, axis=-2), xp.sum(each * deviation, axis=-2))
