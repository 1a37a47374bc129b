"""Label noise of classification: labels flipped by their class, or by what they are labels of."""

from __future__ import annotations

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    as_index_array,
    as_probabilities,
    check_integer,
    check_interval,
    check_shape,
)
from prefsim.numerics import softmax
from prefsim.typing import Array

__all__ = ["drawn_labels", "instance_flips", "neighbour_flips", "uniform_flips"]


def uniform_flips(n_classes: int, rate: float) -> np.ndarray:
    """Return the law ``(K, K)`` [true, observed] of labels that flip to any other class alike.

    Parameters
    ----------
    n_classes
        Number K >= 2 of classes.
    rate
        Chance in [0, 1] that a label flips.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> uniform_flips(3, 0.25)[0]
    array([0.75 , 0.125, 0.125])
    """
    check_integer(n_classes=n_classes, low=2)
    check_interval(rate=rate, low=0.0, high=1.0, closed="both")
    away = 1 - np.eye(n_classes)
    return (1 - rate) * np.eye(n_classes) + rate / (n_classes - 1) * away


def neighbour_flips(n_classes: int, rate: float) -> np.ndarray:
    """Return the law ``(K, K)`` [true, observed] of labels that flip to the next class.

    Class-dependent noise, also called pair flipping: one wrong class takes it all.

    Parameters
    ----------
    n_classes, rate
        As in :func:`uniform_flips`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> neighbour_flips(3, 0.25)[2]
    array([0.25, 0.  , 0.75])
    """
    check_integer(n_classes=n_classes, low=2)
    check_interval(rate=rate, low=0.0, high=1.0, closed="both")
    return (1 - rate) * np.eye(n_classes) + rate * np.roll(np.eye(n_classes), 1, axis=1)


def instance_flips(
    inputs: Array, label: Array, rate: float, *, n_classes: int, seed: Seed
) -> np.ndarray:
    r"""Return the law ``(n, K)`` of each observed label where noise depends on the input.

    Example i flips with a chance of its own, normal around ``rate`` with a deviation of 0.1 and
    within [0, 1]; where to follows :math:`\mathrm{softmax}(x_i W_{y_i})` over the other classes, of
    one standard normal matrix for each class. Inputs that look alike are mistaken alike.

    Parameters
    ----------
    inputs
        x, ``(n, d)``, in units of about one.
    label
        True labels y, ``(n,)``, in [0, K).
    rate
        Mean chance in [0, 1] that a label flips.
    n_classes
        Number K >= 2 of classes.
    seed
        Of chances and matrices.

    Raises
    ------
    ValueError
        If an argument is out of range, or shapes do not fit.

    References
    ----------
    Xia et al. 2020, algorithm 2, arXiv:2006.07836.

    Examples
    --------
    >>> law = instance_flips(np.ones((1, 2)), np.asarray([1]), 0.3, n_classes=3, seed=0)
    >>> float(law.sum()), bool(abs(law[0, 1] - 0.7) < 0.4)
    (1.0, True)
    """
    check_integer(n_classes=n_classes, low=2)
    check_interval(rate=rate, low=0.0, high=1.0, closed="both")
    x = as_float_array(inputs, "inputs", ndim=2)
    y = as_index_array(label, "label", size=n_classes)
    check_shape(y, "label", (x.shape[0],))
    rng = random_generator(seed)
    chance = _within_unit(rng, rate, 0.1, y.size)
    matrices = rng.standard_normal((n_classes, x.shape[1], n_classes))
    scores = np.einsum("nd,ndk->nk", x, matrices[y])
    own = np.arange(n_classes) == y[:, None]
    away = softmax(np.where(own, -np.inf, scores))
    return np.where(own, 1 - chance[:, None], chance[:, None] * away)


def _within_unit(rng: np.random.Generator, mean: float, spread: float, size: int) -> np.ndarray:
    """Return normal numbers that are drawn again until they lie in [0, 1]."""
    drawn = rng.normal(mean, spread, size)
    while (outside := (drawn < 0) | (drawn > 1)).any():
        drawn[outside] = rng.normal(mean, spread, int(outside.sum()))
    return drawn


def drawn_labels(law: Array, *, seed: Seed) -> np.ndarray:
    """Draw the observed label of each example, independently.

    Parameters
    ----------
    law
        Of the observed label of each example, ``(n, K)``; where noise depends on the class alone
        the rows of the true labels, ``uniform_flips(3, 0.2)[label]``.
    seed
        Of the draws.

    Returns
    -------
    Integers ``(n,)``.

    Raises
    ------
    ValueError
        If a row is no distribution.

    Examples
    --------
    >>> drawn_labels(neighbour_flips(2, 1.0)[[0, 1, 1]], seed=0)
    array([1, 0, 0])
    """
    table = as_probabilities(law, "law", ndim=2)
    drawn = random_generator(seed).random((table.shape[0], 1))
    # Above the last sum of a row, which rounding may leave below one, nothing is drawn.
    return np.minimum((drawn >= np.cumsum(table, axis=-1)).sum(axis=-1), table.shape[1] - 1)
