"""Sets of points of which none is better in everything: which they are, and where gaps are.

Objectives are maximised throughout.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim._readable import readable
from prefsim.checks import (
    as_float_array,
    check_callable,
    check_integer,
    check_nonnegative,
    check_shape,
)
from prefsim.solvers.planning.constrained import constrained_program
from prefsim.solvers.planning.objectives import require_objectives
from prefsim.worlds.mdp import TabularMDP

__all__ = [
    "ConvexFront",
    "convex_coverage_set",
    "convex_front",
    "crowding_distance",
    "non_dominated",
    "weight_grid",
]

DISTINCT = 1e-9
"""Points nearer than this, relative to their size, are one."""


def non_dominated(points: Any, *, tolerance: float = 0.0) -> np.ndarray:
    """Return which points no other is at least as good as in everything.

    Of points that are equal the first counts, as do duplicates and their first.

    Parameters
    ----------
    points
        ``(n, m)``.
    tolerance
        >= 0: a point also counts as no better where it is better by no more than this.

    Returns
    -------
    Booleans ``(n,)``.

    Raises
    ------
    ValueError
        If the points are no table of finite numbers, or the tolerance is negative.

    Examples
    --------
    >>> non_dominated([[1.0, 4.0], [2.0, 3.0], [2.0, 2.0], [2.0, 3.0]])
    array([ True,  True, False, False])
    """
    table = as_float_array(points, "points", ndim=2)
    check_nonnegative(tolerance=tolerance)
    if not tolerance:
        at_least = (table[:, None] >= table[None]).all(axis=-1)
        equal = at_least & at_least.T
        first = np.tri(len(table), dtype=bool, k=-1).T  # an earlier point, of equal ones
        return np.asarray(~(at_least & (~equal | first)).any(axis=0))
    # Within a tolerance "no better" is not transitive: points are compared with those kept, from
    # the largest sum down, which no later one can dominate by more.
    kept: list[int] = []
    for place in np.argsort(-table.sum(axis=1), kind="stable"):
        if not any((table[other] >= table[place] - tolerance).all() for other in kept):
            kept.append(int(place))
    return np.isin(np.arange(len(table)), kept)


def crowding_distance(points: Any) -> np.ndarray:
    r"""Return how lonely each point of a front is.

    For each objective the points are sorted, the two ends get :math:`\infty`, and the others the
    distance of their two neighbours over that of the ends; these are summed. An objective in which
    all points are equal tells none of them apart, and adds 0. Equal points count as one, so that
    each of them has the distance of that one.

    Parameters
    ----------
    points
        ``(n, m)``.

    Returns
    -------
    Array ``(n,)``.

    Raises
    ------
    ValueError
        If the points are no table of finite numbers.

    References
    ----------
    Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III.B.

    Examples
    --------
    >>> crowding_distance([[1.0, 4.0], [2.0, 3.0], [2.5, 2.5], [3.0, 1.0]]).round(6)
    array([     inf, 1.25    , 1.166667,      inf])
    """
    table = as_float_array(points, "points", ndim=2)
    if not len(table):
        return np.zeros(0)
    distinct, place = np.unique(table, axis=0, return_inverse=True)
    distance = np.zeros(len(distinct))
    for column in distinct.T:
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        if ranked[-1] == ranked[0]:
            continue
        # Of points that share an end all are ends, whichever the sort puts last.
        distance[(column == ranked[0]) | (column == ranked[-1])] = np.inf
        distance[order[1:-1]] += (ranked[2:] - ranked[:-2]) / (ranked[-1] - ranked[0])
    if len(distinct) == 1:
        distance[:] = np.inf
    return distance[place.reshape(-1)]


def weight_grid(n_objectives: int, parts: int) -> np.ndarray:
    """Return all weights that are multiples of ``1 / parts`` and sum to one.

    They are compositions of integers, divided once: a grid that keeps the sums that are exactly one
    in floating point loses some.

    Parameters
    ----------
    n_objectives, parts
        >= 1.

    Returns
    -------
    Array ``(n, n_objectives)``, of ``comb(parts + n_objectives - 1, parts)`` rows.

    Raises
    ------
    ValueError
        If a number is no integer >= 1.

    Examples
    --------
    >>> weight_grid(2, 2)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    check_integer(low=1, n_objectives=n_objectives, parts=parts)
    bars = itertools.combinations(range(parts + n_objectives - 1), n_objectives - 1)
    ends = np.array([(-1, *places, parts + n_objectives - 1) for places in bars])
    return np.asarray((np.diff(ends, axis=1) - 1)[::-1] / parts)


