"""Rejection sampling from π_sft on a few responses, in law and by draws."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.divergences import total_variation
from prefsim.numerics import softmax
from prefsim.solvers import gibbs_log_policy
from prefsim.solvers.closed_forms.rejection import (
    AcceptedLaw,
    accept_pass,
    accepted_law,
    first_accepted_law,
    rejection_sample,
)


def distance_in_law(log_p: Any, log_q: Any) -> float:
    """Return the total variation distance of two laws given by log-probabilities."""
    return float(total_variation(np.exp(log_p), np.exp(log_q)))


class Proposals(NamedTuple):
    """The share of each response among the accepted ``(Y,)``, and which proposals were accepted."""

    share: np.ndarray
    accepted: np.ndarray

    def distance(self, law: AcceptedLaw) -> float:
        """Return the total variation distance of the accepted from their exact law."""
        return float(total_variation(self.share, np.exp(law.log_probs)))

    def deviation_of_rate(self, law: AcceptedLaw) -> float:
        """Return how far the rate of acceptance is from the exact one, in standard errors."""
        rate = np.exp(law.log_rate)
        error = np.sqrt(rate * (1 - rate) / self.accepted.size)
        return float(abs(self.accepted.mean() - rate) / error)

    def deviations_of_shares(self, law: AcceptedLaw) -> np.ndarray:
        """Return how far every share is from its exact one, in standard errors, ``(Y,)``."""
        probs = np.exp(law.log_probs)
        return np.abs(self.share - probs) / np.sqrt(probs * (1 - probs) / self.accepted.sum())


class Sampler(NamedTuple):
    """Rewards and log π_sft of the responses to one prompt ``(Y,)``, and the temperature β."""

    reward: np.ndarray
    log_sft: np.ndarray
    beta: float = 0.5

    def target(self) -> np.ndarray:
        """Return log π_r, the law that is to be sampled."""
        return np.asarray(gibbs_log_policy(self.reward, self.log_sft, beta=self.beta)[0])

    def law(self) -> AcceptedLaw:
        """Return the law of an accepted sample and the rate of acceptance, exactly."""
        return accepted_law(self.reward, self.log_sft, beta=self.beta)

    def rejected(self, cap: float) -> float:
        """Return the chance that a candidate is below a cap and is rejected at it."""
        below = self.reward < cap
        return float(
            -np.exp(self.log_sft[below]) @ np.expm1((self.reward[below] - cap) / self.beta)
        )

    def first_of(self, candidates: int) -> np.ndarray:
        """Return the log-law of the first sample accepted among so many candidates."""
        return first_accepted_law(self.reward, self.log_sft, candidates, beta=self.beta)

    def excess_of_first(self, candidates: int) -> np.ndarray:
        """Return by how much the law of :meth:`first_of` exceeds π_r at each response, ``(Y,)``.

        It is ``Σ_v B(v)^N (π_{r < v} − π_{r ≤ v})`` over the levels v of the reward above the
        lowest, where π_{r ≤ v} is π_r given a reward of at most v, and B(v) the chance that a
        candidate is below v and is rejected at the cap v. Nothing cancels, so that distances far
        below rounding are exact.

        For if no candidate is above v, the caps v and max r accept what is below v in the same
        ratios: only where nothing is accepted does it matter which cap it was.
        """
        reward, log_sft, beta = self
        levels = np.unique(reward)
        given = [
            softmax(np.where(reward <= level, reward / beta + log_sft, -np.inf)) for level in levels
        ]
        excess = np.zeros_like(reward)
        for level, lower, law in zip(levels[1:], given[:-1], given[1:], strict=True):
            excess += self.rejected(level) ** candidates * (lower - law)
        return excess

    def propose(self, proposals: int, seed: Any) -> Proposals:
        """Draw independent proposals from π_sft and accept some of them."""
        rng = np.random.default_rng(seed)
        size, probs = self.reward.size, np.exp(self.log_sft)
        # The best response is appended to set the cap and left out again.
        drawn = np.append(rng.choice(size, size=proposals, p=probs), self.reward.argmax())
        accepted = accept_pass(self.reward[drawn], rng.random(drawn.size), beta=self.beta)[:-1]
        counts = np.bincount(drawn[:-1][accepted], minlength=size)
        return Proposals(counts / accepted.sum(), accepted)

    def shares_of_first(self, candidates: int, *, runs: int, seed: Any) -> np.ndarray:
        """Return how often each response was accepted first in runs of the algorithm, ``(Y,)``."""
        return self._shares(candidates, 1, distinct=False, runs=runs, seed=seed)

    def pooled_distance(
        self, candidates: int, samples: int, *, distinct: bool, runs: int, seed: Any
    ) -> float:
        """Return the distance to π_r of all samples of many runs of the algorithm.

        ``distinct`` collapses candidates that are the same response.
        """
        shares = self._shares(candidates, samples, distinct=distinct, runs=runs, seed=seed)
        return float(total_variation(shares, np.exp(self.target())))

    def _shares(
        self, candidates: int, samples: int, *, distinct: bool, runs: int, seed: Any
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        size = self.reward.size
        pool = rng.choice(size, size=(runs, candidates), p=np.exp(self.log_sft))
        kept = rejection_sample(
            self.reward[pool],
            samples,
            beta=self.beta,
            seed=rng,
            keys=pool if distinct else None,
        )
        counts = np.bincount(np.take_along_axis(pool, kept, axis=-1).ravel(), minlength=size)
        return np.asarray(counts / counts.sum())


EXAMPLE = Sampler(np.asarray([0.0, 0.5, 1.0, 2.0]), np.log([0.4, 0.3, 0.2, 0.1]))
