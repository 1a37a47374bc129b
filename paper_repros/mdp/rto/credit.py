"""What becomes of both rewards without a critic: gradients, their noise, where they lead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from paper_repros.mdp.rto.token_worlds import (
    TokenWorld,
    drawn_worlds,
    next_tokens,
    sentence_rewards,
    sentence_values,
    token_rewards,
    token_values,
)
from prefsim.backend import to_numpy
from prefsim.divergences import total_variation
from prefsim.losses import log_ratio_rewards
from prefsim.policies import TokenTreePolicy
from prefsim.solvers.optimisers.token_policy_gradient import token_policy_gradient
from prefsim.solvers.planning import soft_backup

RESPONSE, TOKEN = "reward of the response", "reward of tokens"
REWARDS = (RESPONSE, TOKEN)
# Of gradient ascent: larger ones overshoot where λ is one.
STEP = 5.0
# Bound of the authors' release on log-ratios, in nats.
BOUND = 1.0


class Credit(NamedTuple):
    """Measures of worlds, one a column.

    Attributes
    ----------
    traces
        λ of the gradients.
    cosines
        With the true gradient, by reward ``(traces, worlds)``.
    apart
        Largest difference of the two gradients at λ = 1, relative to the largest entry.
    slope
        Of the objective along the true gradient, by differences, less the length of the gradient
        over that length.
    shares
        Of the way from the first policy to the optimum, in logits.
    noise
        Deviation of the gradient of one response at λ = 1, by reward ``(shares, worlds)``; without
        a critic and with the exact one.
    paths
        Total variation to the optimum along gradient ascent, by reward and λ ``(steps, worlds)``.
    lost
        What the objective lacks at the end of it.
    bounded
        Share of tokens whose log-ratio is bounded, and total variation to the optimum of the
        optimum of what is left.
    """

    traces: Sequence[float]
    cosines: dict[str, np.ndarray]
    apart: np.ndarray
    slope: np.ndarray
    shares: Sequence[float]
    noise: dict[tuple[str, bool], np.ndarray]
    paths: dict[tuple[str, float], np.ndarray]
    lost: dict[tuple[str, float], np.ndarray]
    bounded: tuple[np.ndarray, np.ndarray]


class Worlds(NamedTuple):
    """Worlds with a policy near each reference, and the optimum of each."""

    world: TokenWorld
    start: TokenTreePolicy
    optimum: TokenTreePolicy

    @classmethod
    def draw(cls, seeds: range) -> Worlds:
        """Draw a world of each seed."""
        world, start = drawn_worlds(seeds)
        return cls(world, start, world.optimum()[0])

    def pays(self, reward: str, policy: TokenTreePolicy) -> np.ndarray:
        """Return what a reward pays the tokens of a policy's responses, the penalty included."""
        if reward == RESPONSE:
            return sentence_rewards(self.world, policy)
        return token_rewards(self.world, policy, self.optimum)

    def distance(self, policy: TokenTreePolicy) -> np.ndarray:
        """Return the total variation of responses to the optimum, ``(worlds,)``."""
        return to_numpy(total_variation(policy.probs, self.optimum.probs))[..., 0]

    def gradient(self, reward: str, trace: float) -> np.ndarray:
        """Return the gradients of the first policies, ``(worlds, parameters)``."""
        paid = self.pays(reward, self.start)
        found = token_policy_gradient(self.start, paid, trace=trace).gradient
        return found.reshape(found.shape[0], -1)

    def slope(self, direction: np.ndarray, step: float = 1e-5) -> np.ndarray:
        """Return the slope of the objective at the first policies, ``(worlds,)``, by differences.

        Along a direction ``(worlds, parameters)``.
        """
        way = step * direction.reshape(self.start.logits.shape)
        up, down = (
            self.world.objective(TokenTreePolicy(self.start.tree, self.start.logits + each))
            for each in (way, -way)
        )
        return (up - down)[..., 0] / (2 * step)

    def deviation(self, reward: str, policy: TokenTreePolicy, exact: bool) -> np.ndarray:
        """Return how far the gradient of one response strays at λ = 1, ``(worlds,)``."""
        values = sentence_values if reward == RESPONSE else token_values
        critic = values(self.world, policy).value if exact else None
        paid = self.pays(reward, policy)
        variance = token_policy_gradient(policy, paid, critic, trace=1.0).variance[..., 0]
        return np.sqrt(np.maximum(variance, 0.0))

    def ascend(self, reward: str, trace: float, steps: int) -> tuple[TokenTreePolicy, np.ndarray]:
        """Return the end of gradient ascent without a critic, and the distances on the way."""
        policy, distances = self.start, []
        for _ in range(steps):
            distances.append(self.distance(policy))
            found = token_policy_gradient(policy, self.pays(reward, policy), trace=trace)
            policy = TokenTreePolicy(policy.tree, policy.logits + STEP * found.gradient)
        return policy, np.stack([*distances, self.distance(policy)])

    def bounded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the share of bounded tokens and how far that moves the optimum, ``(worlds,)``."""
        ratio = self.world.log_ratio(self.optimum)
        every = np.ones(ratio.shape, dtype=bool)
        left = log_ratio_rewards(
            next_tokens(self.optimum), self.world.log_reference, every, clip=BOUND
        )
        moved = soft_backup(self.world.reference, token_values=left).policy
        return (np.abs(ratio) > BOUND).mean(axis=(-3, -2, -1)), self.distance(moved)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of rows."""
    sizes = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.sum(first * second, axis=-1) / sizes


def measure(
    seeds: range,
    traces: Sequence[float],
    shares: Sequence[float],
    ascents: Sequence[tuple[str, float]],
    steps: int,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
) -> Credit:
    """Return what both rewards bring in a world of each seed; ``traces`` end with one."""
    worlds = Worlds.draw(seeds)
    gradients = {name: [worlds.gradient(name, trace) for trace in traces] for name in REWARDS}
    true = worlds.gradient(RESPONSE, 1.0)
    off = np.abs(gradients[TOKEN][-1] - true).max(axis=-1) / np.abs(true).max(axis=-1)
    length = np.linalg.norm(true, axis=-1)
    on_the_way = [
        TokenTreePolicy(
            worlds.start.tree,
            (1 - share) * next_tokens(worlds.start) + share * next_tokens(worlds.optimum),
        )
        for share in shares
    ]
    paths, lost = {}, {}
    best = worlds.world.objective(worlds.optimum)[..., 0]
    for reward, trace in progress(ascents, "ascents"):
        end, paths[reward, trace] = worlds.ascend(reward, trace, steps)
        lost[reward, trace] = best - worlds.world.objective(end)[..., 0]
    return Credit(
        traces,
        {
            name: np.stack([cosine(each, true) for each in found])
            for name, found in gradients.items()
        },
        off,
        worlds.slope(true / length[:, None]) / length - 1,
        shares,
        {
            (name, exact): np.stack([worlds.deviation(name, each, exact) for each in on_the_way])
            for name in REWARDS
            for exact in (False, True)
        },
        paths,
        lost,
        worlds.bounded(),
    )
