"""Random games that Hedge plays with itself, and how far averages are from equilibria."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from paper_repros.mdp.llm_regret.sequences import hedge_agent
from prefsim.analysis import external_regret, swap_regret
from prefsim.loops.online_play import play_game
from prefsim.solvers.games.correlated import (
    averaged_play,
    coarse_correlated_gaps,
    correlated_gaps,
    product_play,
)

GAME_ROUNDS = 500


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
