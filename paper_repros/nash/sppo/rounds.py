"""Rounds of self-play: how exploitable exact ones are, and what sampled ones do to likelihoods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim import losses
from prefsim.analysis.rates import log_log_slope
from prefsim.backend import to_numpy
from prefsim.loops import descent, self_play, table_judge
from prefsim.numerics import sigmoid
from prefsim.policies import NetworkPolicy
from prefsim.solvers import nash_path
from prefsim.solvers.games.certificates import expected_preference
from prefsim.worlds.game import PreferenceGame

ROUNDS = 3
PROMPTS, CHOICES, FEATURES = 24, 20, 6
SAMPLES = 5  # of each prompt in a draw, of which the best is held against the worst
DRAWS = 4  # of each prompt in a round
BETA = 0.1


class Rate(NamedTuple):
    """Exploitability of the average and the last policy ``(horizons, games)``, and its bound."""

    horizon: np.ndarray
    average: np.ndarray
    last: np.ndarray
    bound: np.ndarray

    @property
    def slope(self) -> float:
        """Of the logarithm of the mean average exploitability against log T."""
        return float(log_log_slope(self.horizon, self.average.mean(axis=1)))


def exploitability_by_horizon(game: PreferenceGame, horizons: Iterable[int]) -> Rate:
    """Play exact rounds from the uniform policy, with η = √(8 log n/T) for each horizon T."""
    horizon, log_n = np.asarray(list(horizons)), np.log(game.n_responses)
    paths = [
        nash_path(
            game,
            method="sppo",
            iterations=int(t),
            record=int(t),
            step=float(np.sqrt(8 * log_n / t)),
        )
        for t in horizon
    ]
    return Rate(
        horizon,
        average=np.stack([to_numpy(path.average_exploitability[-1]) for path in paths]),
        last=np.stack([to_numpy(path.exploitability[-1]) for path in paths]),
        bound=np.sqrt(log_n / (2 * horizon)),
    )


class Likelihoods(NamedTuple):
    """What rounds did to each of B networks, every field ``(rounds, B)``.

    Mean changes of the log-likelihood of chosen and rejected responses in nats, and wins against
    the first policy.
    """

    chosen: np.ndarray
    rejected: np.ndarray
    wins: np.ndarray


def preferences_by_prompt(seed: int, networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features ``(X, F)`` of prompts and preferences ``(B, X, Y, Y)``.

    A reward linear in the features, and a bilinear part that makes cycles.
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((PROMPTS, FEATURES))
    reward, left, right = features @ (
        rng.standard_normal((3, networks, FEATURES, CHOICES)) / np.sqrt(FEATURES)
    )
    one_way = reward[..., :, None] + left[..., :, None] * right[..., None, :]
    return features, sigmoid(one_way - np.swapaxes(one_way, -1, -2))


def trained_on_own_samples(
    loss: Callable[..., Any],
    preference: np.ndarray,
    features: np.ndarray,
    *,
    step: float,
    iterations: int,
    seed: int,
) -> Likelihoods:
    """Train networks from equal starts on the best against the worst of their own samples."""
    import torch

    networks = [
        NetworkPolicy.mlp(features, CHOICES, hidden=(32,), seed=seed + i)
        for i in range(len(preference))
    ]
    parameters: list[Any] = [network.parameters for network in networks]
    start = networks[0].with_parameters(torch.stack(parameters))
    first = to_numpy(start.probs)
    rounds = self_play(
        start,
        loss,
        table_judge(preference),
        rounds=ROUNDS,
        n_samples=SAMPLES,
        draws=DRAWS,
        train=descent(step=step, iterations=iterations),
        seed=seed,
    )
    chosen, rejected, wins = [], [], []
    for played in rounds:
        after_chosen, after_rejected = map(to_numpy, played.pairs.log_probs(played.policy))
        chosen.append((after_chosen - played.pairs.old_chosen).mean(axis=-1))
        rejected.append((after_rejected - played.pairs.old_rejected).mean(axis=-1))
        now = to_numpy(played.policy.probs)
        wins.append(expected_preference(preference, now, first).mean(axis=-1))
    return Likelihoods(np.stack(chosen), np.stack(rejected), np.stack(wins))


def losses_and_steps() -> dict[str, tuple[Callable[..., Any], float]]:
    """Return each method's loss and gradient step.

    At the start of a round the gradients are 1/(4β), β/2 and 1/τ times the difference of two
    features (for a win rate of 3/4): the steps make up for that, so that all methods set out alike.
    DPO has a second entry with a twentieth of the step.
    """
    dpo = functools.partial(losses.dpo, beta=BETA)
    return {
        "SPPO": (functools.partial(losses.sppo, beta=BETA), 4 * BETA),
        "iterative DPO": (dpo, 2 / BETA),
        "iterative DPO, step/20": (dpo, 0.1 / BETA),
        "iterative IPO": (functools.partial(losses.ipo, tau=BETA), BETA),
    }
