"""The agents, what is measured of them, and what they are made of: noise, steps, evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.stats import linregress, t

from prefsim.analysis import (
    dynamic_regret,
    external_regret,
    regret_regression_test,
    regret_trend_test,
    swap_regret,
)
from prefsim.analysis.posteriors import grid_posterior
from prefsim.backend import to_numpy
from prefsim.loops.online_play import (
    Learner,
    OnlinePlay,
    most_likely_loses,
    play_against,
    play_game,
    play_online,
)
from prefsim.losses.online import regret_path
from prefsim.numerics import softmax
from prefsim.solvers.games.correlated import (
    averaged_play,
    coarse_correlated_gaps,
    correlated_gaps,
    product_play,
)
from prefsim.solvers.online_learning.ftpl import ftpl, posterior_scale
from prefsim.solvers.online_learning.ftrl import ENTROPY, EUCLIDEAN, Regulariser, tsallis
from prefsim.solvers.online_learning.hedge import hedge, hedge_step
from prefsim.testing.bandits import tables
from prefsim.testing.sequences import Opponent, opponents
from prefsim.worlds.loss_sequences import FAMILIES, alternating

# Temperatures of the two agents that are not no-regret.
QUANTAL, RECENCY = 0.3, 0.1
ADAPTIVE = "adaptive"
NAMES = (*FAMILIES, ADAPTIVE)
GAME_ROUNDS = 500

FAILURES = opponents(("alternating", "adaptive"), least=60, most=90, actions=2)
"""Two actions, on which a leader is wrong in every round."""

# --- agents: from the losses before, (..., t, d), to what is played next, (..., d) ---


def total(history: np.ndarray) -> np.ndarray:
    """Return the cumulative losses ``(..., d)``: as a product ten times as fast as a sum."""
    return np.asarray(np.ones(history.shape[-2]) @ history)


def _uniform_at_first(history: np.ndarray, later: Callable[[], Any]) -> Any:
    d = history.shape[-1]
    return np.full((*history.shape[:-2], d), 1.0 / d) if history.shape[-2] == 0 else later()


def follow_the_leader(history: np.ndarray, *, first: str = "uniform") -> Any:
    """Play the best action so far, the first of several; in the first round all or that one."""

    def leader() -> np.ndarray:
        best = np.argmin(total(history), axis=-1)
        return (np.arange(history.shape[-1]) == best[..., None]).astype(float)

    return leader() if first == "leader" else _uniform_at_first(history, leader)


def hedge_agent(history: np.ndarray, *, rounds: int) -> Any:
    """Play Hedge with the step of the bound."""
    return hedge(total(history), step=hedge_step(rounds, history.shape[-1]))


def growing_scale(history: np.ndarray, noise: float = 1.0) -> float:
    """Return the scale √t of the round that is played next, as of a posterior with unit prior."""
    return float(posterior_scale(history.shape[-2], prior=noise, noise=noise))


def ftpl_agent(history: np.ndarray) -> Any:
    """Follow the leader perturbed by Gaussian noise of scale √t."""
    return ftpl(total(history), scale=growing_scale(history), noise="gaussian")


def quantal_agent(history: np.ndarray) -> Any:
    """Respond to the sum of losses with noise that does not grow."""
    return ftpl(total(history), scale=QUANTAL)


def recency_agent(history: np.ndarray) -> Any:
    """Respond to the last round alone."""
    return _uniform_at_first(history, lambda: softmax(-history[..., -1, :] / RECENCY))


def agents(rounds: int) -> dict[str, Learner]:
    """Return the agents by name."""
    return {
        "FTL": follow_the_leader,
        "Hedge": partial(hedge_agent, rounds=rounds),
        "FTPL": ftpl_agent,
        "quantal": quantal_agent,
        "recency": recency_agent,
    }


def play_all(learner: Learner, losses: np.ndarray) -> OnlinePlay:
    """Play a learner on drawn losses ``(families, n, T, d)`` and against the adaptive adversary.

    Decisions and losses have the families of :data:`NAMES`.
    """
    fixed = play_online(learner, losses)
    _, _, rounds, d = losses.shape
    # The adversary draws nothing: all of its runs are one.
    answered = play_against(learner, most_likely_loses, rounds=rounds, shape=(1, 1, d))
    wide = [np.broadcast_to(each, (1, *losses.shape[1:])) for each in answered]
    return OnlinePlay(*(np.concatenate(pair) for pair in zip(fixed, wide, strict=True)))


def bandit_step(rounds: int, actions: int) -> float:
    """Return √(2 ln d/(Td)), with which the expected regret is at most √(2Td ln d)."""
    return math.sqrt(2 * math.log(actions) / (rounds * actions))


def bandit_bound(rounds: int, actions: int) -> float:
    return math.sqrt(2 * rounds * actions * math.log(actions))


# --- what is measured ---


class Measured(NamedTuple):
    """Regrets of one agent, by family and run.

    Attributes
    ----------
    path
        After every round, ``(families, runs, T)``.
    dynamic
        ``(families, runs)``.
    trend, regression
        P-values of the two tests, ``(families, runs)``.
    slope
        Of the regression, ``(families, runs)``.
    """

    path: np.ndarray
    dynamic: np.ndarray
    trend: np.ndarray
    regression: np.ndarray
    slope: np.ndarray

    def passed(self, family: str) -> tuple[float, float]:
        """Return the shares of runs of a family that pass the two tests at .05."""
        place = NAMES.index(family)
        trend, regression = (p[place] < 0.05 for p in (self.trend, self.regression))
        return float(np.mean(trend)), float(np.mean(regression))

    def regret(self, family: str) -> np.ndarray:
        """Return the regrets of a family, ``(runs,)``."""
        return self.path[NAMES.index(family), :, -1]


def measure(play: OnlinePlay) -> Measured:
    path = regret_path(*play)
    regression = regret_regression_test(path)
    return Measured(
        path,
        dynamic_regret(*play),
        regret_trend_test(path).p_value,
        regression.p_value,
        regression.slope,
    )


class Gaps(NamedTuple):
    """What is gained by leaving averages of play, one number for each game.

    Attributes
    ----------
    coarse, correlated
        Largest gain of a player by one fixed action, and by another in the place of each.
    external, swap
        Largest external and swap regret of a player, over the rounds.
    nash
        In the games of sum zero, what both gain by leaving their average policies.
    """

    coarse: np.ndarray
    correlated: np.ndarray
    external: np.ndarray
    swap: np.ndarray
    nash: np.ndarray


def self_play(games: int, actions: int, rounds: int, rng: np.random.Generator) -> Gaps:
    """Play Hedge against itself in games with uniform losses, and in as many of sum zero."""
    first, second = rng.random((2, games, actions, actions))
    # Losses of −ℓ lie in an interval of the same length.
    tables = [np.concatenate(pair) for pair in ((first, first), (second, -first))]
    learner = partial(hedge_agent, rounds=rounds)
    plays = play_game([learner, learner], tables, rounds=rounds)
    joint = averaged_play([play.decisions for play in plays])
    separate = product_play([play.decisions.mean(axis=-2) for play in plays])
    return Gaps(
        coarse_correlated_gaps(tables, joint).max(axis=-1)[:games],
        correlated_gaps(tables, joint).max(axis=-1)[:games],
        np.max([external_regret(*play) for play in plays], axis=0)[:games] / rounds,
        np.max([swap_regret(*play) for play in plays], axis=0)[:games] / rounds,
        coarse_correlated_gaps(tables, separate).sum(axis=-1)[games:],
    )


def separately(decisions: Any) -> np.ndarray:
    """Return the product of what each player played on average."""
    return product_play([each.mean(axis=0) for each in decisions])


# --- learners that claims are about ---

REGULARISERS = (ENTROPY, EUCLIDEAN, ENTROPY._replace(exact=None), tsallis(0.5), tsallis(2.0))


def slopes(regulariser: Regulariser, policy: np.ndarray) -> np.ndarray:
    """Return the gradient of a regulariser at a distribution."""
    return np.array([regulariser.slope(float(p)) for p in np.maximum(policy, 1e-300)])


def hedge_of(opponent: Opponent, share: float) -> Learner:
    """Return Hedge with a share of the step of the bound."""
    step = share * hedge_step(opponent.rounds, opponent.actions)
    return lambda past: hedge(total(past), step=step)


def perturbed_leader(growth: float, noise: str, scale: float = 1.0) -> Learner:
    """Return the leader with noise of a scale that grows as a power of the round."""

    def learner(past: np.ndarray) -> Any:
        now = scale * float(past.shape[-2] + 1) ** growth
        return ftpl(total(past), scale=now, noise=noise)

    return learner


def on_alternating(rounds: int, order: int | None) -> tuple[OnlinePlay, OnlinePlay]:
    """Play the leader, and Hedge, on alternating losses, or on these in a random order."""
    losses = alternating(rounds)
    if order is not None:
        losses = np.random.default_rng(order).permutation(losses)
    leader = play_online(partial(follow_the_leader, first="leader"), losses)
    return leader, play_online(partial(hedge_agent, rounds=rounds), losses)


def answered(opponent: Opponent, *, answers: bool) -> OnlinePlay:
    """Play drawn decisions against losses that answer to them, or against small ones that stay."""
    rng = np.random.default_rng(opponent.seed)
    plan = softmax(2 * rng.standard_normal((opponent.rounds, opponent.actions)))

    def staying(past: np.ndarray, decision: np.ndarray) -> np.ndarray:
        return most_likely_loses(past, plan[0]) * 0.1 / opponent.actions

    return play_against(
        lambda past: plan[past.shape[-2]],
        most_likely_loses if answers else staying,
        rounds=opponent.rounds,
        shape=(opponent.actions,),
    )


def noisy_and_hedge(rounds: int, temperature: float, growth: float) -> list[OnlinePlay]:
    """Play noisy choice, and Hedge, against losses of 1 on the most likely of two actions."""
    learners = perturbed_leader(growth, "gumbel", temperature), partial(hedge_agent, rounds=rounds)
    return [
        play_against(learner, most_likely_loses, rounds=rounds, shape=(2,)) for learner in learners
    ]


def gain(step: float) -> float:
    """Return σ(η) − ½: what exponential weights of losses 0 and 1 gain over a coin."""
    return 1.0 / (1.0 + math.exp(-step)) - 0.5


def line_of(path: np.ndarray) -> tuple[float, float]:
    """Return slope and one-sided p-value of log regret on log time, of scipy's regression."""
    found = linregress(np.log(np.arange(1, path.size + 1)), np.log(path))
    return found.slope, t.cdf((found.slope - 1) / found.stderr, path.size - 2)