def convex_coverage_set(
    best: Callable[[np.ndarray], Any],
    n_objectives: int,
    *,
    tolerance: float = 1e-9,
    max_points: int = 10_000,
) -> np.ndarray:
    r"""Return the corners of a front: enough points for every weight to find its best one there.

    Optimistic linear support. The largest weighted sum is a convex function of the weights, and the
    points that are known support it from below; where it could lie highest above them, at corners
    of theirs, the best point is asked for, until none is better.

    Parameters
    ----------
    best
        A function of weights ``(m,)``, >= 0 with sum one: the point ``(m,)`` of largest weighted
        sum.
    n_objectives
        m >= 1.
    tolerance
        >= 0, relative to the largest entry: how much better a point must be to count as another.
    max_points
        When to give up.

    Returns
    -------
    Array ``(n, m)``, ordered by the first objective, from large to small.

    Raises
    ------
    ValueError
        If an option is out of range, or there are more points than ``max_points``.

    References
    ----------
    Roijers, Whiteson and Oliehoek 2015, "Computing convex coverage sets for faster multi-objective
    coordination", section 4 (optimistic linear support).

    Examples
    --------
    The middle one of three points lies inside.

    >>> points = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
    >>> convex_coverage_set(lambda weights: points[np.argmax(points @ weights)], 2)
    array([[1., 0.],
           [0., 1.]])
    """
    check_callable(best=best)
    check_integer(low=1, n_objectives=n_objectives, max_points=max_points)
    check_nonnegative(tolerance=tolerance)
    asked = np.zeros((0, n_objectives))
    found = np.zeros((0, n_objectives))
    waiting = np.eye(n_objectives)
    while len(waiting):
        for weights in waiting:
            point = as_float_array(best(weights), "best", ndim=1)
            check_shape(point, "best", (n_objectives,))
            known = (found @ weights).max(initial=-np.inf)
            size = max(np.abs(point).max(), np.abs(found).max(initial=0.0))
            if point @ weights > known + tolerance * size:
                found = np.concatenate([found, point[None]])
        if len(found) > max_points:
            raise ValueError(f"the front has more corners than max_points={max_points}")
        asked = np.concatenate([asked, waiting])
        corners = _corner_weights(found)
        near = np.abs(corners[:, None] - asked[None]).max(axis=-1) <= DISTINCT
        waiting = corners[~near.any(axis=1)]
    found = found[_corners(found, tolerance)]
    return found[np.lexsort(found.T[::-1])][::-1]


def _corner_weights(points: np.ndarray) -> np.ndarray:
    """Return the weights where the best of some points changes, corners of their upper envelope."""
    from scipy.spatial import HalfspaceIntersection

    count = points.shape[1]
    if count == 1 or len(points) == 1:
        return np.eye(count)
    size = float(np.abs(points).max()) or 1.0
    scaled = points / size
    free = count - 1
    # In the first weights w and the height u: w >= 0, sum w <= 1, all points below u, u below 4.
    ends = scaled[:, -1:]
    below = np.concatenate([scaled[:, :-1] - ends, np.full((len(points), 1), -1.0), ends], axis=1)
    sides = np.zeros((free + 2, free + 2))
    sides[:free, :free] = -np.eye(free)
    sides[free, :free], sides[free, -1] = 1.0, -1.0
    sides[free + 1, free], sides[free + 1, -1] = 1.0, -4.0
    inside = np.append(np.full(free, 1.0 / count), 2.0)
    crossings = HalfspaceIntersection(np.concatenate([below, sides]), inside).intersections
    weights = crossings[crossings[:, -1] < 3.0][:, :-1]
    weights = np.concatenate([weights, 1.0 - weights.sum(axis=1, keepdims=True)], axis=1)
    weights = np.clip(weights, 0.0, 1.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.unique(weights.round(12), axis=0)


def _corners(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which points are the only best one for some weights, by a small program each."""
    from scipy.optimize import linprog

    count = points.shape[1]
    # The tolerances of the program are absolute.
    points = points / (float(np.abs(points).max()) or 1.0)
    kept = np.ones(len(points), dtype=bool)
    for place in range(len(points)):
        kept[place] = False
        others = points[kept]
        if not len(others):
            kept[place] = True
            continue
        # How far above all others it lies, at the weights that are best for it.
        lead = linprog(
            np.append(np.zeros(count), -1.0),
            A_ub=np.concatenate([others - points[place], np.ones((len(others), 1))], axis=1),
            b_ub=np.zeros(len(others)),
            A_eq=[[*np.ones(count), 0.0]],
            b_eq=[1.0],
            bounds=[(0.0, None)] * count + [(None, None)],
            method="highs",
        )
        kept[place] = -lead.fun > tolerance
    return kept


@readable
class ConvexFront(NamedTuple):
    """The corners of the front of a process, with a policy for each.

    Attributes
    ----------
    returns
        ``(n, m)``, ordered by the first objective, from large to small. What policies that choose
        at random can reach are mixtures of these, and less.
    policy
        ``(n, S, A)``.
    """

    returns: np.ndarray
    policy: np.ndarray


def convex_front(mdp: TabularMDP, *, tolerance: float = 1e-9) -> ConvexFront:
    """Return the exact front of a process with several rewards, by linear programs.

    Parameters
    ----------
    mdp
        One dense process of infinite horizon with rewards ``(m, S, A)``.
    tolerance
        As for :func:`convex_coverage_set`.

    Raises
    ------
    ValueError
        If the process has not several rewards, or a weighted sum of them has no optimum.

    Examples
    --------
    >>> rewards = [[[1.0, 0.0, 0.25]], [[0.0, 1.0, 0.25]]]
    >>> convex_front(TabularMDP([[[1.0], [1.0], [1.0]]], rewards, discount=0.5)).returns
    array([[2., 0.],
           [0., 2.]])
    """
    count = require_objectives("convex_front", mdp)
    policies: list[np.ndarray] = []
    returns: list[np.ndarray] = []

    def best(weights: np.ndarray) -> np.ndarray:
        found = constrained_program(mdp, weights)
        policies.append(found.policy)
        returns.append(found.returns)
        return found.returns

    corners = convex_coverage_set(best, count, tolerance=tolerance)
    every = np.stack(returns)
    nearest = [int(np.abs(every - corner).max(axis=1).argmin()) for corner in corners]
    return ConvexFront(corners, np.stack(policies)[nearest])
