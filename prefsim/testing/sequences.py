"""Hypothesis strategies for rounds of online play, for opponents that answer, and for games.

Examples
--------
>>> from hypothesis import given
>>> from prefsim.analysis import external_regret, swap_regret
>>> @given(rounds_of())
... def test_swap_regret_is_the_larger(rounds):
...     assert swap_regret(*rounds) >= external_regret(*rounds) - 1e-12
>>> test_swap_regret_is_the_larger()
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from prefsim.loops.online_play import (
    Learner,
    OnlinePlay,
    most_likely_loses,
    play_against,
    play_online,
)
from prefsim.numerics import softmax
from prefsim.testing.bandits import tables
from prefsim.worlds.loss_sequences import alternating

SEEDS = st.integers(0, 99_999)
KINDS = ("uniform", "binary", "alternating", "adaptive")

__all__ = ["KINDS", "Opponent", "Played", "Rounds", "opponents", "played_games", "rounds_of"]


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
    """Opponents of some kinds, with ``least`` to ``most`` rounds and 2 to ``actions`` actions."""
    return st.builds(
        Opponent,
        st.sampled_from(kinds),
        st.integers(least, most),
        st.integers(2, actions),
        SEEDS,
    )


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
    """Games of two players with uniform losses, and what both played in two to six rounds."""

    def build(seed: int, rounds: int, m: int, n: int) -> Played:
        rng = np.random.default_rng(seed)
        first, second = rng.random((2, m, n))
        x, y = (softmax(2 * rng.standard_normal((rounds, k))) for k in (m, n))
        return Played((first, -first if zero_sum else second), (x, y))

    return st.builds(build, SEEDS, st.integers(2, 6), st.integers(2, 3), st.integers(2, 3))
