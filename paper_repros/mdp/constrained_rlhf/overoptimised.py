"""Responses on a line, two rewards that are good proxies up to a point, and the gold they miss."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis.proxy_points import ProxyPoint, RewardPath, proxy_point, reward_path
from prefsim.losses.multipliers import saturated
from prefsim.numerics import log_softmax
from prefsim.solvers.closed_forms.constrained import ConstrainedOptimum, constrained_optimum
from prefsim.solvers.closed_forms.regularised import optimal_policy
from prefsim.solvers.closed_forms.separation import separating_direction
from prefsim.solvers.threshold_search import ThresholdSearch, search_thresholds

RESPONSES = np.linspace(-3.0, 3.0, 400)
STRONGEST, STEPS = 6.0, 1201  # of the path: weights (c, c)/2 for c in [0, 6]
MIXINGS = (0.0, 0.5, 0.9)


class World(NamedTuple):
    """Rewards ``(..., 2, 1, Y)``, reference ``(1, Y)`` in nats, and gold ``(..., 1, Y)``."""

    rewards: np.ndarray
    log_reference: np.ndarray
    gold: np.ndarray

    @classmethod
    def of(cls, mixing: Any, peak: Any = 0.8, frequency: Any = 2.0) -> World:
        """Return worlds in which the second reward shares ``mixing`` of the first.

        The first is the place y itself, the second ρy + √(1 − ρ²) sin(fy), gold −(y − peak)², and
        the reference a Gaussian around zero.
        """
        rho, peak, frequency = (np.asarray(each)[..., None] for each in (mixing, peak, frequency))
        second = rho * RESPONSES + np.sqrt(1 - rho**2) * np.sin(frequency * RESPONSES)
        first = np.broadcast_to(RESPONSES, second.shape)
        return cls(
            np.stack([first, second], axis=-2)[..., None, :],
            log_softmax(-(RESPONSES**2) / 2)[None],
            -((RESPONSES - peak) ** 2)[..., None, :],
        )

    @classmethod
    def draw(cls, n: int, rng: np.random.Generator) -> World:
        """Return worlds near the textbook ones, whose rewards share a third or more."""
        return cls.of(
            rng.uniform(0.3, 0.9, n), rng.uniform(0.6, 1.0, n), rng.uniform(1.75, 2.25, n)
        )

    @classmethod
    def family(cls, rng: np.random.Generator, aligned: bool = False) -> World:
        """Return three worlds that differ in what the rewards share: .3, .6 and .9 of it.

        Aligned, their gold is the mean of the rewards.
        """
        found = cls.of([0.3, 0.6, 0.9], [rng.uniform(0.6, 1.0)] * 3, [rng.uniform(1.75, 2.25)] * 3)
        return found._replace(gold=found.rewards.mean(axis=-3)) if aligned else found

    def first(self) -> World:
        """Return the first of the worlds."""
        return self._replace(rewards=self.rewards[0], gold=self.gold[0])

    def gold_of(self, log_policy: Any) -> np.ndarray:
        """Return the expected gold of policies ``(..., 1, Y)``."""
        return np.sum(np.exp(log_policy) * self.gold, axis=(-2, -1))

    def correlation(self) -> np.ndarray:
        """Return the correlation of the two rewards among responses of the reference."""
        shares = np.exp(self.log_reference[0])
        centred = self.rewards[..., 0, :] - np.sum(shares * self.rewards, axis=-1)
        covariance = np.einsum("y,...iy,...jy->...ij", shares, centred, centred)
        scale = np.sqrt(np.einsum("...ii->...i", covariance))
        return covariance[..., 0, 1] / scale[..., 0] / scale[..., 1]


def path_of(
    world: World, direction: tuple[float, float] = (0.5, 0.5), steps: int = STEPS
) -> RewardPath:
    """Return the optima along a direction of weights, that of both rewards unless given."""
    weights = np.linspace(0.0, STRONGEST, steps)[:, None] * np.asarray(direction)
    return reward_path(world.rewards, world.log_reference, weights, beta=1.0)


def point_of(
    world: World, direction: tuple[float, float] = (0.5, 0.5), steps: int = STEPS
) -> ProxyPoint:
    """Return the proxy point on the path along a direction, the joint one unless given."""
    return proxy_point(path_of(world, direction, steps), world.gold)


def constrained(world: World, thresholds: Any, **options: Any) -> ConstrainedOptimum:
    """Return the best policies of a world under thresholds, at β = 1."""
    return constrained_optimum(
        world.rewards, world.log_reference, thresholds, **({"beta": 1.0} | options)
    )


def unconstrained_gold(world: World, *, thresholds: Any = None) -> np.ndarray:
    """Return the gold of the strongest fixed weights, of saturating rewards if thresholds."""
    rewards = world.rewards
    if thresholds is not None:
        rewards = saturated(rewards, thresholds[..., None, None])
    total = STRONGEST / 2 * rewards.sum(axis=-3)
    reference = np.broadcast_to(np.exp(world.log_reference), total.shape)
    policy = optimal_policy(total, reference, beta=1.0)
    return np.sum(policy * world.gold, axis=(-2, -1))


def searched(world: World, start: Any, **options: Any) -> ThresholdSearch:
    """Return the thresholds that a simplex search finds in one world, each trial solved exactly."""
    least = float(world.gold.min())

    def score(thresholds: np.ndarray) -> float:
        found = constrained(world, thresholds, sense="equal", infeasible="report", tolerance=1e-7)
        if found.feasible:
            return float(world.gold_of(found.log_policy))
        # Worse than the worst response, the more so the farther out of reach.
        apart = separating_direction(world.rewards, world.log_reference, thresholds, sense="equal")
        return least - float(apart.margin)

    return search_thresholds(score, start, **options)
