r"""A step towards the minimum of a sum of piecewise smooth functions.

It minimises the sum of the maxima of their pieces with the curvature of all, a quadratic program in
a trust region:

.. math:: \min_d \sum_g \max_k \left(c_{gk} + s_{gk}^\top J_g d\right) + \tfrac12 d^\top H d .
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse

from prefsim.solvers.optimisers.kink_pieces import Pieces

__all__ = ["Step", "step_along"]

# Of the steepest slope: curvature that keeps steps short where an objective is flat.
LEAST_CURVATURE = 1e-12
# Share of its function's slope above which a piece is one of those that meet at a kink.
CARRIES = 1e-6


class Step(NamedTuple):
    """A step ``(M, D)``, what it promises to gain ``(M,)``, the weights of pieces ``(S, G)``."""

    direction: np.ndarray
    gain: np.ndarray
    weights: np.ndarray


def step_along(
    pieces: Pieces,
    member: np.ndarray,
    gradient: np.ndarray,
    hessian: np.ndarray,
    slopes: np.ndarray,
    kinked: np.ndarray,
    radius: np.ndarray,
) -> Step:
    """Return the step of every problem, all in one quadratic program.

    ``gradient`` is that of all without a kink; ``slopes`` ``(2, K, D)`` are of the ``kinked``.
    """
    import clarabel

    m, d = gradient.shape
    size, vectors = np.linalg.eigh(hessian)
    piece, at = np.nonzero(pieces.keep[:, kinked])
    group = kinked[at]
    rise = np.einsum("pr,rpd->pd", pieces.slope[piece, :, group], slopes[:, at])
    steepest = np.abs(gradient).max(axis=-1)
    np.maximum.at(steepest, member[group], np.abs(rise).max(axis=-1))
    flat = LEAST_CURVATURE * steepest * np.minimum(radius, 1.0)
    least = np.maximum(flat, 1e-12 * np.abs(size).max(axis=-1))[:, None]
    convex = np.einsum("mij,mj,mkj->mik", vectors, np.maximum(size, least), vectors)
    above = pieces.value[piece, group] - pieces.value[0, group]
    # Steps in units of the radius and values in units of what they may change: the tolerances of
    # the program are of numbers near one.
    unit = np.maximum(steepest * radius, np.finfo(float).tiny)
    scaled = rise * (radius / unit)[member[group]][:, None]
    columns = member[group][:, None] * d + np.arange(d)
    rows = np.repeat(np.arange(group.size), d)
    cuts = scipy.sparse.csc_array(
        (
            np.r_[scaled.reshape(-1), -np.ones(group.size)],
            (np.r_[rows, np.arange(group.size)], np.r_[columns.reshape(-1), m * d + at]),
        ),
        shape=(group.size, m * d + kinked.size),
    )
    box = scipy.sparse.eye_array(m * d, m * d + kinked.size, format="csc")
    bent = scipy.sparse.block_diag(
        [*(convex * (radius**2 / unit)[:, None, None]), scipy.sparse.csc_array((kinked.size,) * 2)],
        format="csc",
    )
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    solution = clarabel.DefaultSolver(
        scipy.sparse.triu(bent, format="csc"),
        np.r_[(gradient * (radius / unit)[:, None]).reshape(-1), np.ones(kinked.size)],
        scipy.sparse.vstack([cuts, box, -box], format="csc"),
        np.r_[-above / unit[member[group]], np.ones(2 * m * d)],
        [clarabel.NonnegativeConeT(group.size + 2 * m * d)],
        settings,
    ).solve()
    direction = np.nan_to_num(solution.x[: m * d]).reshape(m, d) * radius[:, None]
    direction = np.clip(direction, -radius[:, None], radius[:, None])
    weights = np.maximum(solution.z[: group.size], 0.0)
    weights /= np.maximum(np.bincount(at, weights, kinked.size), np.finfo(float).tiny)[at]
    program = _Program(gradient, convex, rise, above, at, member[group])
    for problem in np.unique(member[kinked]):
        direction[problem] = _polished(program, problem, direction[problem], weights, radius)
    highest = np.full(kinked.size, -np.inf)
    np.maximum.at(highest, at, above + (rise * direction[member[group]]).sum(axis=-1))
    gain = -(gradient * direction).sum(axis=-1)
    gain -= 0.5 * np.einsum("mi,mij,mj->m", direction, hessian, direction)
    np.subtract.at(gain, member[kinked], highest)
    shares = np.zeros(pieces.keep.shape)
    shares[0] = 1.0
    shares[:, kinked] = 0.0
    shares[piece, group] = weights
    return Step(direction, gain, shares)


class _Program(NamedTuple):
    """The quadratic program of a step: P pieces rise by ``rise · d`` from ``above``.

    Each is of a function ``at`` and a problem ``member``.
    """

    gradient: np.ndarray
    hessian: np.ndarray
    rise: np.ndarray
    above: np.ndarray
    at: np.ndarray
    member: np.ndarray


def _polished(
    program: _Program,
    problem: int,
    direction: np.ndarray,
    weights: np.ndarray,
    radius: np.ndarray,
) -> np.ndarray:
    """Return a problem's step with the pieces that carry weight held equal, to rounding.

    The interior point knows each to some digits of the steepest slope only. Where the step so found
    is no solution, or the radius ends it, it comes back as it was.
    """
    if np.abs(direction).max() > 0.999 * radius[problem]:
        return direction
    mine = np.flatnonzero(program.member == problem)
    rise, above, at, share = (
        each[mine] for each in (program.rise, program.above, program.at, weights)
    )
    order = np.lexsort((-share, at))
    first = np.r_[True, np.diff(at[order]) != 0]
    heaviest = np.repeat(order[first], np.diff(np.r_[np.flatnonzero(first), order.size]))
    others = order[~first & (share[order] > CARRIES)]
    beside = heaviest[~first & (share[order] > CARRIES)]
    equal, by = rise[others] - rise[beside], above[beside] - above[others]
    gradient = program.gradient[problem] + rise[order[first]].sum(axis=0)
    hessian = program.hessian[problem]
    left, size, right = np.linalg.svd(equal, full_matrices=True)
    rank = int((size > 1e-10 * size[:1]).sum())
    along = right[rank:].T
    onto = right[:rank].T @ ((left.T[:rank] @ by) / size[:rank])
    bent = along.T @ hessian @ along
    rest = np.linalg.lstsq(bent, -along.T @ (gradient + hessian @ onto), rcond=1e-15)[0]
    found = onto + along @ rest
    raised = above + rise @ found
    highest = np.full(int(at.max()) + 1, -np.inf)
    np.maximum.at(highest, at, raised)
    lower = (highest[at[order[first]]] - raised[order[first]]).max()
    fits = np.abs(found).max() <= radius[problem] and lower <= 1e-12 * np.abs(rise).max()
    return found if fits else direction
