"""Games, policies and scores that the claims are tried on."""

from __future__ import annotations

import functools

import numpy as np
from hypothesis import strategies as st

from prefsim.backend import to_numpy
from prefsim.solvers.games.certificates import payoff
from prefsim.testing.games import Play, cyclic_games, plays
from prefsim.worlds import TEXTBOOK_REFERENCE, PreferenceGame, textbook_game

GAME, REFERENCE = to_numpy(textbook_game().preference), np.asarray(TEXTBOOK_REFERENCE)
LAST = np.array([0.4, 0.4, 0.2])
TEXTBOOK = Play(GAME, REFERENCE, policy=LAST, sampler=REFERENCE, tau=0.5, weight=1.0)

# Steps of a fifth to five: beyond, the loss has slopes too steep for an error of 1e-12.
calm_plays = functools.partial(plays, tau=(0.2, 1.0), weight=(0.2, 1.0), spread=1.0)


def next_policy(play: Play) -> np.ndarray:
    """Return the policy after an exact step, by its formula."""
    return np.exp(play.update("dno", np.log(play.policy)))


def weighted_pairs(*, parted: bool) -> st.SearchStrategy[np.ndarray]:
    """Weights of pairs among six responses; ``parted`` leaves the first one without a rival."""

    def build(seed: int) -> np.ndarray:
        weights = np.random.default_rng(seed).uniform(0.05, 1.0, (6, 6))
        if parted:
            weights[0, 1:] = weights[1:, 0] = 0.0
        return weights

    # Drawn one by one, 36 numbers take longer to make simple than the claim takes to check.
    return st.integers(0, 2**32 - 1).map(build)


def drawn_to_the_middle(game: PreferenceGame) -> PreferenceGame:
    """Return the game with all preferences nine tenths as far from ½: none is certain."""
    return PreferenceGame(0.5 + 0.9 * (to_numpy(game.preference) - 0.5))


def wins_differ(play: Play) -> bool:
    """Return whether responses win differently often against the policy."""
    return bool(np.ptp(payoff(play.preference, play.policy)) > 0.02)


CYCLIC = cyclic_games(max_n=5, least=0.1).map(drawn_to_the_middle)
TIED = st.integers(2, 5).map(lambda n: PreferenceGame(np.full((n, n), 0.5)))


SEEDS = st.integers(0, 10_000)


def textbook_or(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Return games and policies: the textbook, or drawn ones with 15 % for each response."""

    def build(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        policy = np.random.default_rng(seed).dirichlet(np.ones(n))
        game = PreferenceGame.random(n, seed=seed)
        return to_numpy(game.preference), (1 - 0.15 * n) * policy + 0.15

    return st.just((GAME, LAST)) | st.builds(build, sizes, SEEDS)


JUDGED = st.lists(
    st.lists(st.sampled_from([0.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0]), min_size=6, max_size=6),
    min_size=1,
    max_size=4,
).map(np.asarray)