def binomial_tail(draws: int, least: int) -> float:
    """Return the chance of so many heads or more of a fair coin."""
    return sum(math.comb(draws, s) for s in range(least, draws + 1)) / 2**draws


def squared(regret: Any) -> Any:
    """Return the square of a regret that is positive."""
    return (regret > 0) * regret**2


def rising(regret: Any) -> Any:
    """Return what rises with the regret, also where that is negative."""
    return np.exp(regret / 2)


def weighted(each: np.ndarray, regrets: np.ndarray, k: float, weighting: str) -> float:
    """Return the mean of ``(N,)`` by weights e^(kR), or max(R, 0)^k where a regret is positive."""
    if weighting == "power" and not (regrets > 0).any():
        return float(each.mean())
    base = np.exp(regrets) if weighting == "exp" else np.maximum(regrets / regrets.max(), 0.0)
    return float(base**k @ each / (base**k).sum())


def falling(regret: Any) -> Any:
    """Return what falls as the regret grows."""
    return np.exp(-2 * regret)


# --- means of losses, and what people do who have seen some ---


class Evidence(NamedTuple):
    """Losses seen of actions with unknown means.

    Attributes
    ----------
    losses
        ``(t, d)``.
    prior, noise
        Standard deviations of the means around zero, and of losses around their means.
    """

    losses: np.ndarray
    prior: float
    noise: float


