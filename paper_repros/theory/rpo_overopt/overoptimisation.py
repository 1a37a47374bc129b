"""Rewards guessed from few comparisons: how far policies fall short that trust them, or do not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.analysis.coverage import partial_coverage_coefficient
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import gradient_descent
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.typing import Loss
from prefsim.worlds import ContextualBandit

# --- a study of the weight of the SFT term ---

BETA = 0.2
WORLD = ContextualBandit(reward=[[1.0, 0.6, 0.3, 0.0, -1.0]])
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
        data = replicated_comparisons(WORLD, n, seeds, seed=rng, policy=SAMPLING)
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


# --- what the theorem promises ---

FAILURE = 0.1  # δ: the probability with which the bound may not hold


class Guarantee(NamedTuple):
    """Gaps to the best response in data sets of several sizes, and what the theorem promises.

    Attributes
    ----------
    gaps
        ``(sizes, seeds)``.
    bounds
        ``(sizes,)``.
    coverage
        The coefficient C of the best response.
    """

    gaps: np.ndarray
    bounds: np.ndarray
    coverage: float


def guarantee(
    reward: tuple[float, ...], sampling: tuple[float, ...], sizes: tuple[int, ...], seeds: int
) -> Guarantee:
    """Learn with the theorem's weights from data sets of a bandit with rewards in [0, 1]."""
    world, y = ContextualBandit(reward=[reward]), len(reward)
    sampler = TabularPolicy.from_probs([sampling])
    best = np.where(np.arange(y) == int(np.argmax(reward)), 0.0, -np.inf)[None]
    pair_weight = win_weights(Comparisons.population(world, sampler, distinct=True), 1, y)
    coverage = float(partial_coverage_coefficient(best, sampler.log_probs, pair_weight))
    largest = 1.0  # R, of the rewards
    curvature = (1 + np.exp(largest)) ** 2
    gaps, bounds = [], []
    for n in sizes:
        precision = 1 / (6 * (1 + np.exp(largest)) * n)
        # A grid of this precision covers the rewards.
        log_covering = y * np.log(np.ceil(largest / (2 * precision)))
        iota = np.sqrt(log_covering + np.log(1 / FAILURE))
        game = PessimisticGame(
            replicated_comparisons(world, n, seeds, seed=n, policy=sampler),
            TabularPolicy.uniform(1, y),
            sampler.probs,
            beta=n**-0.5,
            eta=np.sqrt(24.0 / n) * iota / curvature,
            bound=(0.0, largest),
        )
        gaps.append(suboptimality(to_numpy(game.solve().log_policy), world))
        # KL(best‖uniform) = log Y.
        missed = np.sqrt(6) * curvature * (coverage**2 + 1) * iota
        bounds.append((missed + 4 * np.log(y)) / (4 * np.sqrt(n)))
    return Guarantee(np.asarray(gaps), np.asarray(bounds), coverage)
