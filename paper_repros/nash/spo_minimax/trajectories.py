"""Preferences over trajectories: of a tree, with three ways to choose one, and of a cart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from paper_repros.nash.spo_minimax.hedge import average_without_samples
from prefsim.analysis import log_log_slope
from prefsim.analysis.voting import borda_scores
from prefsim.backend import to_numpy
from prefsim.loops import queue_win_rates, queued_self_play
from prefsim.numerics import sigmoid
from prefsim.papers import Run
from prefsim.policies import TokenTreePolicy
from prefsim.raters.general import sample_labels
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit_bradley_terry, nash_path
from prefsim.solvers.games.certificates import exploitability
from prefsim.solvers.planning.tree_backup import soft_backup
from prefsim.worlds import PreferenceGame, TokenTree

TREE = TokenTree(2, 3)
N = TREE.n_sequences
HORIZONS = (64, 256, 1024, 4096)
FLIPS = (0.0, 0.1, 0.3)
MAX_REWARD, NOISY, CYCLIC, LATE = (
    "max reward",
    "max reward, 30 % flips",
    "three rankings (intransitive)",
    "late steps only",
)
INTRANSITIVE = "intransitive"


def rewards_of_steps(seed: int) -> np.ndarray:
    """Return rewards ``(N, 3)`` of each trajectory: one normal number for each node and action."""
    table = np.random.default_rng(seed).standard_normal((TREE.n_nodes, TREE.vocabulary_size))
    return table[TREE.nodes, TREE.sequences]


def majorities(seed: int) -> np.ndarray:
    """Return the preferences ``(N, N)`` of three voters with random rankings."""
    rng = np.random.default_rng(seed)
    game = PreferenceGame.from_rankings([rng.permutation(N) for _ in range(3)])
    return to_numpy(game.preference)


def by_utility(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return sure preferences ``(..., m, n)`` for the larger of utilities, ½ for equal ones."""
    return np.asarray(0.5 * (1 + np.sign(first[..., :, None] - second[..., None, :])))


def family(name: str, seeds: range) -> np.ndarray:
    """Return preferences over trajectories ``(seeds, N, N)``."""
    if name == CYCLIC:
        return np.stack([majorities(seed) for seed in seeds])
    rewards = np.stack([rewards_of_steps(seed) for seed in seeds])
    # Neither the largest reward on the way nor what comes after half time is a sum of rewards of
    # states and actions.
    utility = rewards[..., 2] if name == LATE else rewards.max(axis=-1)
    table = by_utility(utility, utility)
    return to_numpy(flip_labels(table, FLIPS[-1])) if name == NOISY else table


def fitted_rewards(
    preference: np.ndarray, rng: np.random.Generator, *, pairs: int = 2000
) -> np.ndarray:
    """Return the rewards ``(games, N)`` of a model fitted to labels of uniform pairs."""
    upper = np.triu_indices(N, 1)
    counts = np.zeros_like(preference)
    for table, count in zip(preference, counts, strict=True):
        seen = rng.multinomial(pairs, np.full(len(upper[0]), 1 / len(upper[0])))
        won = rng.binomial(seen, table[upper])
        count[upper], count[upper[::-1]] = won, seen - won
    # Sure preferences have no maximum-likelihood reward without a penalty.
    return to_numpy(fit_bradley_terry(counts, ridge=1e-3).reward)


class Outcome(NamedTuple):
    """Exploitabilities in one family.

    Attributes
    ----------
    played, average
        Of SPO's average, ``(horizons, games)``: in the game that was played, and in the true one.
    borda, model
        Of the trajectory that Borda and a reward model choose, ``(games,)``, in the true game.
    win_rate_error
        Largest difference of the model's win rates against uniform others from Borda's scores.
    """

    played: np.ndarray
    average: np.ndarray
    borda: np.ndarray
    model: np.ndarray
    win_rate_error: float

    @property
    def slope(self) -> float:
        """Of the mean log-exploitability of the average against the log-horizon."""
        return float(log_log_slope(HORIZONS, self.average.mean(axis=1)))


