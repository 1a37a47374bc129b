"""Borda and Copeland scores and the Condorcet margin, from ballots and from games."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.analysis.voting import borda_scores, condorcet_margin, copeland_scores
from prefsim.testing.games import preference_games
from prefsim.worlds import PreferenceGame
from prefsim.worlds.ballots import read_preflib, synthetic_ballots


def test_borda_scores_are_the_points_of_the_ballots():
    """With complete strict ballots a response gets one point for every one placed below it."""
    orders = np.array([[0, 1, 2, 3], [2, 0, 1, 3], [3, 2, 1, 0], [0, 2, 3, 1]])
    points = np.zeros(4)
    for order in orders:
        points[order] += np.arange(4)[::-1]
    scores = borda_scores(PreferenceGame.from_rankings(orders).preference)
    np.testing.assert_allclose(scores, points / (len(orders) * 3), atol=1e-15)


@given(preference_games(min_n=2))
def test_identities(game):
    table = np.asarray(game.preference)
    n = game.n_responses
    np.testing.assert_allclose(borda_scores(table).mean(), 0.5, atol=1e-14)
    assert copeland_scores(table).sum() == n * (n - 1) / 2
    winner = int(game.condorcet_winner())
    assert (condorcet_margin(table) > 0) == (winner >= 0)
    if winner >= 0:
        assert copeland_scores(table)[winner] == n - 1 == copeland_scores(table).max()
        np.testing.assert_allclose(
            condorcet_margin(table), np.delete(table[winner], winner).min() - 0.5, atol=1e-15
        )


def test_a_condorcet_paradox():
    game = PreferenceGame.from_ballots(read_preflib(synthetic_ballots()))
    assert condorcet_margin(game.preference) < 0
    np.testing.assert_array_equal(copeland_scores(game.preference), [2.0, 2.0, 2.0, 0.0])


@pytest.mark.parametrize("function", [borda_scores, copeland_scores, condorcet_margin])
def test_libraries_batches_and_bad_input(function):
    games = np.asarray(PreferenceGame.random(4, seed=0, batch_shape=(3,), ties=0.3).preference)
    found = function(games)
    np.testing.assert_array_equal(found[1], function(games[1]))
    for library in (torch.as_tensor, array_api_strict.asarray):
        np.testing.assert_allclose(np.asarray(function(library(games))), found, rtol=1e-15)
    for bad, message in (
        (np.full((1, 1), 0.5), "at least two"),
        (np.full((2, 3), 0.5), "trailing shape"),
        (np.float64(0.5), "trailing shape"),
    ):
        with pytest.raises(ValueError, match=message):
            function(bad)
