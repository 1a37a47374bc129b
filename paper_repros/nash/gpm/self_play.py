"""Policies that meet themselves on scores: steps, regressions that learn them, and a cycle."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from paper_repros.nash.gpm.cycles import cycle
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import log_softmax, logsumexp, sigmoid
from prefsim.policies import TabularPolicy
from prefsim.solvers import (
    FitResult,
    exploitability,
    fit,
    fit_bradley_terry,
    gpo_update,
    objective,
)
from prefsim.solvers.games.certificates import payoff
from prefsim.typing import Loss
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
        """Regress log π/π_t on (s(y ≻ π_t) − β log Z)/β."""
        data = self.pairs_with(self.payoffs - beta * log_partition)
        return fit(self.reference, self.pointwise_loss(beta), data, reference=self.reference)

    def pointwise_loss(self, beta: float) -> Loss:
        """Return the loss of that regression."""
        return functools.partial(losses.gpo, beta=beta)

    def loss_before(self, beta: float) -> float:
        """Return the value of that loss at the policy itself, log Z left out."""
        data = self.pairs_with(self.payoffs)
        reference = self.reference
        return float(objective(reference, self.pointwise_loss(beta), data, reference=reference))

    def regress_in_pairs(self, beta: float) -> FitResult:
        """Regress differences in pairs, which need no log Z."""
        loss = functools.partial(losses.mirror_descent, step=1 / beta, tau=0.0)
        data = self.pairs_with(self.payoffs)
        return fit(self.reference, loss, data, reference=self.reference)


class CyclePlay(NamedTuple):
    """Exploitabilities by step, and that of a reward's best arm.

    Attributes
    ----------
    steps
        ``(K,)``.
    average, last
        Of GPO's average and last policy.
    rewarded
        Of the policy trained on a reward.
    path_error
        Of the sum of its steps, which the average policy tells: largest difference of log π_T from
        log π_0 + T s(y ≻ π̄)/β.
    regression_error
        Largest difference of the second policy from the minimum of GPO's regression.
    loss_ratio
        The loss of that regression at the first policy over the mean of (s(y ≻ π_0)/β)².
    """

    steps: np.ndarray
    average: np.ndarray
    last: np.ndarray
    rewarded: np.ndarray
    best_arm: float
    path_error: float
    regression_error: float
    loss_ratio: float


class PolicyPath(NamedTuple):
    """Policies ``(K, n)`` by step, each with the average of those before it."""

    steps: np.ndarray
    policy: np.ndarray
    average: np.ndarray


def follow(scores: np.ndarray, steps: int, step: float) -> PolicyPath:
    """Play GPO against scores, from a policy that prefers rock."""
    log_policies = [np.log([0.7, 0.2, 0.1])]
    for _ in range(steps):
        log_policies.append(gpo_update(log_policies[-1], scores, beta=1 / step))
    policies = np.exp(log_policies)
    shown = np.arange(0, steps + 1, max(1, steps // 400))
    # The first record has nothing before it but itself.
    played = np.cumsum(policies, axis=0) / np.arange(1, steps + 2)[:, None]
    return PolicyPath(shown, policies[shown], played[np.maximum(shown - 1, 0)])


def play_cycle(steps: int, step: float, seed: int) -> CyclePlay:
    """Play rock, paper, scissors with scores of 2, from a policy that prefers rock.

    The step is 1/β; the reward is fitted to 300 labels.
    """
    scores = 2.0 * (cycle(3) - cycle(3).T)
    chance = sigmoid(scores)
    draws = np.asarray(np.random.default_rng(seed).binomial(100, chance))
    counts = np.triu(draws, 1) + np.tril(100 - draws.T, -1)
    reward = to_numpy(fit_bradley_terry(counts).reward)

    on_scores = follow(scores, steps, step)
    on_reward = follow(np.subtract.outer(reward, reward), steps, step)
    start, end = np.log(on_scores.policy[[0, -1]])
    stated = log_softmax(start + steps * step * payoff(scores, on_scores.average[-1]))
    first = Match(scores, on_scores.policy[0])
    regressed = first.regress_pointwise(1 / step, first.log_partition(first.payoffs, 1 / step))
    exact = np.exp(gpo_update(start, scores, beta=1 / step))
    mean_square = float(first.policy @ (step * first.payoffs) ** 2)
    return CyclePlay(
        on_scores.steps,
        exploitability(chance, on_scores.average),
        exploitability(chance, on_scores.policy),
        exploitability(chance, on_reward.policy),
        float(exploitability(chance, np.eye(3)[reward.argmax()])),
        float(np.abs(end - stated).max()),
        float(np.abs(to_numpy(regressed.policy.probs)[0] - exact).max()),
        first.loss_before(1 / step) / mean_square,
    )
