r"""Projected Newton for many small convex problems in a box at once.

Each is a log-partition, a linear term and logistic losses of differences.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefsim.numerics import log_sigmoid, logsumexp, sigmoid, softmax
from prefsim.solvers.optimisers.projected_newton import (
    Bounded,
    minimise_between,
    projected_residual,
)

__all__ = [
    "BoxNewtonResult",
    "BoxProblem",
    "box_gradient",
    "box_residual",
    "box_value",
    "minimise_in_box",
    "restricted",
]


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

    Until the projected gradient is at most ``tolerance``, as :func:`minimise_between` does.
    """
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
    found = minimise_between(
        Bounded(
            lambda rows, r: box_value(restricted(everything, rows), r),
            lambda rows, r: box_gradient(restricted(everything, rows), r),
            lambda rows, r: _hessian(restricted(everything, rows), r),
            low,
            high,
        ),
        np.zeros_like(linear),
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    gradient = box_gradient(everything, found.minimiser)
    gap = _gap(everything, found.minimiser, gradient)
    return BoxNewtonResult(
        found.minimiser.reshape(*batch, n),
        found.residual.reshape(batch),
        gap.reshape(batch),
        found.iterations,
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
    return projected_residual(r, gradient, problem.low, problem.high)


def _gap(problem: BoxProblem, r: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Return the largest ``gradient · (r − r')`` over the box.

    By convexity no point lies lower by more.
    """
    room = np.where(gradient > 0, r - problem.low, r - problem.high)
    # An edge at infinity counts nothing where the gradient is zero.
    return (gradient * np.where(gradient == 0, 0.0, room)).sum(axis=-1)
