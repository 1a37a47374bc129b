"""Minima of sums of piecewise smooth functions of two numbers each, where these have kinks.

At every step each function is known by its pieces nearby, of second order. Near a minimum a step is
one of Newton's along the kinks that meet there, and it knows the weights of the pieces by which the
slopes cancel, which certify it.
"""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse

from prefsim.solvers.optimisers.kink_pieces import (
    LEAST_JUMP,
    Sum,
    pieces_near,
    second_order,
    slopes_of_numbers,
)
from prefsim.solvers.optimisers.kink_step import Step, step_along
from prefsim.solvers.optimisers.newton import POLISHING_STEPS, NewtonResult

__all__ = ["CERTIFIED_RADIUS", "least_mean_slope", "minimise_sum"]

Tensor = Any

# Longest first step in any parameter, and the longest of all.
FIRST_RADIUS, LARGEST_RADIUS = 2.0, 1e5
# Of the size of the start: what has gone so far is on its way to no minimum.
FAR = 3e5
# Of the size of the parameters: pieces are looked for no nearer, which rounding would blur.
LEAST_RADIUS = 1e-7
# Of the size of the parameters: a minimum is certified by slopes so far around it.
CERTIFIED_RADIUS = 1e-10
# Of what a step promises, the least share that it must gain.
LEAST_SHARE = 0.1
# Of the value: what rounding may change.
ROUNDING = 1e-14


def minimise_sum(
    total: Sum, start: Tensor, *, tolerance: float, max_iterations: int, which: np.ndarray
) -> NewtonResult:
    """Minimise some problems ``which`` ``(M,)`` of a sum from ``start`` ``(M, D)``.

    ``grad_norm`` is that of :func:`least_mean_slope`, zero for the others. A problem is left alone
    once it is at most ``tolerance`` where a step gains no more than rounding.
    """
    import torch

    theta = start.detach()
    value = total.objective(theta).detach().cpu().numpy()
    trust = np.full(total.shape[0], FIRST_RADIUS)
    look = trust.copy()
    norm = np.where(which, np.inf, 0.0)
    slope = np.full((2, total.member.size), np.nan)
    last = np.zeros(total.shape)
    recent = collections.deque([theta], maxlen=POLISHING_STEPS + 1)
    history: list[tuple[float, float]] = []
    farthest = FAR * (1 + theta.abs().amax(dim=-1).cpu().numpy())
    while len(history) < max_iterations:
        size = 1 + theta.abs().amax(dim=-1).cpu().numpy()
        open_ = (norm > tolerance) & (size < farthest)
        if not open_.any():
            break
        numbers = _numbers_at(total, theta)
        step, slope, steepness = _next_step(total, theta, numbers, slope, look, trust, open_)
        direction = np.where(open_[:, None], step.direction, 0.0)
        length = np.abs(direction).max(axis=-1)
        trial = theta + torch.as_tensor(direction).to(theta)
        found = total.objective(trial).detach().cpu().numpy()
        history.append((float(value.sum()), float(steepness[open_].max())))
        rounding = ROUNDING * (1 + np.abs(value))
        fell = (value - found > LEAST_SHARE * step.gain) & (step.gain > 0)
        still = (step.gain <= rounding) & (found - value <= rounding)
        accepted = open_ & (fell | still)
        moved = _farthest(total, _numbers_at(total, trial) - numbers)
        theta = torch.where(torch.as_tensor(accepted, device=theta.device)[:, None], trial, theta)
        recent.append(theta)
        value = np.where(accepted, found, value)
        last = np.where(open_[:, None], direction, last)
        wider = np.where(length > 0.9 * trust, 2 * trust, np.minimum(trust, 8 * length))
        trust = np.where(accepted, wider, 0.25 * length)
        trust = np.clip(trust, LEAST_RADIUS * size, LARGEST_RADIUS)
        # What a rejected step has crossed is seen by the next.
        look = np.clip(np.where(accepted, 2.0, 1.0) * moved, LEAST_RADIUS * size, FIRST_RADIUS)
        at_rest = open_ & (step.gain <= rounding)
        if at_rest.any():
            norm = np.minimum(norm, least_mean_slope(total, theta, at_rest))
    rest = ~np.isfinite(norm)
    if rest.any():
        norm = np.minimum(norm, least_mean_slope(total, theta, rest))
    return NewtonResult(
        theta,
        torch.as_tensor(value).to(theta),
        torch.as_tensor(norm).to(theta),
        len(history),
        tuple(history),
        torch.as_tensor(last).to(theta),
        (theta - recent[0]) / max(1, len(recent) - 1),
    )


def _numbers_at(total: Sum, point: Tensor) -> Tensor:
    """Return the numbers ``(2, G)`` at a point, without their graph."""
    import torch

    with torch.no_grad():
        return total.numbers(point)


