"""Thresholds of constraints found by trying: a simplex search whose trials may share one training.

What thresholds are worth shows only when a policy that keeps them is evaluated. Derivatives there
are none, and a trial is dear.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import (
    as_float_array,
    check_callable,
    check_integer,
    check_nonnegative,
    check_positive,
)

__all__ = ["ThresholdSearch", "search_thresholds"]


@readable
class ThresholdSearch(NamedTuple):
    """What was tried, in order, and the best of it.

    Attributes
    ----------
    thresholds
        ``(m,)``, the best that were tried.
    score
        What they are worth.
    tried
        ``(n, m)``, all that were evaluated.
    scores
        ``(n,)``.
    converged
        Whether the simplex became as small as ``tolerance``, and its scores as alike, before the
        evaluations were used up.
    """

    thresholds: np.ndarray
    score: float
    tried: np.ndarray
    scores: np.ndarray
    converged: bool


class _Exhausted(Exception):
    """The evaluations are used up."""


def search_thresholds(
    score: Callable[[np.ndarray], float],
    start: Any,
    *,
    spread: float = 0.1,
    tolerance: float = 0.01,
    nearby: float = 0.0,
    max_evaluations: int = 100,
) -> ThresholdSearch:
    """Return thresholds of a large score, by Nelder and Mead's simplex.

    Parameters
    ----------
    score
        What thresholds ``(m,)`` are worth, a finite number: for instance the gold reward of the
        policy that keeps them. It may go on from the policy of the trial before, and then depends
        on the order.
    start
        ``(m,)``.
    spread
        How far the other corners of the first simplex are from the start, one in each threshold,
        > 0.
    tolerance
        The search ends when the simplex and the differences of its scores are at most this, > 0.
    nearby
        A trial that is within this of an earlier one in every threshold takes over its score, >= 0.
    max_evaluations
        >= m + 1, that of the first simplex.

    Returns
    -------
    ThresholdSearch

    Raises
    ------
    ValueError
        If an option is out of range or a score is not finite.

    References
    ----------
    Nelder and Mead 1965; Moskovitz et al. 2023, algorithm NM-PPO, arXiv:2310.04373 (coefficients 1,
    2, ½ and ½, which are those of SciPy, with scores taken over within .005).

    Examples
    --------
    >>> found = search_thresholds(lambda x: -float((x[0] - 1) ** 2), [0.0], tolerance=1e-4)
    >>> found.thresholds.round(3), found.converged
    (array([1.]), True)
    """
    from scipy.optimize import minimize

    check_callable(score=score)
    start = as_float_array(start, "start", ndim=1)
    m = start.size
    if m == 0:
        raise ValueError("start must hold at least one threshold, got none")
    check_positive(spread=spread, tolerance=tolerance)
    check_nonnegative(nearby=nearby)
    check_integer(low=m + 1, max_evaluations=max_evaluations)
    tried: list[np.ndarray] = []
    scores: list[float] = []

    def cost(thresholds: np.ndarray) -> float:
        if tried and nearby > 0:
            away = np.abs(np.stack(tried) - thresholds).max(axis=-1)
            if away.min() <= nearby:
                return -scores[int(away.argmin())]
        if len(tried) == max_evaluations:
            raise _Exhausted
        value = float(score(thresholds.copy()))
        if not np.isfinite(value):
            raise ValueError(f"score must be finite, got {value} at {thresholds.tolist()}")
        tried.append(thresholds.copy())
        scores.append(value)
        return -value

    simplex = np.concatenate([start[None], start + spread * np.eye(m)])
    options = {
        "initial_simplex": simplex,
        "xatol": tolerance,
        "fatol": tolerance,
        # What is taken over costs nothing and is not counted: evaluations are counted above.
        "maxiter": 100 * max_evaluations,
        "maxfev": 100 * max_evaluations,
    }
    try:
        converged = bool(minimize(cost, start, method="Nelder-Mead", options=options).success)
    except _Exhausted:
        converged = False
    best = int(np.argmax(scores))
    return ThresholdSearch(
        tried[best], scores[best], np.stack(tried), np.asarray(scores), converged
    )