def evidence() -> st.SearchStrategy[Evidence]:
    shapes = st.tuples(st.integers(1, 4), st.integers(2, 4))
    losses = shapes.flatmap(lambda shape: tables(shape, low=-3.0, high=3.0))
    return st.builds(Evidence, losses, st.floats(0.7, 2.0), st.floats(0.7, 2.0))


def gaussian_tail(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of a normal density, up to a constant."""
    return -0.5 * x**2


def student_tail(x: np.ndarray) -> np.ndarray:
    """Return the logarithm of Student's density with two degrees of freedom, up to a constant."""
    return -1.5 * np.log1p(x**2 / 2)


GRID = np.linspace(-14.0, 14.0, 6001)


def chance_to_be_best(given: Evidence, tail: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return how likely each action has the least mean under its posterior on a grid, ``(d,)``."""
    apart = (given.losses.T[:, :, None] - GRID) / given.noise
    prior = -0.5 * (GRID / given.prior) ** 2
    prior = prior - np.log(np.exp(prior).sum())
    found = np.exp(to_numpy(grid_posterior(prior, tail(apart).sum(axis=1)).log_prob))
    # As much of a point is above itself as below.
    above = 1.0 - found.cumsum(axis=-1) + 0.5 * found
    others = [np.delete(above, a, axis=0).prod(axis=0) for a in range(len(found))]
    return np.asarray((found * np.array(others)).sum(axis=-1))
