"""Instances of claims: processes, finite fronts, and what is measured or done in another way."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.c_morl.fronts import draw_process, indifferent
from prefsim.analysis.pareto import expected_utility, hypervolume, sparsity
from prefsim.loops.front_extension import extend_front, least_returns
from prefsim.solvers.optimisers.trust_region import ConstrainedStep
from prefsim.solvers.pareto import weight_grid
from prefsim.solvers.planning.constrained import constrained_program
from prefsim.solvers.planning.log_barrier import BarrierOptimum, log_barrier_optimum
from prefsim.solvers.planning.objectives import objective_returns
from prefsim.worlds import TabularMDP

__all__ = [
    "EITHER",
    "PAIR",
    "SEEDS",
    "STEEP",
    "TIED",
    "UNSEEN",
    "any_policy",
    "barrier_at",
    "by_boxes",
    "by_floats",
    "by_level",
    "by_neighbours",
    "by_weights",
    "finite_front",
    "minus_sparsity",
    "on_front",
    "processes",
    "scaled_apart",
    "volume_and_utility",
    "walk",
]

LEFT_ALONE = (
    "its results are truth values or places, which these mutants leave alone; claims hold them"
    " against the definition, and the tests against another implementation"
)
UNSEEN = {
    ("prefsim.solvers.pareto.non_dominated", ""): LEFT_ALONE,
    ("prefsim.analysis.pareto.assign_points", ""): LEFT_ALONE,
    ("prefsim.analysis.pareto.sparsity", ""): "the reproduction reads by which factor it falls",
}
"""What evidence cannot see by nature, with the reasons."""

STEEP = 50.0
"""Prices above which the best policy is unique only to a few digits."""

SEEDS = st.integers(0, 2**32 - 1)


def processes(n_objectives: int) -> st.SearchStrategy[TabularMDP]:
    """Random processes with so many rewards in [0, 1]."""
    return st.builds(
        draw_process,
        SEEDS,
        n_states=st.integers(4, 6),
        n_actions=st.integers(2, 3),
        n_objectives=st.just(n_objectives),
    )


PAIR = processes(2)
EITHER = st.one_of(processes(2), processes(3))
TIED = processes(3).map(indifferent)
"""Of which all policies tie in the first objective."""


def any_policy(mdp: TabularMDP, seed: int) -> np.ndarray:
    """Return what a random policy is worth, which is far from the front."""
    rng = np.random.default_rng(seed)
    return objective_returns(mdp, rng.dirichlet(np.ones(mdp.n_actions), size=mdp.n_states))


def on_front(mdp: TabularMDP, seed: int) -> np.ndarray:
    """Return what the best policy for random positive weights is worth."""
    weights = np.random.default_rng(seed).dirichlet(np.full(mdp.batch_shape[0], 5.0))
    return constrained_program(mdp, weights).returns


def barrier_at(mdp: TabularMDP, sharpness: float) -> BarrierOptimum:
    """Return the barrier's optimum for the first objective, kept near equal weights."""
    count = mdp.batch_shape[0]
    middle = constrained_program(mdp, np.full(count, 1.0 / count)).returns
    level = least_returns(middle, 0, share=0.95)
    return log_barrier_optimum(mdp, np.eye(count)[0], level, sharpness=sharpness)


def minus_sparsity(points: np.ndarray) -> float:
    """Return the sparsity as something that is better when larger."""
    return -sparsity(points)


def volume_and_utility(points: np.ndarray) -> np.ndarray:
    """Return two measures above which no point can bring a set down."""
    return np.array([hypervolume(points, [0.0] * 3), expected_utility(points, weight_grid(3, 4))])


def by_boxes(points: np.ndarray) -> float:
    """Return the hypervolume above zero by inclusion and exclusion."""
    chosen = [
        list(places)
        for size in range(1, len(points) + 1)
        for places in itertools.combinations(range(len(points)), size)
    ]
    return float(sum((-1) ** (len(c) + 1) * points[c].min(axis=0).prod() for c in chosen))


def by_neighbours(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which points are ends of some objective, and the others' crowding distances."""
    ranks = points.argsort(axis=0).argsort(axis=0)
    last = len(points) - 1
    ends = ((ranks == 0) | (ranks == last)).any(axis=1)
    ordered = np.sort(points, axis=0)
    width = (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    between = np.take_along_axis(width, np.clip(ranks - 1, 0, last - 2), axis=0)
    return ends, np.where(ends, 0.0, between.sum(axis=1))


# --- finitely many points ---


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
    return ConstrainedStep(step, np.asarray(length), np.asarray(price), np.asarray(True))
