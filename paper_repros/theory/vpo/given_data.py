"""Comparisons that are given: how far a policy falls short that trusts, doubts or hopes."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import categorical_kl, log_softmax, sigmoid
from prefsim.policies import TabularPolicy
from prefsim.solvers import calibrated_reward, calibrated_value, fit
from prefsim.solvers.games.optimism import optimistic_reward
from prefsim.solvers.games.pessimism import PessimisticGame, reward_misfit

RESPONSES = 10
BETA = 1.0
# Bounds the rewards that fit, to twice the width that the true ones have: where some response
# always won the likelihood has no maximum.
BOUND = 1.0


class Bandits(NamedTuple):
    """Worlds of one prompt, as the contexts of one: each ``(worlds, RESPONSES)``."""

    reference: TabularPolicy
    reward: np.ndarray

    def regret(self, log_policy: np.ndarray) -> np.ndarray:
        """Return J*(r*) − J(r*, π), which is β KL(π‖π_r*), of each world."""
        best = log_softmax(np.asarray(self.reference.log_probs) + self.reward / BETA)
        return BETA * np.asarray(categorical_kl(log_policy, best))


def drawn(rng: np.random.Generator, worlds: int) -> Bandits:
    """Return references with normal logits and rewards that are uniform on [0, 1]."""
    logits = rng.standard_normal((worlds, RESPONSES))
    return Bandits(TabularPolicy(logits), rng.random((worlds, RESPONSES)))


FIRST, SECOND = np.nonzero(~np.eye(RESPONSES, dtype=bool))


def as_comparisons(weight: np.ndarray) -> Comparisons:
    """Return data with weights ``(..., worlds, pairs)`` of all ordered pairs of each world."""
    worlds = weight.shape[-2]
    return Comparisons(
        np.repeat(np.arange(worlds), FIRST.size),
        np.tile(FIRST, worlds),
        np.tile(SECOND, worlds),
        weight=weight.reshape(*weight.shape[:-2], -1),
    )


def compared(bandits: Bandits, n: int, rng: np.random.Generator) -> Comparisons:
    """Draw n comparisons of different responses of the reference in each world."""
    law, reward = np.asarray(bandits.reference.probs), bandits.reward
    chance = law[:, FIRST] * law[:, SECOND] * sigmoid(reward[:, FIRST] - reward[:, SECOND])
    counts = rng.multinomial(n, chance / chance.sum(axis=-1, keepdims=True))
    return as_comparisons(counts / (n * len(counts)))


def weighed(
    bandits: Bandits, data: Comparisons, weight: float, base: np.ndarray
) -> PessimisticGame:
    """Return the game of data in which the value has a weight against the mean of the pairs."""
    return PessimisticGame(data, bandits.reference, base, beta=BETA, eta=weight, bound=BOUND)


def offline_gaps(
    bandits: Bandits, n: int, scales: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """Return what pessimism of weight c/√n on n comparisons leaves, ``(scales, worlds)``.

    The calibration policy is the reference.
    """
    data, base = compared(bandits, n, rng), np.asarray(bandits.reference.probs)
    games = [weighed(bandits, data, scale / np.sqrt(n), base) for scale in scales]
    return np.stack([bandits.regret(to_numpy(game.solve().log_policy)) for game in games])


class Hope(NamedTuple):
    """What is left after n comparisons, each ``(worlds,)``.

    Attributes
    ----------
    likelihood, weightless
        By maximum likelihood, and by the optimistic reward of weight 0, which is the same.
    optimistic
        By the optimistic reward of weight c/√n.
    """

    likelihood: np.ndarray
    weightless: np.ndarray
    optimistic: np.ndarray


def optimistic_gaps(bandits: Bandits, n: int, scale: float, rng: np.random.Generator) -> Hope:
    """Return what optimism on given data leaves, calibrated by the reference."""
    data, base = compared(bandits, n, rng), np.asarray(bandits.reference.probs)
    plain, weighted = (weighed(bandits, data, c / np.sqrt(n), base) for c in (0.0, scale))
    solved = (
        plain.solve(),
        optimistic_reward(plain, tolerance=1e-10),
        optimistic_reward(weighted, tolerance=1e-6),
    )
    return Hope(*(bandits.regret(to_numpy(found.log_policy)) for found in solved))


class Agreement(NamedTuple):
    """How far the minimiser of the loss is from the game with the shown responses as baseline.

    Attributes
    ----------
    of_policies
        Largest distance of a probability.
    of_values
        Largest distance of the least loss from the game's value, and from the misfit of its
        policy's calibrated reward plus the weighted value of that reward.
    """

    of_policies: float
    of_values: float


def two_ways(rng: np.random.Generator, worlds: int, n: int = 4000) -> Agreement:
    """Solve data sets by the loss of pairs and as a game.

    There are so many comparisons that no bound is needed.
    """
    bandits = drawn(rng, worlds)
    data, weight = compared(bandits, n, rng), n**-0.5
    game = weighed(bandits, data, weight, np.asarray(bandits.reference.probs))
    shown = (game.wins.sum(axis=-1) + game.wins.sum(axis=-2)) / 2
    base = shown / shown.sum(axis=-1, keepdims=True)
    free = PessimisticGame(data, bandits.reference, base, beta=BETA, eta=weight)
    played = free.solve()
    loss = functools.partial(losses.vpo, beta=BETA, alpha=weight, calibration="pair")
    fitted = fit(bandits.reference, loss, data, reference=bandits.reference)
    target, log_reference = np.exp(to_numpy(played.log_policy)), bandits.reference.log_probs
    reward = calibrated_reward(fitted.policy.log_probs, log_reference, base, beta=BETA)
    value = calibrated_value(reward, log_reference, base, beta=BETA)
    on_rewards = reward_misfit(reward, free.wins).sum() + weight * value.mean()
    return Agreement(
        of_policies=float(np.abs(np.asarray(fitted.policy.probs) - target).max()),
        of_values=float(
            np.abs(float(fitted.value) - np.array([float(played.value), float(on_rewards)])).max()
        ),
    )
