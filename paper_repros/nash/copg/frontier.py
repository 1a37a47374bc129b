"""How much reward three offline methods earn at each divergence, on random bandits, exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import expected_reward, kl_to_reference
from prefsim.analysis.frontier import Frontier, optimal_frontier
from prefsim.backend import to_numpy
from prefsim.data import Comparisons, ScoredPairs
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gibbs_log_policy
from prefsim.solvers.optimisers.policy_gradient import off_policy_limit
from prefsim.worlds import ContextualBandit

STRENGTHS = {
    "CoPG": np.geomspace(2.0, 0.1, 9),
    "PG, b = E_μ R": np.geomspace(1.0, 1e-3, 16),
    "PG, no baseline": np.geomspace(1.0, 1e-3, 16),
    "IPO": np.geomspace(2.0, 0.05, 10),
}


class Front(NamedTuple):
    """Where a method ends, for each strength of its penalty.

    Attributes
    ----------
    beta
        ``(m,)``.
    kl, reward, best
        KL to the reference in nats, expected reward, and the largest reward at that KL, each
        ``(m, worlds)``.
    shortfall
        Reward that is missing at a KL of one nat, ``(worlds,)``.
    """

    beta: np.ndarray
    kl: np.ndarray
    reward: np.ndarray
    best: np.ndarray
    shortfall: np.ndarray


class Bandits(NamedTuple):
    """Bandits of 20 arms in one batch, all pairs from their references, and their frontiers.

    Attributes
    ----------
    reward, log_reference
        ``(worlds, 1, 20)``.
    scored, ranked
        The pairs with their rewards, and those of IPO, which sees which of the two is higher.
    frontiers
        One a world.
    """

    reward: np.ndarray
    log_reference: np.ndarray
    scored: ScoredPairs
    ranked: Comparisons
    frontiers: list[Frontier]

    @classmethod
    def draw(cls, worlds: int, seed: int) -> Bandits:
        """Draw rewards that are standard normal from a least of zero, and normal logits."""
        rng = np.random.default_rng(seed)
        reward = rng.standard_normal((worlds, 1, 20))
        # Where all rewards are positive, a policy gradient without a baseline pulls up every arm.
        reward -= reward.min(axis=-1, keepdims=True)
        reference = TabularPolicy.from_logits(rng.standard_normal((worlds, 1, 20)))
        log_ref = to_numpy(reference.log_probs)
        scored = ScoredPairs.population(ContextualBandit(reward=reward), reference)
        ranked = scored.relabelled(0.5 + 0.5 * np.sign(scored.chosen_score - scored.rejected_score))
        frontiers = [
            optimal_frontier(ContextualBandit(reward=r), table, np.geomspace(50.0, 0.004, 1500))
            for r, table in zip(reward, log_ref, strict=True)
        ]
        return cls(reward, log_ref, scored, ranked, frontiers)

    def end(self, name: str, beta: float) -> np.ndarray:
        """Return where a method ends, log-probabilities ``(worlds, 1, 20)``."""
        if name.startswith("PG"):
            mean = np.sum(np.exp(self.log_reference) * self.reward, axis=-1)
            baseline = mean if name == "PG, b = E_μ R" else 0.0
            law = self.log_reference
            return off_policy_limit(self.reward, law, law, beta=beta, baseline=baseline)
        reference = TabularPolicy(self.log_reference)
        loss, data = {
            "CoPG": (functools.partial(losses.copg, beta=beta), self.scored),
            "IPO": (functools.partial(losses.ipo, tau=beta), self.ranked),
        }[name]
        return to_numpy(fit(reference, loss, data, reference=reference).policy.log_probs)

    def best_at(self, kl: np.ndarray) -> np.ndarray:
        """Return the largest rewards at divergences ``(m, worlds)``."""
        columns = [f.largest_reward(at) for f, at in zip(self.frontiers, kl.T, strict=True)]
        return np.stack(columns, axis=1)

    def optimal_reward(self, beta: float) -> np.ndarray:
        """Return the reward of the regularised optima, ``(worlds,)``."""
        optimum = gibbs_log_policy(self.reward, self.log_reference, beta=beta)[0]
        return np.asarray(np.sum(np.exp(optimum) * self.reward, axis=-1)[:, 0])

    def front(self, name: str, betas: Iterable[float]) -> Front:
        """Return where a method ends for each strength of its penalty."""
        strengths = [float(beta) for beta in betas]
        policies = np.stack([self.end(name, beta) for beta in strengths])
        world = ContextualBandit(reward=self.reward)
        kl = kl_to_reference(policies, self.log_reference, world)
        value = expected_reward(policies, world)
        best = self.best_at(kl)
        if name == "CoPG":
            # Its own optimum is exact, and the tangents are so only up to their spacing.
            best = np.stack([self.optimal_reward(beta) for beta in strengths])
        # A method that no penalty brings to one nat is judged by its last point.
        columns = zip(kl.T, (best - value).T, strict=True)
        missing = np.array([np.interp(1.0, at, short) for at, short in columns])
        out_of_reach = np.where(kl[-1] < 1, self.best_at(np.ones_like(kl[:1]))[0] - best[-1], 0.0)
        return Front(np.array(strengths), kl, value, best, missing + out_of_reach)


def fronts(
    bandits: Bandits, *, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> dict[str, Front]:
    """Return where every method of :data:`STRENGTHS` ends."""
    return {name: bandits.front(name, progress(betas, name)) for name, betas in STRENGTHS.items()}
