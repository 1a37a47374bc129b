"""Rewards guessed from few comparisons: how far policies fall short that trust them, or do not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from prefsim import losses
from prefsim.analysis.bandit import suboptimality
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.papers import Run
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.solvers import gradient_descent
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.typing import Loss
from prefsim.worlds import ContextualBandit

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
