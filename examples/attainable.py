"""What can be had of a reward at a divergence, and what losses are minimised by.

Computed on completions of the reference alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.frontier import optimal_frontier
from prefsim.numerics import sigmoid
from prefsim.solvers.closed_forms.self_training import best_of_n
from prefsim.solvers.games.certificates import mirror_step
from prefsim.worlds import ContextualBandit

__all__ = ["Bounds"]


class Bounds(NamedTuple):
    """The world whose only responses are completions of the reference, all equally likely.

    What optima and targets are computed in.

    Attributes
    ----------
    reward
        Sentiment of the completions, ``(prompts, atoms)``.
    sharpness
        Of the judge.
    """

    reward: np.ndarray
    sharpness: float

    @property
    def world(self) -> ContextualBandit:
        """The bandit with these rewards."""
        return ContextualBandit(reward=self.reward)

    @property
    def log_reference(self) -> np.ndarray:
        """Log-probabilities of the completions.

        Those of the reference are in how often each was drawn.
        """
        return np.full(self.reward.shape, -math.log(self.reward.shape[1]))

    def point(self, log_policy: Any) -> tuple[float, float]:
        """Return ``KL`` to the reference and sentiment of a policy on these completions."""
        kl, reward = (
            kl_to_reference(log_policy, self.log_reference, self.world),
            expected_reward(log_policy, self.world),
        )
        return float(kl), float(reward)

    def optimal(self, penalties: np.ndarray) -> np.ndarray:
        """Return ``(n, 2)``: KL and the most sentiment that any policy has at this KL."""
        found = optimal_frontier(self.world, self.log_reference, penalties)
        return np.stack([found.reverse_kl, found.reward], axis=-1)

    def best_of(self, n: int) -> tuple[float, float]:
        """Return KL and sentiment of the best of n samples of the reference."""
        return self.point(best_of_n(self.reward, self.log_reference, n))

    def regularised(self, penalty: float) -> tuple[float, float]:
        """Return KL and sentiment of the policy with the most sentiment less ``penalty`` times KL.

        It is DPO's minimiser at β / sharpness.
        """
        kl, reward = self.optimal(np.asarray([penalty]))[0]
        return float(kl), float(reward)

    def self_play(self, *, tau: float, step: float, rounds: int) -> tuple[float, float]:
        """Return KL and sentiment after so many mirror steps of INPO's.

        One of them with ``step * tau = 1`` is IPO's minimiser.
        """
        wins = sigmoid(self.sharpness * (self.reward[:, :, None] - self.reward[:, None, :]))
        log_policy = self.log_reference
        for _ in range(rounds):
            payoff = (wins @ np.exp(log_policy)[:, :, None])[:, :, 0]
            log_policy = mirror_step(log_policy, self.log_reference, payoff, step=step, tau=tau)
        return self.point(log_policy)
