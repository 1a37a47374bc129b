"""Deep-sea treasure as mo-gymnasium has it: the published fronts, and extensions with costs."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.c_morl.fronts import exact_trainer
from prefsim.loops.front_extension import extend_front
from prefsim.solvers.pareto import convex_front, weight_grid
from prefsim.worlds import TabularMDP

__all__ = ["SEA", "Sea", "dive", "is_at_hand"]

SEA = "deep-sea-treasure-v0"
ROUNDS = 2


class Sea(NamedTuple):
    """What was found in one map, without a discount: treasure, and less one for each step.

    Attributes
    ----------
    corners
        ``(n, 2)``, of the exact front.
    published
        ``(10, 2)``, as the environment tells it.
    failed
        Trainings without a policy that meets their levels, by the bound of the levels.
    found
        Returns of the archive, by the bound of the levels.
    """

    corners: np.ndarray
    published: np.ndarray
    failed: dict[str, int]
    found: dict[str, np.ndarray]

    @property
    def missed(self) -> float:
        """By how much the corners miss the published points, or lie off them, at worst."""
        line = np.interp(self.published[:, 0], *self.corners[::-1].T)
        nearest = np.abs(self.corners[:, None] - self.published[None]).max(axis=-1).min(axis=1)
        return float(max(np.abs(line - self.published[:, 1]).max(), nearest.max()))


def is_at_hand() -> bool:
    """Return whether mo-gymnasium is installed."""
    return importlib.util.find_spec("mo_gymnasium") is not None


def dive(name: str = SEA) -> Sea:
    """Read the environment, and fill its front with both kinds of levels."""
    import gymnasium
    import mo_gymnasium  # noqa: F401 (registers its environments)

    mdp = TabularMDP.from_gymnasium(name, discount=1.0)
    found, failed = {}, {}
    for bound in ("scaled", "lowered"):
        path = extend_front(
            exact_trainer(mdp), weight_grid(2, 2), rounds=ROUNDS, select=5, share=0.9, bound=bound
        )
        failed[bound] = sum(step.failed for step in path)
        found[bound] = path[-1].archive.returns
    with warnings.catch_warnings():
        # The environment's own spaces are in single precision, and it says so.
        warnings.filterwarnings("ignore", message=".*precision lowered")
        base: Any = gymnasium.make(name).unwrapped
    published = np.array(base.pareto_front(1.0))
    return Sea(convex_front(mdp, tolerance=1e-6).returns, published, failed, found)
