"""Elections, the distance of their equilibria from a winner, and rewards fitted to them."""

import numpy as np
import pytest
from hypothesis import given

from prefsim.analysis.elections import bradley_terry_winner, distance_from_winner, elect
from prefsim.solvers import fit_bradley_terry
from prefsim.testing.games import cyclic_games, games_near, transitive_games
from prefsim.worlds import PreferenceGame, synthetic_ballots, textbook_game

CYCLE = np.array([[0.5, 0.9, 0.35], [0.1, 0.5, 0.9], [0.65, 0.1, 0.5]])
SAMPLING = ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8))


def test_an_election_from_a_file():
    election = elect(synthetic_ballots())
    assert election.condorcet_winner == -1
    assert election.is_mixed and election.respects_majorities
    assert election.exploitability < 1e-12
    np.testing.assert_allclose(election.equilibrium.sum(), 1.0, rtol=1e-14)
    row = election.row()
    assert list(row) == ["ballots", "voters", "Condorcet winner", "equilibrium"]
    assert row["voters"] == election.game.ballots.n_voters
    assert election.labels[0] == "Concise answer"


def test_a_game_with_a_condorcet_winner():
    game = PreferenceGame.from_rankings([[0, 1, 2], [0, 2, 1], [2, 1, 0]], labels=("a", "b", "c"))
    election = elect(game)
    assert election.row() == {"Condorcet winner": "a", "equilibrium": "a 1.000"}
    assert not election.is_mixed and election.respects_majorities
    wrong = election._replace(equilibrium=np.array([0.0, 1.0, 0.0]))
    assert not wrong.respects_majorities
    assert election._replace(equilibrium=np.array([0.5, 0.5, 0.0])).is_mixed


def test_an_election_is_one_game():
    with pytest.raises(ValueError, match=r"single game, got a batch of shape \(2,\)"):
        elect(PreferenceGame.random(3, seed=0, batch_shape=(2,)))


@given(transitive_games(gap=0.05))
def test_the_equilibrium_is_the_condorcet_winner(game):
    assert distance_from_winner(game, int(game.condorcet_winner())) <= 1e-12
    assert elect(game).respects_majorities


@given(cyclic_games())
def test_without_a_condorcet_winner_the_equilibrium_is_far_from_every_response(game):
    assert all(distance_from_winner(game, i) > 1e-3 for i in range(game.n_responses))
    assert elect(game).is_mixed


def test_the_distance_of_the_textbook_game():
    for winner, share in enumerate((4 / 9, 2 / 9, 3 / 9)):
        distance = distance_from_winner(textbook_game().preference, winner)
        assert distance == pytest.approx(1 - share, abs=1e-12)


@given(games_near(CYCLE))
def test_a_fitted_reward_depends_on_how_pairs_are_drawn(game):
    winners = bradley_terry_winner(game.preference, SAMPLING)
    assert winners[0] != winners[1]
    for winner, shares in zip(winners, SAMPLING, strict=True):
        counts = np.outer(shares, shares) * game.preference * (1 - np.eye(3))
        assert winner == fit_bradley_terry(counts).reward.argmax()


@given(transitive_games(3, scale=2.0, gap=0.1))
def test_a_bradley_terry_game_has_one_winner_however_pairs_are_drawn(game):
    winners = bradley_terry_winner(game.preference, SAMPLING)
    assert set(winners.tolist()) == {int(game.condorcet_winner())}


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ([0.5, 0.5], r"sampling must have trailing shape \(3\)"),
        ([0.5, 0.3, 0.3], "sampling must sum to"),
    ],
)
def test_what_is_no_sampling(sampling, message):
    with pytest.raises(ValueError, match=message):
        bradley_terry_winner(CYCLE, sampling)
