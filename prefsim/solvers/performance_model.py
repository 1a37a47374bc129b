"""Predict what a reward model will score from how many instances of each kind people labelled.

And route instances by the prediction: those to people that are worth it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import Seed, random_generator
from prefsim.checks import (
    as_float_array,
    check_callable,
    check_integer,
    check_nonnegative,
    check_shape,
)
from prefsim.data.routing import (
    as_binary_features,
    feature_counts,
    route_candidates,
    routed_labels,
)

__all__ = [
    "LearnedPerformance",
    "PerformanceModel",
    "fit_performance",
    "learn_performance",
    "route_greedily",
    "route_simulated",
]


class PerformanceModel(NamedTuple):
    r"""A score predicted from counts, :math:`\hat y(v) = b + w^\top v + v^\top Q v`.

    Attributes
    ----------
    intercept
        b.
    linear
        w, ``(F,)``.
    quadratic
        Q, symmetric ``(F, F)``; zero for a linear model.
    """

    intercept: float
    linear: np.ndarray
    quadratic: np.ndarray

    def predict(self, counts: Any) -> np.ndarray:
        """Return the scores of counts ``(..., F)``, ``(...,)``."""
        v = self._checked(counts, "counts")
        return np.asarray(
            self.intercept + v @ self.linear + np.sum(v @ self.quadratic * v, axis=-1)
        )

    def gains(self, features: Any) -> np.ndarray:
        r"""Return what each instance alone would add, :math:`\hat y(\phi_i) - \hat y(0)`."""
        return self.marginal(features, np.zeros(self.linear.size))

    def marginal(self, features: Any, counts: Any) -> np.ndarray:
        r"""Return what each instance adds to what people label already.

        :math:`w^\top\phi_i + \phi_i^\top Q\phi_i + 2\phi_i^\top Q v`.

        Parameters
        ----------
        features
            Of the instances, ``(..., n, F)``.
        counts
            v of the others, ``(F,)``.
        """
        phi, v = self._checked(features, "features"), self._checked(counts, "counts")
        own = np.sum(phi @ self.quadratic * phi, axis=-1)
        return np.asarray(phi @ (self.linear + 2 * self.quadratic @ v) + own)

    def _checked(self, value: Any, name: str) -> np.ndarray:
        array = as_float_array(value, name, min_ndim=1)
        check_shape(array, name, (self.linear.size,))
        return array


def fit_performance(
    counts: Any, scores: Any, *, degree: int = 1, ridge: float = 0.0
) -> PerformanceModel:
    r"""Fit a performance model to routings with known scores, by least squares.

    .. math:: \hat y(v) = b + w^\top v + v^\top Q v

    of the counts v; Q = 0 with degree 1.

    Parameters
    ----------
    counts
        Of the features of what people labelled in each routing, ``(T, F)``.
    scores
        Of the reward model trained on each, ``(T,)``.
    degree
        1 for the linear model, 2 with all squares and products.
    ridge
        λ >= 0 on the squared coefficients, of counts as they are. Without it the coefficients of
        least norm are taken: a feature and its negation are told apart by the budget alone.

    Returns
    -------
    PerformanceModel

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or there are fewer than F + 2 routings and
        no ridge.

    References
    ----------
    Miranda et al. 2024, section on the performance prediction model, arXiv:2410.19133.

    Examples
    --------
    >>> model = fit_performance(
    ...     [[0, 0], [2, 1], [1, 3], [3, 3], [4, 0]], [60, 62, 61.5, 64, 63]
    ... )
    >>> round(model.intercept, 6), model.linear.round(6), model.predict([2, 2]).round(6)
    (59.821739, array([0.85    , 0.413043]), np.float64(62.347826))
    """
    check_integer(low=1, high=2, degree=degree)
    check_nonnegative(ridge=ridge)
    v, y = as_float_array(counts, "counts", ndim=2), as_float_array(scores, "scores", ndim=1)
    t, f = v.shape
    check_shape(y, "scores", (t,))
    if f == 0 or t == 0 or (t < f + 2 and ridge == 0):
        raise ValueError(
            f"counts must be of at least F + 2 = {f + 2} routings unless there is a ridge, and of"
            f" at least one feature, got {v.shape}"
        )
    first, second = np.triu_indices(f)
    columns = v if degree == 1 else np.concatenate([v, v[:, first] * v[:, second]], axis=1)
    # The intercept costs no norm: it is what is left of the means.
    centred, middle = columns - columns.mean(axis=0), columns.mean(axis=0)
    shrunk = np.sqrt(ridge) * np.eye(columns.shape[1])
    table = centred if ridge == 0 else np.concatenate([centred, shrunk])
    wanted = y - y.mean()
    if ridge:
        wanted = np.concatenate([wanted, np.zeros(columns.shape[1])])
    found = np.linalg.lstsq(table, wanted, rcond=None)[0]
    quadratic = np.zeros((f, f))
    if degree == 2:
        # A product stands for two entries of the symmetric table.
        quadratic[first, second] = np.where(first == second, 1.0, 0.5) * found[f:]
        quadratic[second, first] = quadratic[first, second]
    return PerformanceModel(float(y.mean() - middle @ found), found[:f], quadratic)


class LearnedPerformance(NamedTuple):
    """A performance model, and the routings that it was learned from.

    Attributes
    ----------
    model
        Fitted to the first routings.
    routed
        All of them, booleans ``(T, n)``.
    scores
        What was measured of each, ``(T,)``.
    held_out
        How many at the end the model has not seen.
    """

    model: PerformanceModel
    routed: np.ndarray
    scores: np.ndarray
    held_out: int


def learn_performance(
    features: Any,
    human: Any,
    model: Any,
    score: Callable[[np.ndarray], Any],
    *,
    candidates: int = 200,
    held_out: float = 0.2,
    degree: int = 1,
    seed: Seed = 0,
) -> LearnedPerformance:
    """Draw routings, have each scored, and fit a performance model to most of them.

    Parameters
    ----------
    features
        Of the instances, zeros and ones ``(n, F)``.
    human, model
        Labels by people and by the model, ``(n,)`` each.
    score
        Takes the labels of all routings, ``(T, n)``, and returns the scores of the reward models
        that are trained on them, ``(T,)``.
    candidates
        T, of different budgets from 1 to n where there are as many.
    held_out
        Share of them that the model is not fitted to, in [0, 1).
    degree
        As in :func:`fit_performance`.
    seed
        Of the routings.

    Returns
    -------
    LearnedPerformance

    Raises
    ------
    ValueError
        If shapes do not fit, a number is out of range, or too few routings are left to fit to.

    References
    ----------
    Miranda et al. 2024, arXiv:2410.19133, with the candidates of the authors' code.
    """
    check_callable(score=score)
    check_integer(low=1, candidates=candidates)
    table = as_binary_features(features)
    share = as_float_array(held_out, "held_out", ndim=0)
    if not 0 <= share < 1:
        raise ValueError(f"held_out must be in [0, 1), got {float(share)}")
    rng, n = random_generator(seed), len(table)
    # Budgets without replacement, as often round as it takes.
    rounds = -(-candidates // n)
    budgets = np.concatenate([rng.permutation(n) + 1 for _ in range(rounds)])[:candidates]
    routed = route_candidates(table, budgets, seed=rng)
    scores = as_float_array(score(routed_labels(human, model, routed)), "what score returns")
    check_shape(scores, "what score returns", (candidates,))
    left_out = round(float(share) * candidates)
    seen = candidates - left_out
    fitted = fit_performance(feature_counts(table, routed[:seen]), scores[:seen], degree=degree)
    return LearnedPerformance(fitted, routed, scores, left_out)


def route_greedily(model: PerformanceModel, features: Any, budget: int) -> np.ndarray:
    """Return a routing that adds the instance with the largest gain, again and again.

    Parameters
    ----------
    model
        Of performance. Where it is monotone and submodular in the instances (no positive entry of
        Q, and no gain negative) at least 1 − 1/e of the best increase is reached.
    features
        Of the instances, zeros and ones ``(n, F)``.
    budget
        How many instances people label, in [0, n].

    Returns
    -------
    Booleans ``(n,)``.

    Raises
    ------
    ValueError
        If the budget is out of range, or features do not fit.

    References
    ----------
    Nemhauser, Wolsey and Fisher 1978.
    """
    table = as_binary_features(features)
    check_integer(low=0, high=len(table), budget=budget)
    routed = np.zeros(len(table), dtype=bool)
    for _ in range(budget):
        gains = model.marginal(table, feature_counts(table, routed))
        routed[np.argmax(np.where(routed, -np.inf, gains))] = True
    return routed


def route_simulated(
    model: PerformanceModel, features: Any, budget: int, *, candidates: int = 500, seed: Seed = 0
) -> np.ndarray:
    """Return the one of many drawn routings that is predicted best.

    Parameters
    ----------
    model
        Of performance.
    features
        Of the instances, zeros and ones ``(n, F)``.
    budget
        How many instances people label, in [0, n].
    candidates
        How many are drawn, >= 1.
    seed
        Of the routings.

    Returns
    -------
    Booleans ``(n,)``.

    Raises
    ------
    ValueError
        If a number is out of range, or features do not fit.

    References
    ----------
    Miranda et al. 2024, arXiv:2410.19133 (``simulated`` of the authors' code).
    """
    table = as_binary_features(features)
    check_integer(low=0, high=len(table), budget=budget)
    check_integer(low=1, candidates=candidates)
    routed = route_candidates(table, np.full(candidates, budget), seed=seed)
    best = np.argmax(model.predict(feature_counts(table, routed)))
    return np.asarray(routed[best])
