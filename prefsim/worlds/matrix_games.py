"""Games of one move each, read from OpenSpiel: what every player gains, as tables."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

__all__ = ["read_matrix_game"]

MOST_OUTCOMES = 1_000_000


def read_matrix_game(game: Any) -> tuple[np.ndarray, ...]:
    """Return what each player of a game gains, one table ``(n_1, …, n_m)`` for each of m players.

    Its negative is the table of losses that :func:`prefsim.loops.online_play.play_game` and the
    gaps of :mod:`prefsim.solvers.games.correlated` take. A symmetric game of two that sums to
    zero, with gains in [−½, ½], is ``PreferenceGame(gains[0] + 0.5)``.

    Parameters
    ----------
    game
        A game of OpenSpiel in which all players move once and at the same time, or the name of
        one, such as ``"matrix_rps"``. Needs the extra ``worlds``.

    Raises
    ------
    ValueError
        If OpenSpiel is not installed or knows no such game, moves are in turn or by chance, a play
        has more than one, or the tables would have more than a million entries.
    """
    try:
        import pyspiel
    except ImportError as error:
        raise ValueError("games are read from OpenSpiel: pip install 'prefsim[worlds]'") from error
    if isinstance(game, str):
        try:
            game = pyspiel.load_game(game)
        except pyspiel.SpielError as error:
            known = [name for name in pyspiel.registered_names() if name.startswith("matrix_")]
            raise ValueError(
                f"game must be one that OpenSpiel knows, such as {', '.join(known)}, got {game!r}"
            ) from error
    if not isinstance(game, pyspiel.Game):
        raise ValueError(f"game must be a game of OpenSpiel or its name, got {type(game).__name__}")
    start = game.new_initial_state()
    if not start.is_simultaneous_node():
        raise ValueError(f"{game}: all players must move at once, and here they do not")
    players = range(game.num_players())
    moves = [start.legal_actions(player) for player in players]
    sizes = [len(each) for each in moves]
    outcomes = int(np.prod(sizes, dtype=object))
    if outcomes > MOST_OUTCOMES:
        raise ValueError(f"{game}: {outcomes} outcomes are too many, at most {MOST_OUTCOMES}")
    gains = np.empty((game.num_players(), outcomes))
    for place, joint in enumerate(itertools.product(*moves)):
        state = start.clone()
        state.apply_actions(list(joint))
        if not state.is_terminal():
            raise ValueError(f"{game}: it must be over after one move of each, and goes on")
        gains[:, place] = state.returns()
    return tuple(table.reshape(sizes) for table in gains)
