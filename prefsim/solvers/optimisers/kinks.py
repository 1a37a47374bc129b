"""The certificate of a minimum at a kink, where no gradient vanishes.

A convex function has a minimum where a mean of its slopes nearby is zero: those of the pieces that
meet there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prefsim.solvers.optimisers.newton import value_and_gradient

__all__ = ["least_mean_gradient"]

Tensor = Any

# Of the size of the parameters: gradients are taken so far around the point.
RADIUS = 1e-10
# Parameters up to which so many gradients and their program take seconds.
MOST_PARAMETERS = 400
# Gradients that tell a kink, and the change that a smooth function does not show so near.
LOOKS = 4
LEAST_JUMP = 1e-6


def least_mean_gradient(
    objective: Callable[[Tensor], Tensor], point: Tensor, which: np.ndarray
) -> np.ndarray:
    """Return the sup-norm of the smallest mean of the gradients around a point, ``(B,)``.

    Gradients are taken at random points of a cube around it and averaged with the weights that
    make the mean smallest, a linear program. Infinite where there is no kink, for problems of more
    parameters than such a program is worth, and for those that are not in ``which`` ``(B,)``.

    References
    ----------
    Goldstein 1977, "Optimization of Lipschitz continuous functions" (doi:10.1007/BF01584320).
    Burke, Lewis and Overton 2005, "A robust gradient sampling algorithm for nonsmooth, nonconvex
    optimization" (doi:10.1137/030601296).
    """
    import torch

    problems, d = point.shape
    found = np.full(problems, np.inf)
    if d > MOST_PARAMETERS:
        return found
    radius = RADIUS * (1 + point.nan_to_num().abs().amax(dim=-1, keepdim=True))
    rng = np.random.default_rng(0)

    def nearby() -> np.ndarray:
        away = torch.as_tensor(rng.uniform(-1, 1, (1, d))).to(point)
        _, gradient, _ = value_and_gradient(objective, point + radius * away)
        return np.asarray(gradient.cpu().numpy())

    first = [nearby() for _ in range(LOOKS)]
    jump = np.ptp(first, axis=0).max(axis=-1)
    kinked = which & (jump > LEAST_JUMP * np.abs(first).max(axis=(0, -1)))
    if kinked.any():
        gradients = [each[kinked] for each in first]
        gradients += [nearby()[kinked] for _ in range(2 * d + 2 - LOOKS)]
        found[kinked] = _smallest_means(np.stack(gradients, axis=1))
    return found


def _smallest_means(gradients: np.ndarray) -> np.ndarray:
    """Return the sup-norms ``(m,)`` of the smallest means of gradients ``(m, K, d)``.

    One linear program for all, each a block of its own: the weights, and a bound on every entry of
    their mean.
    """
    import scipy.optimize
    import scipy.sparse

    m, k, d = gradients.shape
    means = scipy.sparse.block_diag([each.T for each in gradients], format="csr")
    bounds = scipy.sparse.kron(scipy.sparse.eye_array(m), np.ones((d, 1)))
    sums = scipy.sparse.kron(scipy.sparse.eye_array(m), np.ones((1, k)))
    result = scipy.optimize.linprog(
        np.r_[np.zeros(m * k), np.ones(m)],
        A_ub=scipy.sparse.block_array([[means, -bounds], [-means, -bounds]]),
        b_ub=np.zeros(2 * m * d),
        A_eq=scipy.sparse.hstack([sums, scipy.sparse.csr_array((m, m))]),
        b_eq=np.ones(m),
        method="highs",
    )
    if result.status != 0:
        return np.full(m, np.inf)
    # What the program found is computed again: its tolerances are wider than those of a fit.
    weights = np.maximum(result.x[: m * k].reshape(m, k), 0.0)
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.abs(np.einsum("mk,mkd->md", weights, gradients)).max(axis=-1)
