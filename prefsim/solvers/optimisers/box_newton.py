r"""Projected Newton for many small convex problems in a box at once.

Each is a log-partition, a linear term and logistic losses of differences.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.checks import check_integer, check_positive
from prefsim.numerics import log_sigmoid, logsumexp, sigmoid, softmax

__all__ = [
    "BoxNewtonResult",
    "BoxProblem",
    "box_gradient",
    "box_residual",
    "box_value",
    "minimise_in_box",
    "restricted",
]

# Eigenvalues below this share of the largest are flat directions.
FLAT = 1e-13
# A slope along a flat direction below this share of the projected gradient is rounding.
SLOPING = 1e-3
HALVINGS = 50  # a step of 2⁻⁵⁰ is below the rounding of the point that it starts from


class BoxProblem(NamedTuple):
    r"""Minimise a log-partition, a linear term and logistic losses over a box.

    .. math:: t\beta\log\sum_i e^{q_i + r_i/\beta} + c^\top r
        - \sum_{ij} W_{ij} \log\sigma(r_i - r_j)

    Attributes
    ----------
    linear, log_reference, low, high
        c, q and the box, ``(..., n)``.
    tilt
        t >= 0, ``(...,)``.
    beta
        β > 0.
    wins
        W >= 0, ``(..., n, n)``.
    """

    linear: np.ndarray
    tilt: np.ndarray
    log_reference: np.ndarray
    beta: float
    wins: np.ndarray
    low: np.ndarray
    high: np.ndarray


class BoxNewtonResult(NamedTuple):
    """Minimiser ``(..., n)``, sup-norm of the projected gradient, Frank–Wolfe gap, and steps.

    The gap ``(...,)`` is an upper bound on the excess.
    """

    minimiser: np.ndarray
    residual: np.ndarray
    gap: np.ndarray
    iterations: int


def minimise_in_box(
    problem: BoxProblem, *, tolerance: float, max_iterations: int
) -> BoxNewtonResult:
    """Minimise each problem from r = 0 (or the nearest point of the box).

    Until the projected gradient is at most ``tolerance``.

    Entries held at a bound by their gradient are fixed, the others take a Newton step in which flat
    directions keep still; the step is projected on the box and halved until it decreases the
    objective enough.

    References
    ----------
    Bertsekas 1982, "Projected Newton methods for optimization problems with simple constraints"
    (doi:10.1137/0320018).
    """
    check_positive(tolerance=tolerance)
    check_integer(low=1, max_iterations=max_iterations)
    n = problem.linear.shape[-1]
    batch = np.broadcast_shapes(
        problem.linear.shape[:-1],
        problem.tilt.shape,
        problem.log_reference.shape[:-1],
        problem.wins.shape[:-2],
    )
    vectors = (
        np.broadcast_to(v, (*batch, n)).reshape(-1, n)
        for v in (problem.linear, problem.log_reference, problem.low, problem.high)
    )
    linear, log_reference, low, high = vectors
    tilt = np.broadcast_to(problem.tilt, batch).reshape(-1)
    wins = np.broadcast_to(problem.wins, (*batch, n, n)).reshape(-1, n, n)
    everything = BoxProblem(linear, tilt, log_reference, problem.beta, wins, low, high)
    point = np.clip(np.zeros_like(linear), low, high)
    residual, gap = np.full(tilt.shape, np.inf), np.full(tilt.shape, np.inf)
    todo = np.arange(tilt.size)
    iterations = 0
    while True:
        part = restricted(everything, todo)
        at = point[todo]
        gradient = box_gradient(part, at)
        residual[todo], gap[todo] = box_residual(part, at, gradient), _gap(part, at, gradient)
        open_ = residual[todo] > tolerance
        if iterations == max_iterations or not open_.any():
            break
        todo = todo[open_]
        part, at, gradient = restricted(part, open_), at[open_], gradient[open_]
        moved = _step(part, at, gradient, residual[todo])
        stuck = (moved == at).all(axis=-1)
        point[todo] = moved
        todo = todo[~stuck]
        iterations += 1
    return BoxNewtonResult(
        point.reshape(*batch, n), residual.reshape(batch), gap.reshape(batch), iterations
    )


def restricted(problem: BoxProblem, which: np.ndarray) -> BoxProblem:
    """Return some problems of a flat batch."""
    return problem._replace(
        **{name: getattr(problem, name)[which] for name in problem._fields if name != "beta"}
    )


def box_value(problem: BoxProblem, r: np.ndarray) -> np.ndarray:
    """Return the objective of points ``(b, n)`` of a flat batch of problems, ``(b,)``."""
    partition = problem.tilt * problem.beta * logsumexp(problem.log_reference + r / problem.beta)
    misfit = np.sum(problem.wins * log_sigmoid(r[:, :, None] - r[:, None, :]), axis=(-2, -1))
    return partition + np.sum(problem.linear * r, axis=-1) - misfit


def box_gradient(problem: BoxProblem, r: np.ndarray) -> np.ndarray:
    """Return the gradient of :func:`box_value`, ``(b, n)``."""
    surprise = problem.wins * sigmoid(r[:, None, :] - r[:, :, None])
    policy = softmax(problem.log_reference + r / problem.beta)
    return (
        problem.tilt[:, None] * policy
        + problem.linear
        - surprise.sum(axis=-1)
        + surprise.sum(axis=-2)
    )


def _hessian(problem: BoxProblem, r: np.ndarray) -> np.ndarray:
    chance = sigmoid(r[:, :, None] - r[:, None, :])
    weight = (
        (problem.wins + np.swapaxes(problem.wins, -1, -2)) * chance * np.swapaxes(chance, -1, -2)
    )
    policy = softmax(problem.log_reference + r / problem.beta)
    share = (problem.tilt / problem.beta)[:, None]
    diagonal = weight.sum(axis=-1) + share * policy
    return (
        np.eye(r.shape[-1]) * diagonal[:, None, :]
        - weight
        - share[..., None] * policy[:, :, None] * policy[:, None, :]
    )


def box_residual(problem: BoxProblem, r: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the largest entry of the projected gradient, ``(b,)``: 0 at a stationary point."""
    return np.abs(r - np.clip(r - gradient, problem.low, problem.high)).max(axis=-1)


