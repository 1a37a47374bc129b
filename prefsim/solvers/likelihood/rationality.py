"""How consistently a rater follows a given margin.

One inverse temperature, fitted and cross-validated.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, check_integer, check_unit_interval
from prefsim.numerics import sigmoid, softplus

__all__ = ["RationalityFit", "cross_validated_loss", "fit_rationality"]


class RationalityFit(NamedTuple):
    """Inverse temperature per unit of margin, mean cross-entropy (nats) and its derivative there.

    Each is shaped ``(*batch,)``.
    """

    beta: np.ndarray
    value: np.ndarray
    gradient: np.ndarray


def fit_rationality(margin: Any, prob: Any, weight: Any = None) -> RationalityFit:
    r"""Fit β of :math:`P(\text{first}) = \sigma(\beta m)` by maximum likelihood.

    Parameters
    ----------
    margin
        Score of the first minus that of the second, ``(n,)``.
    prob
        Observed preference for the first in [0, 1], ``(n,)``; ½ for a tie.
    weight
        >= 0, ``(n,)`` or ``(*batch, n)`` for a batch of fits (folds, bootstrap samples); equal
        unless given.

    Returns
    -------
    RationalityFit
        ``beta`` may be negative: the rater then prefers the lower score.

    Raises
    ------
    ValueError
        If lengths differ, a probability lies outside [0, 1], or the margins separate the labels, so
        that no maximum exists.

    Examples
    --------
    >>> fit = fit_rationality([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0])
    >>> fit.beta.round(6), fit.value.round(6)  # log 3, the log-odds of three to one
    (np.float64(1.098612), np.float64(0.562335))
    """
    margin, prob = as_float_array(margin, "margin", ndim=1), as_float_array(prob, "prob", ndim=1)
    check_unit_interval(prob, "prob")
    weight = (
        np.ones(margin.size) if weight is None else as_float_array(weight, "weight", min_ndim=1)
    )
    if not margin.size == prob.size == weight.shape[-1] or margin.size == 0:
        raise ValueError(
            f"margin, prob and weight must have one length >= 1, got {margin.size}, {prob.size} and"
            f" {weight.shape[-1]}"
        )
    total = weight.sum(axis=-1, keepdims=True)
    if (weight < 0).any() or (total <= 0).any():
        raise ValueError(
            f"weight must be >= 0 with a positive sum, got {weight.min()} and sums from"
            f" {total.min()}"
        )
    weight = weight / total
    # Each label pulls β up as long as it is not what the margin alone says; without a pull both
    # ways the maximum is at infinity.
    up, down = weight * margin * prob, weight * margin * (1 - prob)
    gain = np.maximum(up, 0).sum(axis=-1) + np.maximum(-down, 0).sum(axis=-1)
    loss = np.maximum(-up, 0).sum(axis=-1) + np.maximum(down, 0).sum(axis=-1)
    if ((gain == 0) | (loss == 0)).any():
        raise ValueError(
            "margins must not separate the labels: no finite beta has the largest likelihood"
        )
    scale = np.abs(margin).max()
    z = margin / scale

    def slope(beta: np.ndarray) -> np.ndarray:
        return np.sum(weight * z * (sigmoid(beta[..., None] * z) - prob), axis=-1)

    low = high = np.zeros(weight.shape[:-1])
    width = 1.0
    while ((slope(low) > 0) | (slope(high) < 0)).any():
        low, high = (
            np.where(slope(low) > 0, low - width, low),
            np.where(slope(high) < 0, high + width, high),
        )
        width *= 2
    # The derivative is increasing: bisection cannot fail where a Newton step may leave the region
    # in which it is not flat.
    for _ in range(100):
        middle = 0.5 * (low + high)
        above = slope(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    beta = 0.5 * (low + high)
    logits = beta[..., None] * z
    return RationalityFit(
        beta / scale,
        np.sum(weight * (softplus(logits) - prob * logits), axis=-1),
        slope(beta) * scale,
    )


def cross_validated_loss(margin: Any, prob: Any, *, folds: int = 10, seed: Seed = 0) -> float:
    """Return the mean cross-entropy (nats) of comparisons that β was not fitted on.

    β is fitted on the other folds of a random split.

    Parameters
    ----------
    margin, prob
        As for :func:`fit_rationality`.
    folds
        Number of folds, from 2 to n.
    seed
        Of the permutation that is cut into folds.
    """
    margin, prob = as_float_array(margin, "margin", ndim=1), as_float_array(prob, "prob", ndim=1)
    check_integer(low=2, high=max(margin.size, 2), folds=folds)
    fold = np.empty(margin.size, dtype=np.int64)
    for i, rows in enumerate(
        np.array_split(random_generator(seed).permutation(margin.size), folds)
    ):
        fold[rows] = i
    fitted = fit_rationality(margin, prob, np.arange(folds)[:, None] != fold)
    logits = fitted.beta[fold] * margin
    return float(np.mean(softplus(logits) - prob * logits))
