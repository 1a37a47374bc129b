"""Instances of claims: processes, policies in them, and measures written another way."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.c_morl.fronts import draw_process, indifferent
from prefsim.analysis.pareto import expected_utility, hypervolume, sparsity
from prefsim.loops.front_extension import least_returns
from prefsim.solvers.pareto import weight_grid
from prefsim.solvers.planning.constrained import constrained_optimum
from prefsim.solvers.planning.log_barrier import BarrierOptimum, log_barrier_optimum
from prefsim.solvers.planning.objectives import objective_returns
from prefsim.worlds import TabularMDP

__all__ = [
    "EITHER",
    "PAIR",
    "SEEDS",
    "TIED",
    "any_policy",
    "barrier_at",
    "by_boxes",
    "by_neighbours",
    "minus_sparsity",
    "on_front",
    "processes",
    "volume_and_utility",
]

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
    return constrained_optimum(mdp, weights).returns


def barrier_at(mdp: TabularMDP, sharpness: float) -> BarrierOptimum:
    """Return the barrier's optimum for the first objective, kept near equal weights."""
    count = mdp.batch_shape[0]
    middle = constrained_optimum(mdp, np.full(count, 1.0 / count)).returns
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