def _gap(problem: BoxProblem, r: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the largest ``gradient · (r − r')`` over the box.

    By convexity no point lies lower by more.
    """
    room = np.where(gradient > 0, r - problem.low, r - problem.high)
    # An edge at infinity counts nothing where the gradient is zero.
    return (gradient * np.where(gradient == 0, 0.0, room)).sum(axis=-1)


def _step(
    problem: BoxProblem, r: np.ndarray, gradient: np.ndarray, residual: np.ndarray
) -> np.ndarray:
    """Return the next points; a point that cannot be improved comes back as it is."""
    near = np.minimum(residual, 1e-3)[:, None]
    fixed = ((r <= problem.low + near) & (gradient > 0)) | (
        (r >= problem.high - near) & (gradient < 0)
    )
    free = (~fixed).astype(float)
    hessian = _hessian(problem, r) * free[:, :, None] * free[:, None, :]
    curvature, axes = np.linalg.eigh(hessian)
    along = np.einsum("bij,bi->bj", axes, gradient * free)
    largest = np.maximum(curvature[:, -1:], np.finfo(float).tiny)
    flat = curvature <= FLAT * largest
    # Where nothing curves, a slope leads to the edge of the box; rounding is no slope.
    width = problem.high - problem.low
    reach = np.where(np.isfinite(width), width, 0.0).max(axis=-1, keepdims=True)
    sloping = flat & (np.abs(along) > SLOPING * residual[:, None])
    to_the_edge = np.sign(along) * np.maximum(np.abs(along), reach)
    along = np.where(sloping, to_the_edge, along / np.where(flat, 1.0, curvature))
    direction = -np.einsum("bij,bj->bi", axes, along) * free - gradient * fixed
    value = box_value(problem, r)
    result, length = r.copy(), np.ones(len(r))
    todo = np.arange(len(r))
    for _ in range(HALVINGS):
        part = restricted(problem, todo)
        trial = np.clip(r[todo] + length[todo, None] * direction[todo], part.low, part.high)
        trial_value = box_value(part, trial)
        predicted = np.sum(gradient[todo] * (r[todo] - trial), axis=-1)
        decreased = (predicted > 0) & (trial_value <= value[todo] - 1e-4 * predicted)
        # Close to the minimum the value is all rounding; there the gradient decides.
        level = trial_value <= value[todo] + 1e-14 * (1 + np.abs(value[todo]))
        accepted = decreased | (
            level & (box_residual(part, trial, box_gradient(part, trial)) < residual[todo])
        )
        result[todo[accepted]] = trial[accepted]
        todo = todo[~accepted]
        if not todo.size:
            break
        length[todo] *= 0.5
    return result