def compare(preference: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> Outcome:
    """Learn from ``preference`` and measure in the game ``truth``."""
    paths = [nash_path(preference, method="spo", iterations=t, record=t) for t in HORIZONS]
    scores, rewards = borda_scores(preference), fitted_rewards(preference, rng)
    # Under uniform pairs the likeliest reward has the win rates that were seen.
    fitted = (sigmoid(rewards[:, :, None] - rewards[:, None, :]).sum(axis=-1) - 0.5) / (N - 1)
    return Outcome(
        np.stack([path.average_exploitability[-1] for path in paths]),
        np.stack([exploitability(truth, path.average_policy[-1]) for path in paths]),
        exploitability(truth, np.eye(N)[scores.argmax(axis=-1)]),
        exploitability(truth, np.eye(N)[rewards.argmax(axis=-1)]),
        float(np.abs(fitted - scores).max()),
    )


def queue_win_rates_of_all(
    preference: np.ndarray, rng: np.random.Generator, *, queues: int = 4000
) -> np.ndarray:
    """Return the mean win rate ``(N,)`` of each trajectory in queues of ten uniform ones."""
    members = rng.integers(N, size=(queues, 10))
    rates = queue_win_rates(preference, members)
    is_it = members[..., None] == np.arange(N)
    return np.asarray((rates[..., None] * is_it).sum(axis=(0, 1)) / is_it.sum(axis=(0, 1)))


def uniform_policies(n_games: int) -> TokenTreePolicy:
    """Return one uniform policy on the tree for each game."""
    return TokenTreePolicy(TREE, np.zeros((n_games, 1, TREE.n_nodes, TREE.vocabulary_size)))


def backup_error(preference: np.ndarray, iterations: int) -> float:
    """Return how far Hedge by backups of the tree ends from Hedge over trajectories."""
    step = math.sqrt(8 * math.log(N) / iterations)
    policy = uniform_policies(len(preference))
    for _ in range(iterations):
        wins = preference @ to_numpy(policy.probs)[..., 0, :, None]
        policy = soft_backup(policy, step * np.swapaxes(wins, -1, -2)).policy
    flat = nash_path(preference, method="spo", step=step, iterations=iterations, record=iterations)
    return float(np.abs(to_numpy(policy.probs)[..., 0, :] - flat.policy[-1]).max())


class Sampled(NamedTuple):
    """SPO on samples, means over games, ``(K,)`` each.

    Attributes
    ----------
    comparisons
        How often the rater was asked.
    exploited
        Exploitability of the mean policy, by world.
    exactly
        That of the mean of as many exact policy gradients, by world: numbers.
    best
        Its chance to pick a best trajectory, by world with a best one.
    """

    comparisons: np.ndarray
    exploited: dict[str, np.ndarray]
    exactly: dict[str, float]
    best: dict[str, np.ndarray]


def play_on_samples(seeds: range, iterations: int, run: Run) -> Sampled:
    """Run SPO with a queue and the policy gradient, with flipped labels and without a best."""
    truth, cyclic = family(MAX_REWARD, seeds), family(CYCLIC, seeds)
    wins_all = np.min(truth, axis=-1) >= 0.5 - 1e-12
    worlds = {
        f"{100 * rate:.0f} % flips": (to_numpy(flip_labels(truth, rate)), truth) for rate in FLIPS
    }
    worlds[INTRANSITIVE] = cyclic, cyclic
    exploited, exactly, best = {}, {}, {}
    for name, (asked, real) in run.progress(list(worlds.items()), "sampled self-play"):
        played = queued_self_play(
            uniform_policies(len(seeds)),
            asked,
            step=1.0,
            iterations=iterations,
            record=max(1, iterations // 20),
            seed=run.seed,
        )
        exploited[name] = exploitability(real, played.average).mean(axis=1)
        average = average_without_samples(
            uniform_policies(len(seeds)), asked, step=1.0, iterations=iterations
        )
        exactly[name] = float(exploitability(real, average).mean())
        if name != INTRANSITIVE:
            best[name] = (played.average * wins_all).sum(axis=-1).mean(axis=1)
    return Sampled(played.comparisons, exploited, exactly, best)


# --- trajectories of a cart ---


class Behaviour(NamedTuple):
    """What raters see of trajectories: numbers of any one shape.

    Attributes
    ----------
    upright
        Share of the steps before the pole falls or the cart leaves its track.
    position, speed
        Means over these steps of the cart's position and of its speed, in m and m/s.
    reach
        How far it ever came from the middle, in m, to the side to which it came less far.
    """

    upright: np.ndarray
    position: np.ndarray
    speed: np.ndarray
    reach: np.ndarray

    def at(self, where: Any) -> Behaviour:
        """Return that of some of the trajectories."""
        return Behaviour(*(part[where] for part in self))


# Where three groups of raters want the cart, and how fast: left, right, and to and fro.
WANTED = ((-0.6, 0.2), (0.6, 0.2), (0.0, 0.9))


def upright(seen: Behaviour) -> np.ndarray:
    """Return the environment's own return, the steps until the fall."""
    return seen.upright[None]


def as_groups_want(seen: Behaviour) -> np.ndarray:
    """Return three utilities ``(3, ...)``, no two groups of one mind."""
    away = [np.hypot(seen.position - x, seen.speed - v) for x, v in WANTED]
    return -np.stack(away) - 2 * (1 - seen.upright)


def to_both_sides(seen: Behaviour) -> np.ndarray:
    """Return a utility that is no sum over states: where the cart has been decides what to do."""
    return (seen.upright + seen.reach)[None]


class Raters(NamedTuple):
    """Raters of one family, of whom a random one answers.

    Attributes
    ----------
    utility
        Function of behaviour ``(...)`` that returns utilities ``(raters, ...)``.
    flips
        Chance that an answer is flipped.
    """

    utility: Callable[[Behaviour], np.ndarray]
    flips: float

    def preference(self, first: Behaviour, second: Behaviour) -> np.ndarray:
        """Return true preferences ``(..., m, n)`` of ``(..., m)`` over ``(..., n)``."""
        table = by_utility(self.utility(first), self.utility(second))
        return np.asarray(table.mean(axis=0))

    def answers(self, seen: Behaviour, rng: np.random.Generator) -> np.ndarray:
        """Return 0 or 1 for each pair of a queue ``(..., B, B)``, ½ for each with itself."""
        asked = flip_labels(self.preference(seen, seen), self.flips)
        first = np.triu(sample_labels(asked, seed=rng), 1).astype(float)
        again = np.tril(1 - np.swapaxes(first, -1, -2), -1)
        return np.asarray(first + again + 0.5 * np.eye(seen.upright.shape[-1]))


RETURN, FLIPPED, GROUPS, SIDES = (
    "CartPole: steps upright",
    f"CartPole: steps upright, {100 * FLIPS[-1]:.0f} % flips",
    "CartPole: three groups (intransitive)",
    "CartPole: both sides (non-Markovian)",
)
ANSWERS = {
    RETURN: Raters(upright, 0.0),
    FLIPPED: Raters(upright, FLIPS[-1]),
    GROUPS: Raters(as_groups_want, 0.0),
    SIDES: Raters(to_both_sides, 0.0),
}
