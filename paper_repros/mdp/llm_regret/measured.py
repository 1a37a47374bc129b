"""What is measured of agents on families of losses, and of layers trained on all sequences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paper_repros.mdp.llm_regret import layers
from paper_repros.mdp.llm_regret.sequences import NAMES
from prefsim.analysis import dynamic_regret, regret_regression_test, regret_trend_test
from prefsim.backend import Seed
from prefsim.loops.online_play import OnlinePlay
from prefsim.losses.online import regret_path
from prefsim.solvers.online_learning.ftrl import ftrl_ball
from prefsim.solvers.online_learning.linear_attention import cumulative_before


class Measured(NamedTuple):
    """Regrets of one agent, by family and run.

    Attributes
    ----------
    path
        After every round, ``(families, runs, T)``.
    dynamic
        ``(families, runs)``.
    trend, regression
        P-values of the two tests, ``(families, runs)``.
    slope
        Of the regression, ``(families, runs)``.
    """

    path: np.ndarray
    dynamic: np.ndarray
    trend: np.ndarray
    regression: np.ndarray
    slope: np.ndarray

    def passed(self, family: str) -> tuple[float, float]:
        """Return the shares of runs of a family that pass the two tests at .05."""
        place = NAMES.index(family)
        trend, regression = (p[place] < 0.05 for p in (self.trend, self.regression))
        return float(np.mean(trend)), float(np.mean(regression))

    def regret(self, family: str) -> np.ndarray:
        """Return the regrets of a family, ``(runs,)``."""
        return self.path[NAMES.index(family), :, -1]


def measure(play: OnlinePlay) -> Measured:
    path = regret_path(*play)
    regression = regret_regression_test(path)
    return Measured(
        path,
        dynamic_regret(*play),
        regret_trend_test(path).p_value,
        regression.p_value,
        regression.slope,
    )


class Learned(NamedTuple):
    """Layers without a projection, against the unit ball, on all sequences of signs.

    Attributes
    ----------
    trained
        The ends of training.
    loss, worst
        Expected regret-loss and largest regret, by the name of a learner.
    least
        Least loss of all sums of quadratic tokens.
    step
        a* of the closed form.
    """

    trained: layers.Trained
    loss: dict[str, float]
    worst: dict[str, float]
    least: float
    step: float


BEST, ON_BALL, SHORT, LEADER, NOTHING = (
    "−a*L",
    "−a*L, projected",
    "−1.25 a*L, projected",
    "the leader",
    "nothing",
)


def learn_from_signs(starts: int, seed: Seed) -> Learned:
    losses, weight = layers.signs(2).sequences(4)
    seen = cumulative_before(losses)
    step = layers.best_step(losses, weight)
    decisions = {
        BEST: -step * seen,
        ON_BALL: ftrl_ball(seen, step=step),
        SHORT: ftrl_ball(seen, step=1.25 * step),
        # Of the shortest sum but zero, signs make the length √2.
        LEADER: ftrl_ball(seen, step=1.0),
        NOTHING: np.zeros_like(seen),
    }
    return Learned(
        layers.train(losses, weight, starts=starts, seed=seed),
        {k: float(layers.expected_loss(d, losses, weight)) for k, d in decisions.items()},
        {
            k: float(regret_path(d, losses, comparator="ball")[:, -1].max())
            for k, d in decisions.items()
        },
        layers.least_loss(losses, weight),
        step,
    )
