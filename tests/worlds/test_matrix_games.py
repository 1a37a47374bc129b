"""Games as OpenSpiel has them, and what is not one of one move."""

import sys

import numpy as np
import pytest

from prefsim.loops.online_play import play_game
from prefsim.solvers import solve_nash
from prefsim.solvers.games.correlated import averaged_play, coarse_correlated_gaps
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, hedge_step
from prefsim.worlds import PreferenceGame
from prefsim.worlds.matrix_games import read_matrix_game

pyspiel = pytest.importorskip("pyspiel")

NAMES = [name for name in pyspiel.registered_names() if name.startswith("matrix_")]


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_of_the_game(name):
    game = pyspiel.load_matrix_game(name)
    row, column = read_matrix_game(name)
    np.testing.assert_array_equal(row, game.row_utilities())
    np.testing.assert_array_equal(column, game.col_utilities())
    np.testing.assert_array_equal(read_matrix_game(game)[0], row)


def test_three_players():
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(3, 2, 3, 4))
    game = pyspiel.create_tensor_game([t.ravel().tolist() for t in tables], (2, 3, 4))
    np.testing.assert_array_equal(np.stack(read_matrix_game(game)), tables)


def test_rock_paper_scissors_is_a_preference_game():
    row, _ = read_matrix_game("matrix_rps")
    found = solve_nash(PreferenceGame(0.5 + row / 2), method="lp")
    np.testing.assert_allclose(found.policy, np.full(3, 1 / 3), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_learners_come_to_coarse_correlated_play(name):
    losses = [-table for table in read_matrix_game(name)]
    width = max(float(np.ptp(table)) for table in losses)
    n, rounds = losses[0].shape[0], 200
    step = hedge_step(rounds=rounds, actions=n, width=width)

    def learner(past):
        return hedge(past.sum(axis=-2), step=step)

    played = play_game([learner, learner], losses, rounds=rounds)
    joint = averaged_play([each.decisions for each in played])
    gaps = coarse_correlated_gaps(losses, joint)
    assert np.max(gaps) <= hedge_bound(rounds=rounds, actions=n, width=width) / rounds + 1e-9


@pytest.mark.parametrize(
    ("game", "message"),
    [
        ("none_such", "OpenSpiel knows, such as .*matrix_rps.*, got 'none_such'"),
        ("kuhn_poker", "all players must move at once"),
        ("oshi_zumo", "over after one move of each"),
        (3, "a game of OpenSpiel or its name, got int"),
    ],
)
def test_what_is_no_game_of_one_move(game, message):
    with pytest.raises(ValueError, match=message):
        read_matrix_game(game)


def test_without_openspiel(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(ValueError, match=r"prefsim\[worlds\]"):
        read_matrix_game("matrix_rps")
