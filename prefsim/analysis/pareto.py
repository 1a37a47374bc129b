"""What a set of trade-offs is worth: volume dominated, utility of its best point, gaps within it.

Objectives are maximised throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.checks import as_float_array, as_probabilities, check_shape

__all__ = ["assign_points", "expected_utility", "hypervolume", "sparsity"]


def hypervolume(points: Any, reference: Any) -> float:
    """Return the volume of what points dominate above a reference point.

    Points below the reference in some objective add nothing. Computed by moocore, exactly, for up
    to a few objectives (its cost grows exponentially with their number).

    Parameters
    ----------
    points
        ``(n, m)``, m >= 2.
    reference
        ``(m,)``.

    Raises
    ------
    ValueError
        If shapes do not fit or an entry is not finite.

    References
    ----------
    Zitzler and Thiele 1999, "Multiobjective evolutionary algorithms: a comparative case study and
    the strength Pareto approach".

    Examples
    --------
    >>> hypervolume([[1.0, 4.0], [2.0, 3.0], [3.0, 1.0], [2.0, 2.0]], [0.0, 0.0])
    8.0
    """
    table = as_float_array(points, "points", ndim=2)
    corner = as_float_array(reference, "reference", ndim=1)
    check_shape(corner, "reference", (table.shape[1],))
    check_objectives(table)
    above = table[(table > corner).all(axis=1)]
    if not len(above):
        return 0.0
    import moocore

    # moocore minimises. From the corner on, so that rounding does not grow with where it lies.
    return float(moocore.hypervolume(corner - above, ref=np.zeros(corner.size)))


def expected_utility(points: Any, weights: Any) -> float:
    r"""Return the mean over weights of the largest :math:`\omega \cdot p`.

    What users with these preferences get, who each choose their best point.

    Parameters
    ----------
    points
        ``(n, m)``, n >= 1.
    weights
        ``(k, m)``, each row >= 0 with sum one; see :func:`prefsim.solvers.pareto.weight_grid`.

    Raises
    ------
    ValueError
        If shapes do not fit, there are no points, or weights do not sum to one.

    Examples
    --------
    >>> expected_utility([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5]])
    0.75
    """
    table, preferences = _read(points, weights)
    return float((preferences @ table.T).max(axis=-1).mean())


def assign_points(points: Any, weights: Any) -> np.ndarray:
    r"""Return for each preference which point has the largest :math:`\omega \cdot p`.

    Parameters
    ----------
    points, weights
        As for :func:`expected_utility`; one preference may also be given alone.

    Returns
    -------
    Integers ``(k,)``, or one without axes; of points equally good the first.

    Raises
    ------
    ValueError
        As :func:`expected_utility`.

    Examples
    --------
    >>> assign_points([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]], [[0.9, 0.1], [0.25, 0.75]])
    array([2, 0])
    """
    table, preferences = _read(points, weights)
    return np.asarray(np.argmax(preferences @ table.T, axis=-1))


def sparsity(points: Any) -> float:
    r"""Return the mean squared gap of a set of points, summed over the objectives.

    :math:`\frac{1}{n-1} \sum_i \sum_k (p_i^{(k+1)} - p_i^{(k)})^2` of the sorted values of each
    objective; 0 for fewer than two points. Equal points count as one. It is not monotone: a point
    that is added may raise or lower it.

    Parameters
    ----------
    points
        ``(n, m)``.

    Raises
    ------
    ValueError
        If the points are no table of finite numbers.

    References
    ----------
    Xu et al. 2020, "Prediction-guided multi-objective reinforcement learning for continuous robot
    control", section 3 (PGMORL).

    Examples
    --------
    >>> sparsity([[1.0, 4.0], [2.0, 3.0], [3.0, 1.0]])
    3.5
    """
    table = as_float_array(points, "points", ndim=2)
    distinct = np.unique(table, axis=0)
    if len(distinct) < 2:
        return 0.0
    gaps = np.diff(np.sort(distinct, axis=0), axis=0)
    return float((gaps**2).sum() / (len(distinct) - 1))


def check_objectives(points: np.ndarray) -> None:
    """Raise unless points have two objectives or more."""
    if points.shape[1] < 2:
        raise ValueError(f"points must have at least two objectives, got shape {points.shape}")


def _read(points: Any, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    table = as_float_array(points, "points", ndim=2)
    if not len(table):
        raise ValueError("points must hold at least one point, got none")
    preferences = to_numpy(as_probabilities(weights, "weights")).astype(np.float64)
    check_shape(preferences, "weights", (table.shape[1],))
    return table, preferences
