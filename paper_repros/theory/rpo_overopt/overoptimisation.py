"""Rewards guessed from few comparisons: how far policies fall short that trust them, or do not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.analysis.coverage import partial_coverage_coefficient
from prefsim.backend import Seed, to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import fit, gradient_descent
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.solvers.optimisers.penalties import cross_entropy_penalty
from prefsim.typing import Loss
from prefsim.worlds import ContextualBandit

# --- a study of the weight of the SFT term ---

BETA = 0.2
REWARD = np.array([[1.0, 0.6, 0.3, 0.0, -1.0]])
WORLD = ContextualBandit(reward=REWARD)
# The worst response is hardly ever compared: a reward fitted to few pairs may well overrate it.
SAMPLING = TabularPolicy.from_probs([[0.3, 0.3, 0.25, 0.13, 0.02]])
# Bounds the rewards that fit, far beyond the true ones: without it they may be infinite.
BOUND = 4.0

RULES: Mapping[str, Callable[[int], float]] = {
    "DPO (η = 0)": lambda n: 0.0,
    "RPO, η = 0.5/√N": lambda n: 0.5 / np.sqrt(n),
    "RPO, η = 0.005": lambda n: 0.005,
    "RPO, η = 0.2": lambda n: 0.2,
}
"""Weights of the SFT term, for N comparisons."""
DPO, TUNED, _, FIXED = RULES


def measure_gaps(sizes: tuple[int, ...], seeds: int, run: Run) -> dict[str, np.ndarray]:
    """Return the gap to the best reward under each rule, ``(sizes, seeds)``.

    The baseline is the distribution of the winners in the data.
    """
    gaps = []
    for n in run.progress(sizes, "sizes"):
        rng = np.random.default_rng([run.seed, n])
        data = replicated_comparisons(WORLD, n, seeds, seed=rng, policy=SAMPLING, distinct=True)
        winners = win_weights(data, 1, WORLD.n_responses).sum(axis=-1)
        # All rules and seeds in one solve.
        eta = np.array([rule(n) for rule in RULES.values()])[:, None]
        reference = TabularPolicy.uniform(1, WORLD.n_responses)
        game = PessimisticGame(data, reference, winners, beta=BETA, eta=eta, bound=BOUND)
        gaps.append(suboptimality(to_numpy(game.solve().log_policy), WORLD))
    return dict(zip(RULES, np.stack(gaps, axis=1), strict=True))


# --- training ---

TRAINED: Mapping[str, Loss] = {
    "DPO": functools.partial(losses.dpo, beta=BETA),
    "RPO, η = 1": functools.partial(losses.rpo, beta=BETA, eta=1.0),
}


def trajectories(steps: int, records: int = 40) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return step numbers and, for each loss, the mean ``log π(chosen)`` along gradient descent.

    The one feature follows the reward but puts the rare worst response on top: a policy that learns
    from the pairs raises that response above every winner.
    """
    policy = LogLinearPolicy.from_features(np.array([[[1.0], [0.6], [0.3], [0.0], [2.2]]]))
    data = Comparisons.population(WORLD, SAMPLING, distinct=True)
    winners = win_weights(data, 1, WORLD.n_responses).sum(axis=-1)
    every = steps // records
    paths = {}
    for name, loss in TRAINED.items():
        _, path = gradient_descent(
            policy,
            loss,
            data,
            reference=policy,
            step=1.0,
            iterations=steps,
            record=lambda p: (to_numpy(p.log_probs) * winners).sum(),
            record_every=every,
        )
        paths[name] = np.asarray(path)
    return np.arange(0, steps + 1, every), paths


# --- one method, three ways ---


class Agreement(NamedTuple):
    """How far apart the loss, DPO with an SFT term, and the game are on the same data sets.

    Attributes
    ----------
    of_loss, of_term
        Largest distance of a probability from the game's policy: of the policy that minimises RPO's
        loss, and of the one that minimises DPO's loss with the SFT term on the winners.
    of_values
        Largest error of the game's value, found as the least loss plus ηβ E_winners log π_ref.
    """

    of_loss: float
    of_term: float
    of_values: float


def three_ways(seed: int, *, sets: int, n: int = 1600) -> Agreement:
    """Solve data sets of the study as a game, by the loss, and by DPO with an SFT term.

    There are so many comparisons that every response wins some and no bound is needed.
    """
    rng = np.random.default_rng([seed, 3])
    data = replicated_comparisons(WORLD, n, sets, seed=rng, policy=SAMPLING, distinct=True)
    winners = win_weights(data, 1, WORLD.n_responses).sum(axis=-1)
    reference, eta = TabularPolicy.uniform(1, WORLD.n_responses), RULES[FIXED](n)
    played = PessimisticGame(data, reference, winners, beta=BETA, eta=eta).solve()
    dpo, rpo = (
        functools.partial(losses.dpo, beta=BETA),
        functools.partial(losses.rpo, beta=BETA, eta=eta),
    )
    term = cross_entropy_penalty(winners, weight=eta * BETA)
    by_loss = fit(reference, rpo, data, reference=reference)
    by_term = fit(reference, dpo, data, reference=reference, penalty=term)
    target = np.exp(to_numpy(played.log_policy))
    constant = eta * BETA * (winners * reference.log_probs).sum(axis=(-2, -1))
    values = to_numpy(by_loss.value) + constant
    return Agreement(
        of_loss=float(np.abs(by_loss.policy.probs - target).max()),
        of_term=float(np.abs(by_term.policy.probs - target).max()),
        of_values=float(np.abs(values - to_numpy(played.value)).max()),
    )


