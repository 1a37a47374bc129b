"""Which pairs people label and which a model does: counts of features, candidates, and routings.

A routing is a mask of the instances that people label; all others are labelled by a model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import as_float_array, as_index_array, as_mask, check_integer
from prefsim.checks.arrays import check_shape

__all__ = [
    "as_binary_features",
    "feature_counts",
    "route_above",
    "route_candidates",
    "route_top",
    "routed_labels",
]


def as_binary_features(features: Any) -> np.ndarray:
    """Return features of instances ``(n, F)`` of zeros and ones, or raise."""
    table = as_float_array(features, "features", ndim=2)
    if not ((table == 0) | (table == 1)).all():
        found = table[(table != 0) & (table != 1)][0]
        raise ValueError(f"features must be 0 or 1, got {found:g}")
    if table.size == 0:
        raise ValueError(
            f"features must have at least one instance and one feature, got {table.shape}"
        )
    return table


def feature_counts(features: Any, routed: Any) -> np.ndarray:
    r"""Return how many instances with each feature people label, :math:`v(S)`.

    Parameters
    ----------
    features
        Of the instances, zeros and ones ``(n, F)``.
    routed
        Which instances people label, booleans ``(..., n)``.

    Returns
    -------
    Array ``(..., F)``.

    Raises
    ------
    ValueError
        If a feature is neither 0 nor 1, or shapes do not fit.

    References
    ----------
    Miranda et al. 2024, section on the performance prediction model, arXiv:2410.19133.

    Examples
    --------
    >>> feature_counts([[1, 0], [1, 1], [0, 1]], [True, True, False])
    array([2., 1.])
    """
    table = as_binary_features(features)
    mask = _as_routing(routed, len(table))
    return np.asarray(mask.astype(np.float64) @ table)


def _as_routing(routed: Any, n: int) -> np.ndarray:
    mask = np.asarray(routed)
    if mask.ndim == 1:
        return as_mask(routed, "routed", length=n)
    if mask.dtype != np.bool_:
        raise ValueError(f"routed must hold booleans, got {mask.dtype}")
    check_shape(mask, "routed", (n,))
    return mask


def routed_labels(human: Any, model: Any, routed: Any) -> np.ndarray:
    """Return the labels of people where they were asked and of the model elsewhere.

    Parameters
    ----------
    human, model
        Share of each for the first response, ``(n,)``.
    routed
        Which instances people label, booleans ``(..., n)``.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If shapes do not fit, or a label is not finite.

    Examples
    --------
    >>> routed_labels([1.0, 0.0], [0.0, 0.5], [True, False])
    array([1. , 0.5])
    """
    by_people = as_float_array(human, "human", ndim=1)
    by_model = as_float_array(model, "model", ndim=1)
    check_shape(by_model, "model", by_people.shape)
    return np.where(_as_routing(routed, by_people.size), by_people, by_model)


def route_candidates(features: Any, budgets: Any, *, seed: Seed) -> np.ndarray:
    """Draw routings whose features differ much: instances of one feature after the other.

    The features are shuffled, then the instances of each; instances are added until the budget is
    met.

    Parameters
    ----------
    features
        Of the instances, zeros and ones ``(n, F)``.
    budgets
        How many instances people label in each routing, integers ``(T,)`` in [0, n].
    seed
        Of the order.

    Returns
    -------
    Booleans ``(T, n)``.

    Raises
    ------
    ValueError
        If a budget is out of range, or a feature is neither 0 nor 1.

    References
    ----------
    Miranda et al. 2024, arXiv:2410.19133, as in the authors' code.

    Examples
    --------
    >>> features = [[1, 0], [1, 0], [0, 1], [0, 0]]
    >>> route_candidates(features, [0, 1, 4], seed=0).sum(axis=1)
    array([0, 1, 4])
    """
    table = as_binary_features(features)
    n = len(table)
    asked = as_index_array(budgets, "budgets")
    if asked.ndim != 1 or (asked > n).any():
        raise ValueError(f"budgets must be integers (T,) in [0, {n}], got {asked}")
    rng = random_generator(seed)
    routed = np.zeros((asked.size, n), dtype=bool)
    for row, budget in zip(routed, asked, strict=True):
        # An instance comes with the first of its features; those without any come last.
        order = rng.permutation(table.shape[1])
        has = np.concatenate([table[:, order], np.ones((n, 1))], axis=1)
        turn = np.argmax(has, axis=1)
        row[np.lexsort((rng.random(n), turn))[:budget]] = True
    return routed


def route_top(gains: Any, budget: int) -> np.ndarray:
    """Return the routing of the instances with the largest gains.

    Parameters
    ----------
    gains
        ``(..., n)``.
    budget
        How many instances people label, in [0, n].

    Returns
    -------
    Booleans ``(..., n)``; of equal gains the first are taken, so that a larger budget adds to a
    smaller one.

    Raises
    ------
    ValueError
        If the budget is out of range, or a gain is not finite.

    References
    ----------
    Miranda et al. 2024, arXiv:2410.19133 (``topk`` of the authors' code).

    Examples
    --------
    >>> route_top([0.85, 0.41, 1.26, 0.0], 2)
    array([ True, False,  True, False])
    """
    values = as_float_array(gains, "gains", min_ndim=1)
    n = values.shape[-1]
    check_integer(low=0, high=n, budget=budget)
    order = np.argsort(-values, axis=-1, kind="stable")
    routed = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(routed, order[..., :budget], values=True, axis=-1)
    return routed


def route_above(gains: Any, threshold: float = 0.0) -> np.ndarray:
    """Return the routing of all instances with a gain above a threshold, ``(..., n)``.

    Parameters
    ----------
    gains
        ``(..., n)``.
    threshold
        0 for every instance that is worth it; the authors' ``optimal_grad`` has 1e-4 and 1e-5.

    Raises
    ------
    ValueError
        If a gain or the threshold is not finite.

    Examples
    --------
    >>> route_above([0.85, -0.2, 0.0])
    array([ True, False, False])
    """
    values = as_float_array(gains, "gains", min_ndim=1)
    return values > as_float_array(threshold, "threshold", ndim=0)
