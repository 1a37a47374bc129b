"""Instances that claims are checked on: sequences, laws of losses, learners, games."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from scipy.stats import linregress, t

from paper_repros.mdp.llm_regret.layers import Law
from paper_repros.mdp.llm_regret.sequences import (
    alternating,
    follow_the_leader,
    hedge_agent,
    total,
)
from prefsim.analysis.posteriors import grid_posterior
from prefsim.backend import to_numpy
from prefsim.loops.online_play import (
    Learner,
    OnlinePlay,
    most_likely_loses,
    play_against,
    play_online,
)
from prefsim.numerics import softmax
from prefsim.solvers.games.correlated import product_play
from prefsim.solvers.online_learning.ftpl import ftpl
from prefsim.solvers.online_learning.ftrl import ENTROPY, EUCLIDEAN, Regulariser, tsallis
from prefsim.solvers.online_learning.hedge import hedge, hedge_step
from prefsim.testing.bandits import tables

SEEDS = st.integers(0, 99_999)
KINDS = ("uniform", "binary", "alternating", "adaptive")


class Rounds(NamedTuple):
    """Drawn decisions and losses, ``(T, d)`` each."""

    decisions: np.ndarray
    losses: np.ndarray


def rounds_of(most: int = 8, actions: int = 4) -> st.SearchStrategy[Rounds]:
    """Draw distributions and losses in [−1, 1] of up to ``most`` rounds."""
    shapes = st.tuples(st.integers(1, most), st.integers(2, actions))

    def pair(shape: tuple[int, int]) -> st.SearchStrategy[Rounds]:
        logits = tables(shape, low=-3.0, high=3.0)
        return st.builds(Rounds, logits.map(softmax), tables(shape, low=-1.0, high=1.0))

    return shapes.flatmap(pair)


class Opponent(NamedTuple):
    """Losses in [0, 1] of one kind, some of which answer to what is played.

    Attributes
    ----------
    kind
        One of :data:`KINDS`.
    rounds, actions
        T and d.
    seed
        Of what is drawn.
    """

    kind: str
    rounds: int
    actions: int
    seed: int

    def play(self, learner: Learner) -> OnlinePlay:
        """Play a learner, ``(T, d)``."""
        if self.kind == "adaptive":
            shape = (self.actions,)
            return play_against(learner, most_likely_loses, rounds=self.rounds, shape=shape)
        return play_online(learner, self.losses())

    def losses(self) -> np.ndarray:
        """Return the losses of a kind that does not answer."""
        draws = np.random.default_rng(self.seed).random((self.rounds, self.actions))
        if self.kind == "uniform":
            return draws
        if self.kind == "binary":
            return (draws < 0.5).astype(float)
        # Actions beyond the second always lose.
        losses = np.ones_like(draws)
        losses[:, :2] = alternating(self.rounds)
        return losses


def opponents(
    kinds: tuple[str, ...] = KINDS, *, least: int = 10, most: int = 120, actions: int = 5
) -> st.SearchStrategy[Opponent]:
    return st.builds(
        Opponent,
        st.sampled_from(kinds),
        st.integers(least, most),
        st.integers(2, actions),
        SEEDS,
    )


FAILURES = opponents(("alternating", "adaptive"), least=60, most=90, actions=2)
"""Two actions, on which a leader is wrong in every round."""


# --- learners ---

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


def falling(regret: Any) -> Any:
    """Return what falls as the regret grows."""
    return np.exp(-2 * regret)


# --- laws of losses ---


def symmetric_law(seed: int) -> Law:
    """Return a law in which a loss is as likely as its negative."""
    rng = np.random.default_rng(seed)
    values, probs = rng.standard_normal((2, 2)), rng.dirichlet(np.ones(2))
    return Law(np.concatenate([values, -values]), np.concatenate([probs, probs]) / 2)


def skewed_law(seed: int) -> Law:
    """Return a law of mean zero in which it is not."""
    rng = np.random.default_rng(seed)
    values, probs = rng.standard_normal((4, 2)), rng.dirichlet(np.ones(4))
    return Law(values - probs @ values, probs)


def isotropic_law(value: np.ndarray) -> Law:
    """Return the law of a value in two coordinates under all signs and exchanges of these."""
    flips = np.array(list(itertools.product((1.0, -1.0), repeat=2)))
    return Law(np.concatenate([flips * value, flips * value[::-1]]), np.full(8, 1 / 8))


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


class Pretraining(NamedTuple):
    """Histories, worlds and labels, all enumerated.

    Attributes
    ----------
    chance
        Joint probabilities of histories and labels, ``(histories, d)``.
    predictor
        Log-probabilities of labels, ``(histories, d)``.
    """

    chance: np.ndarray
    predictor: np.ndarray


def pretraining(seed: int, label: Callable[[Any, Any], Any]) -> tuple[Pretraining, np.ndarray]:
    """Draw a finite world of means and noisy losses; return it and the posterior chances.

    The posterior chance is how likely each action is the best for the means, given the history.
    """
    rng = np.random.default_rng(seed)
    means = rng.random((4, 2))
    prior, chances = rng.dirichlet(np.ones(4)), means
    # Two rounds, losses 0 or 1 with chances that are the means.
    histories = np.array(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 2, 2)
    each = np.where(histories[None] == 1, chances[:, None, None, :], 1 - chances[:, None, None, :])
    joint = prior[:, None] * each.prod(axis=(-2, -1))
    best = np.eye(2)[means.argmin(axis=-1)]
    posterior = np.einsum("zh,za->ha", joint, best) / joint.sum(axis=0)[:, None]
    chosen = label(means[:, None, :], histories.sum(axis=1)[None])
    chance = np.einsum("zh,zha->ha", joint, np.eye(2)[np.broadcast_to(chosen, joint.shape)])
    logits = rng.standard_normal((len(histories), 2))
    return Pretraining(chance, np.log(softmax(logits))), posterior


def best_mean(means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Label with the action that is best for the means."""
    return np.argmin(means, axis=-1)


def best_seen(means: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Label with the action that was best in the history."""
    return np.argmin(seen, axis=-1)


# --- games ---


class Played(NamedTuple):
    """A game of two, and what both played in each of T rounds.

    Attributes
    ----------
    losses
        The tables of both, ``(m, n)`` each.
    decisions
        ``(T, m)`` and ``(T, n)``.
    """

    losses: tuple[np.ndarray, np.ndarray]
    decisions: tuple[np.ndarray, np.ndarray]

    def met(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what the actions of both would have lost, round by round."""
        (first, second), (x, y) = self.losses, self.decisions
        return y @ first.T, x @ second


def played_games(*, zero_sum: bool = False) -> st.SearchStrategy[Played]:
    def build(seed: int, rounds: int, m: int, n: int) -> Played:
        rng = np.random.default_rng(seed)
        first, second = rng.random((2, m, n))
        x, y = (softmax(2 * rng.standard_normal((rounds, k))) for k in (m, n))
        return Played((first, -first if zero_sum else second), (x, y))

    return st.builds(build, SEEDS, st.integers(2, 6), st.integers(2, 3), st.integers(2, 3))


def separately(decisions: Any) -> np.ndarray:
    """Return the product of what each player played on average."""
    return product_play([each.mean(axis=0) for each in decisions])
