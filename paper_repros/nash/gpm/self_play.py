"""A policy that meets itself on scores, and two regressions that learn its next step."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.numerics import logsumexp
from prefsim.policies import TabularPolicy
from prefsim.solvers import FitResult, fit
from prefsim.solvers.games.certificates import payoff
from prefsim.worlds import ContextualBandit


class Match(NamedTuple):
    """Scores ``(n, n)`` and the policy ``(n,)`` that meets itself."""

    scores: np.ndarray
    policy: np.ndarray

    @property
    def payoffs(self) -> np.ndarray:
        """s(y ≻ π) of every response."""
        return np.asarray(payoff(self.scores, self.policy))

    def log_partition(self, payoffs: np.ndarray, beta: float) -> float:
        """Return log Z of the update in nats."""
        return float(logsumexp(np.log(self.policy) + payoffs / beta))

    @property
    def reference(self) -> TabularPolicy:
        """The policy in a world of one context."""
        return TabularPolicy.from_probs(self.policy[None])

    def pairs_with(self, score: np.ndarray) -> Comparisons:
        """Return all pairs of draws of the policy, with a score for each response."""
        world = ContextualBandit(reward=np.zeros((1, self.policy.size)))
        pairs, old = Comparisons.population(world, self.reference), np.log(self.policy)
        columns = {
            "chosen_score": score[pairs.chosen],
            "rejected_score": score[pairs.rejected],
            "old_chosen": old[pairs.chosen],
            "old_rejected": old[pairs.rejected],
        }
        return Comparisons(
            pairs.prompt, pairs.chosen, pairs.rejected, pairs.prob, pairs.weight, **columns
        )

    def regress_pointwise(self, beta: float, log_partition: float) -> FitResult:
        """Regress log π/π_t on (s(y ≻ π_t) − β log Z)/β, as SPPO does on win probabilities."""
        target = self.payoffs - beta * log_partition
        # SPPO's target is a win probability less one half; those of the game ½ + S/2M with β/2M
        # for β are the scores over β.
        unit = 2 * np.abs(target).max(initial=1.0)
        loss = functools.partial(losses.sppo, beta=beta / unit)
        data = self.pairs_with(0.5 + target / unit)
        return fit(self.reference, loss, data, reference=self.reference)

    def regress_in_pairs(self, beta: float) -> FitResult:
        """Regress differences in pairs, which need no log Z."""
        loss = functools.partial(losses.mirror_descent, step=1 / beta, tau=0.0)
        data = self.pairs_with(self.payoffs)
        return fit(self.reference, loss, data, reference=self.reference)