def _farthest(total: Sum, change: Tensor) -> np.ndarray:
    """Return how far the numbers ``(2, G)`` of each problem have moved at most, ``(M,)``."""
    most = change.abs().amax(dim=0).cpu().numpy()
    farthest = np.zeros(total.shape[0])
    np.maximum.at(farthest, total.member, np.nan_to_num(most, posinf=0.0))
    return farthest


def _next_step(
    total: Sum,
    theta: Tensor,
    numbers: Tensor,
    slope: np.ndarray,
    look: np.ndarray,
    trust: np.ndarray,
    which: np.ndarray,
) -> tuple[Step, np.ndarray, np.ndarray]:
    """Return a step, the slopes ``(2, G)`` that its weights make, and the gradients' sup-norms.

    ``numbers`` ``(2, G)`` are those at ``theta``, ``slope`` those of the step before: by them the
    curvature of the numbers counts. Problems that are not in ``which`` ``(M,)`` take none.
    """
    # A wide look sees the third derivative too.
    jump = np.clip(look**2, LEAST_JUMP, 0.05)[total.member]
    pieces = pieces_near(total, numbers, look[total.member], jump)
    several = (pieces.keep.sum(axis=0) > 1) & which[total.member]
    kinked = np.flatnonzero(several)
    slopes = slopes_of_numbers(total, theta, kinked)
    here = np.where(several & np.isfinite(slope), slope, pieces.slope[0])
    gradient, hessian = second_order(total, theta, here, pieces.curvature[0])
    steepness = np.abs(gradient).max(axis=-1)
    mine = np.einsum("rk,rkd->kd", here[:, kinked], slopes)
    np.subtract.at(gradient, total.member[kinked], mine)
    step = step_along(pieces, total.member, gradient, hessian, slopes, kinked, trust)
    weights = step.weights[:, None]
    return step, np.where(weights > 0, weights * pieces.slope, 0.0).sum(axis=0), steepness


def least_mean_slope(
    total: Sum, point: Tensor, which: np.ndarray, radius: float = CERTIFIED_RADIUS
) -> np.ndarray:
    """Return the sup-norm of the smallest mean of the slopes around a point, ``(M,)``.

    Each function is averaged over its own pieces within ``radius``, of the size of the parameters,
    with weights from a linear program. Infinite for problems that are not in ``which`` ``(M,)``.

    References
    ----------
    Rockafellar 1970, "Convex Analysis", theorem 23.8: the subgradients of a sum are the sums.
    """
    look = radius * (1 + point.abs().amax(dim=-1).cpu().numpy())
    numbers = _numbers_at(total, point)
    least = np.full(total.member.size, LEAST_JUMP)
    pieces = pieces_near(total, numbers, look[total.member], least)
    kinked = np.flatnonzero((pieces.keep.sum(axis=0) > 1) & which[total.member])
    slopes = slopes_of_numbers(total, point, kinked)
    gradient, _ = second_order(total, point, pieces.slope[0], 0 * pieces.curvature[0])
    mine = np.einsum("rk,rkd->kd", pieces.slope[0][:, kinked], slopes)
    np.subtract.at(gradient, total.member[kinked], mine)
    piece, at = np.nonzero(pieces.keep[:, kinked])
    rise = np.einsum("pr,rpd->pd", pieces.slope[piece, :, kinked[at]], slopes[:, at])
    weights = _cancelling(gradient, rise, at, total.member[kinked])
    np.add.at(gradient, total.member[kinked[at]], weights[:, None] * rise)
    return np.where(which, np.abs(gradient).max(axis=-1), np.inf)


def _cancelling(
    gradient: np.ndarray, rise: np.ndarray, at: np.ndarray, member: np.ndarray
) -> np.ndarray:
    """Return weights ``(P,)`` of slopes ``(P, D)`` that cancel the gradients ``(M, D)`` best.

    Slope p belongs to function ``at[p]``, whose weights sum to one, of problem ``member[at[p]]``.
    """
    m, d = gradient.shape
    n, functions = at.size, member.size
    if n == 0:
        return np.zeros(0)
    rows = member[at][:, None] * d + np.arange(d)
    columns = np.repeat(np.arange(n), d)
    means = scipy.sparse.csr_array((rise.reshape(-1), (rows.reshape(-1), columns)), (m * d, n))
    bounds = scipy.sparse.kron(scipy.sparse.eye_array(m), np.ones((d, 1)))
    sums = scipy.sparse.csr_array((np.ones(n), (at, np.arange(n))), (functions, n))
    result = scipy.optimize.linprog(
        np.r_[np.zeros(n), np.ones(m)],
        A_ub=scipy.sparse.block_array([[means, -bounds], [-means, -bounds]]),
        b_ub=np.r_[-gradient.reshape(-1), gradient.reshape(-1)],
        A_eq=scipy.sparse.hstack([sums, scipy.sparse.csr_array((functions, m))]),
        b_eq=np.ones(functions),
        method="highs",
    )
    # What the program found is used as weights, which its tolerances leave a little off.
    weights = np.maximum(result.x[:n], 0.0) if result.status == 0 else np.ones(n)
    return weights / np.bincount(at, weights)[at]
