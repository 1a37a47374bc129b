"""One process, its front filled in two ways, and what barriers lose of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.mdp.c_morl.fronts import (
    TESTS,
    ZERO,
    Archives,
    barrier_trainer,
    below_front,
    climb,
    climb_barrier,
    draw_process,
    exact_trainer,
    fill_front,
    followed,
    front_area,
    measure,
)
from prefsim.analysis.pareto import hypervolume
from prefsim.loops.front_extension import least_returns
from prefsim.solvers.pareto import convex_front
from prefsim.solvers.planning.constrained import constrained_program
from prefsim.solvers.planning.log_barrier import log_barrier_optimum
from prefsim.worlds import TabularMDP

ROUNDS = 6
RELEASED = 20.0  # sharpness of the barrier in the authors' code
SHARPNESS = (5.0, 20.0, 100.0, 500.0, 2000.0)
STEPS, KEPT = 4, 0.9


class World(NamedTuple):
    """One process, filled in two ways, with what else there is to compare.

    Attributes
    ----------
    exact, barrier
        Archives of extensions by linear programs, and by logarithmic barriers as released.
    corners
        All that weighted sums can find.
    by_weights
        Hypervolume of as many trainings for random weights.
    utility
        The largest expected utility of any set.
    off_front
        How far policies of the barriers lie below the front, at worst.
    drift
        Share of the second objective left by steps that improve the first, with levels of the start
        and of the last step.
    searched
        Distance of constrained policy optimisation from the linear program, share of the radius
        that its first step used, and distance of interior-point optimisation from the barrier's.
    """

    exact: Archives
    barrier: Archives
    corners: np.ndarray
    by_weights: float
    utility: float
    off_front: float
    drift: tuple[np.ndarray, np.ndarray]
    searched: tuple[float, float, float]

    @property
    def corner_volume(self) -> float:
        """Hypervolume of all that weighted sums can find."""
        return hypervolume(self.corners, ZERO)

    @property
    def limit(self) -> float:
        """Hypervolume of the whole front, which archives tend to."""
        return front_area(self.corners)


def explore(seed: int) -> World:
    """Fill the front of one process."""
    mdp = draw_process(seed)
    exact = measure(fill_front(exact_trainer(mdp), rounds=ROUNDS))
    barrier = measure(fill_front(barrier_trainer(mdp, RELEASED), rounds=ROUNDS))
    trainings = 10 * ROUNDS  # as many as the extensions took
    weights = np.random.default_rng(seed).dirichlet(np.ones(2), size=trainings)
    random = np.concatenate([exact.returns[0], constrained_program(mdp, weights).returns])
    corners = convex_front(mdp).returns
    held, moving = (followed(mdp, steps=STEPS, share=KEPT, last=last) for last in (False, True))
    return World(
        exact,
        barrier,
        corners,
        hypervolume(random, ZERO),
        float(constrained_program(mdp, TESTS).value.mean()),
        float(below_front(corners, barrier.returns[-1]).max()),
        (held / held[0], moving / moving[0]),
        searched(mdp),
    )


def searched(mdp: TabularMDP) -> tuple[float, float, float]:
    """Return how far exact policy search ends from what programs find; see :class:`World`."""
    level = 0.97 * constrained_program(mdp, [0.5, 0.5]).returns[1]
    one, least = np.array([1.0, 0.0]), np.array([-np.inf, level])
    best = constrained_program(mdp, one, least).returns
    inside = log_barrier_optimum(mdp, one, least, sharpness=RELEASED).returns
    found = climb(mdp, level, steps=60, radius=0.3)
    blunt = climb_barrier(mdp, level, sharpness=RELEASED, steps=120, radius=0.3)
    far, off = np.abs(best - found.returns).max(), np.abs(inside - blunt.returns).max()
    return float(far), found.used, float(off)


def barrier_loss(seeds: range, n_objectives: int) -> np.ndarray:
    """Return what barriers lose of the constrained optimum, over (m − 1)/t, ``(seeds, t)``."""
    return np.array([_loss_of(draw_process(s, n_objectives=n_objectives)) for s in seeds])


def _loss_of(mdp: TabularMDP) -> list[float]:
    count = mdp.batch_shape[0]
    one = np.eye(count)[0]
    middle = constrained_program(mdp, np.full(count, 1 / count)).returns
    level = least_returns(middle, 0, share=0.97)
    best = float(constrained_program(mdp, one, level).value)
    return [
        (best - float(log_barrier_optimum(mdp, one, level, sharpness=t).value)) * t / (count - 1)
        for t in SHARPNESS
    ]
