"""Fronts of finitely many points, and what is done otherwise than here."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from prefsim.loops.front_extension import extend_front
from prefsim.solvers.optimisers.trust_region import ConstrainedStep
from prefsim.solvers.pareto import weight_grid

__all__ = ["by_floats", "by_level", "by_weights", "finite_front", "scaled_apart", "walk"]


def by_level(points: np.ndarray) -> np.ndarray:
    """Return which points ``(n, 2)`` are best in the first objective at some level of the other."""
    found = np.zeros(len(points), dtype=bool)
    for level in points[:, 1]:
        allowed = np.flatnonzero(points[:, 1] >= level)
        first = points[allowed, 0]
        best = allowed[first == first.max()]
        # Of those that are equally good the one that keeps more.
        found[best[np.argmax(points[best, 1])]] = True
    return found


def by_weights(points: np.ndarray) -> np.ndarray:
    """Return which points ``(n, 2)`` are best for some positive weights."""
    grid = weight_grid(2, 1000)[1:-1]
    return np.isin(np.arange(len(points)), np.argmax(grid @ points.T, axis=1))


def finite_front(seed: int, n: int) -> np.ndarray:
    """Draw ``(n, 2)`` points, one objective falling and one rising by .7 to .8."""
    ratios = np.random.default_rng(seed).uniform(0.7, 0.8, size=(2, n - 1))
    falling = np.cumprod(np.concatenate([np.ones((2, 1)), ratios], axis=1), axis=1)
    return np.stack([falling[0], falling[1, ::-1]], axis=1)


def walk(front: np.ndarray, *, share: float, rounds: int) -> int:
    """Return how many points of a front extensions find, from its two ends."""

    def train(
        start: Any, weights: np.ndarray, at_least: np.ndarray
    ) -> list[tuple[int, np.ndarray]]:
        allowed = np.flatnonzero((front >= at_least).all(axis=1))
        best = allowed[np.argmax(front[allowed] @ weights)]
        return [(int(best), front[best])]

    path = extend_front(train, np.eye(2), rounds=rounds, select=len(front), share=share)
    return len(path[-1].archive.policies)


def by_floats(n_objectives: int, parts: int) -> np.ndarray:
    """Return the weights on a mesh of floats whose sum is one to the last bit."""
    mesh = np.arange(0, 1 + 1 / parts, 1 / parts)
    weights = np.array(list(itertools.product(mesh, repeat=n_objectives)))
    return weights[weights.sum(axis=1) == 1]


def scaled_apart(
    gradient: np.ndarray,
    constraint_gradient: np.ndarray,
    excess: float,
    curvature: np.ndarray,
    *,
    radius: float,
) -> ConstrainedStep:
    """Return the closed form with each gradient, and the inverse curvature times it, of length one.

    As in the authors' code (``constraint_update`` in ``ppo.py``): products of them are no longer
    those of one quadratic form.
    """
    g, b = (each / np.linalg.norm(each) for each in (gradient, constraint_gradient))
    towards, across = (np.linalg.solve(curvature, each) for each in (g, b))
    towards, across = towards / np.linalg.norm(towards), across / np.linalg.norm(across)
    q, r, s = g @ towards, g @ across, b @ across
    left, along = 2 * radius - excess**2 / s, q - r**2 / s
    plain = np.sqrt(q / (2 * radius))
    # Under the root of the closed form may stand less than nothing; then the plain step is taken.
    length = np.sqrt(along / left) if min(left, along) > 0 else plain
    price = max((r + length * excess) / s, 0.0) if min(left, along) > 0 else 0.0
    length = length if price else plain
    step = (towards - price * across) / length
    return ConstrainedStep(step, np.float64(length), np.float64(price), np.bool_(True))