# --- what the theorem promises, and what coverage is the price of ---


def price_of_pessimism(eta: float = 2e-5) -> tuple[np.ndarray, np.ndarray]:
    """Return what the worst reward takes from always giving one response, and C: each ``(Y,)``.

    The first is ``√((φ(π, r*) − min_r φ(π, r)) / 2) / η``, which tends to C as η → 0 if a pair
    counts 4 p (1 − p) times, its curvature: the adversary is stopped by what the pairs tell.
    """
    y = WORLD.n_responses
    data = Comparisons.population(WORLD, SAMPLING, distinct=True)
    game = PessimisticGame(data, TabularPolicy.uniform(1, y), SAMPLING.probs, beta=BETA, eta=eta)
    always = np.where(np.eye(y, dtype=bool), 0.0, -np.inf)[:, None]
    wins = win_weights(data, 1, y)
    both = wins + wins.swapaxes(-1, -2)
    # p (1 − p) of a pair whose wins are p and 1 − p of its weight.
    curvature = 4 * np.divide(wins * wins.swapaxes(-1, -2), both, where=both > 0, out=0 * both)
    coverage = partial_coverage_coefficient(always, SAMPLING.log_probs, curvature / 2)
    taken = game.objective(always, REWARD) - game.worst_reward(always).value
    return np.sqrt(taken / 2) / eta, np.asarray(coverage)


FAILURE = 0.1  # δ: the probability with which the bound may not hold
LARGEST = 1.0  # R, of the rewards
CURVATURE = (1 + np.exp(LARGEST)) ** 2


class Promise(NamedTuple):
    """A bandit with rewards in [0, 1] to be learnt from N comparisons, and the theorem's bound.

    Attributes
    ----------
    reward, sampling
        Of the responses, ``(Y,)``; pairs are of two different responses of the sampling policy.
    n
        N.
    pessimism, temperature
        Factors of the theorem's η and β, 1 in the theorem.
    """

    reward: np.ndarray
    sampling: np.ndarray
    n: int
    pessimism: float = 1.0
    temperature: float = 1.0

    def world(self) -> ContextualBandit:
        """Return the bandit."""
        return ContextualBandit(reward=self.reward[None])

    def sampler(self) -> TabularPolicy:
        """Return the sampling policy, which is the baseline too."""
        return TabularPolicy.from_probs(self.sampling[None])

    def iota(self) -> float:
        """Return ι = √log(N_ε/δ), where a grid of the precision ε covers the rewards."""
        precision = 1 / (6 * (1 + np.exp(LARGEST)) * self.n)
        log_covering = self.reward.size * np.log(np.ceil(LARGEST / (2 * precision)))
        return float(np.sqrt(log_covering + np.log(1 / FAILURE)))

    def coverage(self) -> float:
        """Return the coefficient C of always giving the best response."""
        best = np.where(np.arange(self.reward.size) == self.reward.argmax(), 0.0, -np.inf)
        pairs = Comparisons.population(self.world(), self.sampler(), distinct=True)
        weight = win_weights(pairs, 1, self.reward.size)
        return float(partial_coverage_coefficient(best[None], self.sampler().log_probs, weight))

    def bound(self) -> float:
        """Return what the gap to the best response exceeds with a probability of at most δ."""
        missed = np.sqrt(6) * CURVATURE * (self.coverage() ** 2 + 1) * self.iota()
        # KL(best‖uniform) = log Y.
        return float((missed + 4 * np.log(self.reward.size)) / (4 * np.sqrt(self.n)))

    def gaps(self, sets: int, *, seed: Seed) -> np.ndarray:
        """Return the gaps to the best response that so many data sets leave."""
        game = PessimisticGame(
            replicated_comparisons(
                self.world(), self.n, sets, seed=seed, policy=self.sampler(), distinct=True
            ),
            TabularPolicy.uniform(1, self.reward.size),
            self.sampling[None],
            beta=self.temperature * self.n**-0.5,
            eta=self.pessimism * np.sqrt(24.0 / self.n) * self.iota() / CURVATURE,
            bound=(0.0, LARGEST),
        )
        return np.asarray(suboptimality(to_numpy(game.solve().log_policy), self.world()))
