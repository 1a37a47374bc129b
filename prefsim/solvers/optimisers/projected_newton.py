"""Projected Newton for many small convex problems at once, each between bounds of its own.

The problems of a flat batch share no parameters. Value, gradient and Hessian are asked for the
problems that are still open, so that a batch costs what its hardest members cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefsim.checks import check_integer, check_positive

__all__ = ["Bounded", "BoundedMinimum", "minimise_between", "projected_residual"]

# Eigenvalues below this share of the largest are flat directions.
FLAT = 1e-13
# A slope along a flat direction below this share of the projected gradient is rounding.
SLOPING = 1e-3
HALVINGS = 50  # a step of 2⁻⁵⁰ is below the rounding of the point that it starts from

Part = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Bounded(NamedTuple):
    """Convex problems, each in a box.

    Attributes
    ----------
    value, gradient, hessian
        Functions of the numbers ``(b,)`` of some problems and of a point ``(b, n)`` of each, to
        ``(b,)``, ``(b, n)`` and ``(b, n, n)``.
    low, high
        The boxes of all problems, ``(B, n)``; edges may be infinite.
    floor
        ``(B,)``: a problem whose value falls below has no minimum, and is given up. None have
        unless given.
    """

    value: Part
    gradient: Part
    hessian: Part
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray | None = None


class BoundedMinimum(NamedTuple):
    """Minimisers ``(B, n)``, sup-norms of the projected gradients ``(B,)``, and steps.

    The norm of a problem that was given up is that of the step before.
    """

    minimiser: np.ndarray
    residual: np.ndarray
    iterations: int


def minimise_between(
    problem: Bounded, start: np.ndarray, *, tolerance: float, max_iterations: int
) -> BoundedMinimum:
    """Minimise each problem from a start ``(B, n)``, or the nearest point of its box.

    Until the projected gradient is at most ``tolerance``.

    Entries held at a bound by their gradient are fixed, the others take a Newton step in which flat
    directions keep still; the step is projected on the box and halved until it decreases the
    objective enough.

    References
    ----------
    Bertsekas 1982, "Projected Newton methods for optimization problems with simple constraints"
    (doi:10.1137/0320018).

    Examples
    --------
    >>> parabola = Bounded(
    ...     value=lambda rows, x: 0.5 * ((x - 2.0) ** 2).sum(axis=-1),
    ...     gradient=lambda rows, x: x - 2.0,
    ...     hessian=lambda rows, x: np.ones((len(x), 1, 1)),
    ...     low=np.array([[0.0], [-1.0]]),
    ...     high=np.array([[np.inf], [1.0]]),
    ... )
    >>> minimise_between(parabola, np.zeros((2, 1)), tolerance=1e-12, max_iterations=9).minimiser
    array([[2.],
           [1.]])
    """
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    point = np.clip(start, problem.low, problem.high)
    residual = np.full(len(point), np.inf)
    todo = np.arange(len(point))
    iterations = 0
    while True:
        at = point[todo]
        gradient = problem.gradient(todo, at)
        residual[todo] = projected_residual(at, gradient, problem.low[todo], problem.high[todo])
        open_ = residual[todo] > tolerance
        if iterations == max_iterations or not open_.any():
            break
        todo, at, gradient = todo[open_], at[open_], gradient[open_]
        moved = _step(problem, todo, at, gradient, residual[todo])
        ended = (moved == at).all(axis=-1)
        if problem.floor is not None:
            ended |= problem.value(todo, moved) < problem.floor[todo]
        point[todo] = moved
        todo = todo[~ended]
        iterations += 1
    return BoundedMinimum(point, residual, iterations)


def projected_residual(
    point: np.ndarray, gradient: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the largest entry of the projected gradient, ``(b,)``: 0 at a stationary point."""
    # The point less that of a step, whose difference would be rounding far from the origin.
    return np.abs(np.clip(gradient, point - high, point - low)).max(axis=-1)


def _step(
    problem: Bounded,
    rows: np.ndarray,
    at: np.ndarray,
    gradient: np.ndarray,
    residual: np.ndarray,
) -> np.ndarray:
    """Return the next points; a point that cannot be improved comes back as it is."""
    low, high = problem.low[rows], problem.high[rows]
    near = np.minimum(residual, 1e-3)[:, None]
    fixed = ((at <= low + near) & (gradient > 0)) | ((at >= high - near) & (gradient < 0))
    free = (~fixed).astype(float)
    hessian = problem.hessian(rows, at) * free[:, :, None] * free[:, None, :]
    curvature, axes = np.linalg.eigh(hessian)
    along = np.einsum("bij,bi->bj", axes, gradient * free)
    largest = np.maximum(curvature[:, -1:], np.finfo(float).tiny)
    flat = curvature <= FLAT * largest
    # Where nothing curves, a slope leads to the edge of the box; rounding is no slope.
    width = high - low
    reach = np.where(np.isfinite(width), width, 0.0).max(axis=-1, keepdims=True)
    sloping = flat & (np.abs(along) > SLOPING * residual[:, None])
    to_the_edge = np.sign(along) * np.maximum(np.abs(along), reach)
    along = np.where(sloping, to_the_edge, along / np.where(flat, 1.0, curvature))
    direction = -np.einsum("bij,bj->bi", axes, along) * free - gradient * fixed
    value = problem.value(rows, at)
    result, length = at.copy(), np.ones(len(at))
    todo = np.arange(len(at))
    for _ in range(HALVINGS):
        low, high = problem.low[rows[todo]], problem.high[rows[todo]]
        trial = np.clip(at[todo] + length[todo, None] * direction[todo], low, high)
        trial_value = problem.value(rows[todo], trial)
        predicted = np.sum(gradient[todo] * (at[todo] - trial), axis=-1)
        decreased = (predicted > 0) & (trial_value <= value[todo] - 1e-4 * predicted)
        # Close to the minimum the value is all rounding; there the gradient decides.
        level = trial_value <= value[todo] + 1e-14 * (1 + np.abs(value[todo]))
        left = projected_residual(trial, problem.gradient(rows[todo], trial), low, high)
        accepted = decreased | (level & (left < residual[todo]))
        result[todo[accepted]] = trial[accepted]
        todo = todo[~accepted]
        if not todo.size:
            break
        length[todo] *= 0.5
    return result
