"""The algorithms, playing many worlds at once: only the loop over episodes is one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim.analysis import log_log_slope
from prefsim.data.episodes import losses_to_go, play_layers
from prefsim.numerics import softmax
from prefsim.papers import Run
from prefsim.solvers.bandit_feedback.bonuses import dilated_bonus, exploration_bonus
from prefsim.solvers.bandit_feedback.covariance import (
    empirical_inverse,
    feature_covariance,
    regularised_inverse,
)
from prefsim.solvers.bandit_feedback.estimates import (
    estimate_weights,
    reduced_estimate,
    standard_estimate,
)
from prefsim.solvers.online_learning.log_barrier import log_barrier, log_barrier_step
from prefsim.solvers.planning.layered import (
    check_linear_q,
    layered_occupancy,
    layered_optimum,
)
from prefsim.worlds import LinearMDP

LAYERS, STATES, ACTIONS, DIM = 3, 3, 3, 4
# Of the features: mixtures that are mostly of one law.
CONCENTRATION = 0.5
# The second table of losses comes every third episode.
PERIOD = 3
RATE, BONUS = 6.0, 0.02


class Worlds(NamedTuple):
    """Linear processes, and the two tables of losses between which the adversary changes.

    Attributes
    ----------
    process
        A batch of W processes.
    losses
        ``(2, W, H, S, A)`` in [0, 1].
    generators
        What each world draws its episodes from.
    """

    process: LinearMDP
    losses: np.ndarray
    generators: tuple[np.random.Generator, ...]

    @classmethod
    def draw(cls, seeds: Iterable[int]) -> Worlds:
        """Draw one world from each seed: features, laws of the next state, losses."""
        generators = tuple(map(np.random.default_rng, seeds))
        features, measures, weights = [], [], []
        for rng in generators:
            shape = (LAYERS, STATES, ACTIONS)
            features.append(rng.dirichlet(np.full(DIM, CONCENTRATION), shape))
            measures.append(rng.dirichlet(np.ones(STATES), (LAYERS, DIM))[:-1])
            weights.append(rng.random((2, LAYERS, DIM)))
        process = LinearMDP(np.stack(features), np.stack(measures))
        losses = np.asarray(process.losses(np.stack(weights, axis=1)))
        # Of any policy with a density one draw tells for all.
        policy = np.random.default_rng(0).dirichlet(np.ones(ACTIONS), (LAYERS, STATES))
        for table in losses:
            check_linear_q(process.transitions, table, process.features, policy)
        return cls(process, losses, generators)

    def total(self, episodes: int) -> np.ndarray:
        """Return the sum of all losses that a pair has in so many episodes, ``(W, H, S, A)``."""
        second = episodes // PERIOD
        return np.asarray((episodes - second) * self.losses[0] + second * self.losses[1])

    def best(self, episodes: int) -> np.ndarray:
        """Return the loss of the best policy of them all, ``(W,)``."""
        found = layered_optimum(self.process.transitions, self.total(episodes))
        return np.asarray(found.value[:, 0, 0])

    def regret_of(self, policy: np.ndarray, episodes: int) -> np.ndarray:
        """Return the regret ``(W,)`` of playing one policy throughout."""
        visits = layered_occupancy(self.process.transitions, policy, self.process.start_probs)
        suffered = (visits * self.total(episodes)).sum(axis=(-3, -2, -1))
        return np.asarray(suffered - self.best(episodes))


def leader_by_log_barrier(costs: np.ndarray, rate: float) -> np.ndarray:
    """Return the policy that follows the leader with the log-barrier."""
    return np.asarray(log_barrier_step(costs, step=rate).policy)


def leader_by_entropy(costs: np.ndarray, rate: float) -> np.ndarray:
    """Return the policy of exponential weights."""
    return softmax(-rate * costs)


class Method(NamedTuple):
    """How a policy follows from costs, whether estimates are reduced, and the rate's factor.

    The learning rate is ``6 sqrt(A ln K / (K d)) / H`` for the log-barrier, and
    ``6 sqrt(ln A / (K d)) / H`` for exponential weights.
    """

    leader: Callable[[np.ndarray, float], np.ndarray]
    reduced: bool

    def rate(self, episodes: int) -> float:
        """Return the learning rate for so many episodes."""
        barrier = self.leader is leader_by_log_barrier
        factor = ACTIONS * np.log(episodes) if barrier else np.log(ACTIONS)
        return RATE * float(np.sqrt(factor / (episodes * DIM))) / LAYERS


BARRIER, REDUCED, PLAIN = "log-barrier", "exponential, reduced", "exponential, plain"
METHODS = {
    BARRIER: Method(leader_by_log_barrier, reduced=False),
    REDUCED: Method(leader_by_entropy, reduced=True),
    PLAIN: Method(leader_by_entropy, reduced=False),
}
LEARNERS = (BARRIER, REDUCED)


class Played(NamedTuple):
    """What came of one method under G settings in W worlds.

    Attributes
    ----------
    regret
        Expected loss of the policies that were played less that of the best one, ``(G, W)``.
    smallest
        The least estimate that was seen, ``(G, W)``.
    costs, policy
        What the last policy was made of, and that policy, ``(G, W, H, S, A)``.
    """

    regret: np.ndarray
    smallest: np.ndarray
    costs: np.ndarray
    policy: np.ndarray


def play(
    worlds: Worlds,
    episodes: int,
    name: str,
    *,
    gamma: Any,
    strength: Any,
    rate: float | None = None,
    draws: int | None = None,
    progress: Callable[[Iterable[int], str], Iterable[int]] = lambda items, _: items,
) -> Played:
    """Play so many episodes with one method, in all worlds and settings at once.

    Every setting meets the same luck in a world.

    Parameters
    ----------
    worlds
        W of them; their generators are used up.
    episodes
        K.
    name
        Of one of ``METHODS``.
    gamma, strength
        γ > 0 and β >= 0, ``(G,)``.
    rate
        The learning rate η; that of the method unless given.
    draws
        From a simulator, in every layer and episode, of which the covariance is estimated; the
        exact one unless given.
    """
    method, process = METHODS[name], worlds.process
    rate = method.rate(episodes) if rate is None else rate
    gamma, strength = (np.asarray(each, dtype=float)[:, None, None] for each in (gamma, strength))
    moves, start = np.asarray(process.transitions), np.asarray(process.start_probs)
    features = np.asarray(process.pair_features)
    shape = (gamma.shape[0], *worlds.losses.shape[1:])
    costs, regret = np.zeros(shape), np.zeros(shape[:2])
    smallest, policy = np.zeros(shape[:2]), np.zeros(shape)
    luck = np.stack([rng.random((episodes, 2 * LAYERS)) for rng in worlds.generators], axis=1)
    simulator = worlds.generators[0]
    for k in progress(range(episodes), f"{name}, {episodes} episodes"):
        losses = worlds.losses[k % PERIOD // (PERIOD - 1)]
        policy = method.leader(costs, rate)
        visits = np.asarray(layered_occupancy(moves, policy, start))
        law = visits.reshape(*shape[:3], -1)
        if draws is None:
            inverse = regularised_inverse(feature_covariance(features, law), gamma=gamma)
        else:
            counts = simulator.multinomial(draws, law / law.sum(axis=-1, keepdims=True))
            inverse = empirical_inverse(features, counts, gamma=gamma)
        weights = estimate_weights(features, inverse)
        states, actions = play_layers(moves, policy, start, luck[k])
        met, suffered = states * ACTIONS + actions, losses_to_go(losses, states, actions)
        if method.reduced:
            estimate = reduced_estimate(weights, law, met, suffered, bound=float(LAYERS))
        else:
            estimate = standard_estimate(weights, met, suffered)
        bonus = exploration_bonus(weights, policy, strength=strength)
        costs = costs + estimate.reshape(shape) - dilated_bonus(moves, bonus, policy)
        regret += (visits * losses).sum(axis=(-3, -2, -1))
        smallest = np.minimum(smallest, estimate.min(axis=(-2, -1)))
    return Played(regret - worlds.best(episodes), smallest, costs, policy)


# --- all runs ---

WORLDS = 8
SMALL, LARGE = "γ = 1/K", "γ = 1/√K"
# Every setting by the power of K that γ is, and β times √K.
SETTINGS = {
    SMALL: (-1.0, BONUS),
    LARGE: (-0.5, BONUS),
    "no bonus": (-1.0, 0.0),
    "bonus times 15": (-1.0, 0.3),
    "bonus times 150": (-1.0, 3.0),
}
DRAWS = 100
FROM_DRAWS = f"covariance of {DRAWS} draws"


class Runs(NamedTuple):
    """What was played.

    Attributes
    ----------
    sizes
        Numbers of episodes.
    worlds
        The worlds of the longest runs.
    played
        By method and number of episodes, a row for every setting.
    uniform
        Regret of playing at random, by number of episodes.
    from_draws
        Of exponential weights with reduced estimates, where covariances are estimated.
    """

    sizes: tuple[int, ...]
    worlds: Worlds
    played: dict[tuple[str, int], Played]
    uniform: dict[int, float]
    from_draws: dict[int, float]

    def regret(self, method: str, setting: str) -> list[float]:
        """Return the mean regret, by number of episodes."""
        row = list(SETTINGS).index(setting)
        return [float(self.played[method, k].regret[row].mean()) for k in self.sizes]

    def error(self, method: str, setting: str) -> list[float]:
        """Return the standard errors of the same."""
        row = list(SETTINGS).index(setting)
        found = [self.played[method, k].regret[row] for k in self.sizes]
        return [float(each.std(ddof=1) / math.sqrt(each.size)) for each in found]

    def smallest(self, method: str, setting: str) -> list[float]:
        """Return the least estimate of any world, by number of episodes."""
        row = list(SETTINGS).index(setting)
        return [float(self.played[method, k].smallest[row].min()) for k in self.sizes]

    def share(self, method: str, setting: str) -> list[float]:
        """Return the regret as a share of that of playing at random."""
        found = zip(self.regret(method, setting), self.sizes, strict=True)
        return [each / self.uniform[k] for each, k in found]


def play_all(run: Run) -> Runs:
    """Play all methods, with every setting in one batch."""
    sizes = (200, 800) if run.quick else (500, 2000, 8000)
    seeds = range(WORLDS * run.seed, WORLDS * (run.seed + 1))
    powers, bonuses = np.array(list(SETTINGS.values())).T
    evenly = np.full((LAYERS, ACTIONS, ACTIONS), 1 / ACTIONS)
    played, uniform, from_draws = {}, {}, {}
    for episodes in sizes:
        gamma, strength = episodes**powers, bonuses / math.sqrt(episodes)
        for method in METHODS:
            worlds = Worlds.draw(seeds)
            options = {"gamma": gamma, "strength": strength, "progress": run.progress}
            played[method, episodes] = play(worlds, episodes, method, **options)
        uniform[episodes] = float(worlds.regret_of(evenly, episodes).mean())
        if episodes < sizes[-1]:
            options = {"gamma": gamma[:1], "strength": strength[:1], "draws": DRAWS}
            found = play(Worlds.draw(seeds), episodes, REDUCED, **options)
            from_draws[episodes] = float(found.regret.mean())
    return Runs(sizes, worlds, played, uniform, from_draws)


def miss_of_the_leader(runs: Runs) -> float:
    """Return how far the leader is from its optimality: F(y) − F(p) = D(y, p) for the best p."""
    k = runs.sizes[-1]
    rate, costs = METHODS[BARRIER].rate(k), runs.played[BARRIER, k].costs
    policy = leader_by_log_barrier(costs, rate)
    evenly = np.full_like(policy, 1 / ACTIONS)
    relative = costs - costs.min(axis=-1, keepdims=True)
    excess = rate * ((evenly - policy) * relative).sum(axis=-1)
    excess = excess + log_barrier(evenly) - log_barrier(policy)
    ratio = evenly / policy
    divergence = (ratio - 1 - np.log(ratio)).sum(axis=-1)
    return float((np.abs(excess - divergence) / (1 + divergence)).max())


def exponent(seed: int, sizes: tuple[int, ...], name: str, rate: float | None = None) -> float:
    """Return the exponent with which the mean regret of eight worlds grows, with γ = 1/K."""
    regrets = []
    for episodes in sizes:
        worlds = Worlds.draw(range(WORLDS * seed, WORLDS * (seed + 1)))
        strength = BONUS / math.sqrt(episodes)
        found = play(worlds, episodes, name, gamma=[1 / episodes], strength=[strength], rate=rate)
        regrets.append(found.regret.mean())
    return float(log_log_slope(sizes, regrets))
