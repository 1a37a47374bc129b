"""Preference games and how they are made."""

import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.backend import use_backend
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    games_with_reference,
    preference_games,
    transitive_games,
)
from prefsim.worlds.game import KINDS, PreferenceGame

CYCLE = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ([[0.5, 0.8], [0.3, 0.5]], r"P \+ Pᵀ = 1 within 1e-09, got .*1.1.* at index \(0, 1\)"),
        ([[0.5 + 1e-8, 0.8], [0.2, 0.5]], r"P \+ Pᵀ = 1"),
        ([[0.5, 1.2], [-0.2, 0.5]], r"preference must lie in \[0, 1\], got 1.2"),
        ([[0.5, np.nan], [0.5, 0.5]], "preference must be finite, got nan"),
        ([[0.5, 0.5]], r"preference must have shape \(\.\.\., n, n\)"),
        ([0.5], "preference must have at least 2 axes"),
        (np.zeros((0, 0)), "with n >= 1"),
        ([[0.5, "a"], [0.5, 0.5]], "preference must be an array of numbers"),
    ],
)
def test_what_is_no_game(preference, message):
    with pytest.raises(ValueError, match=message):
        PreferenceGame(preference)


def test_rounding_within_the_tolerance_is_accepted():
    table = CYCLE.copy()
    table[0, 1] -= 5e-10
    assert PreferenceGame(table).n_responses == 3


def test_labels_and_contexts():
    game = PreferenceGame(
        np.stack([CYCLE, CYCLE.T]), labels=["a", "b", "c"], context_probs=[0.25, 0.75]
    )
    assert game.labels == ("a", "b", "c")
    assert game.batch_shape == (2,)
    assert game.average(np.array([1.0, 2.0])) == 1.75
    with pytest.raises(ValueError, match="labels must name the 3 responses, got 2 names"):
        PreferenceGame(CYCLE, labels=["a", "b"])
    with pytest.raises(ValueError, match="context_probs must sum to 1"):
        PreferenceGame(np.stack([CYCLE, CYCLE]), context_probs=[0.5, 0.6])
    with pytest.raises(
        ValueError,
        match=(
            r"preference of a game with contexts must have trailing shape \(3, any, any\), got \(2,"
            r" 3, 3\)"
        ),
    ):
        PreferenceGame(np.stack([CYCLE, CYCLE]), context_probs=[0.5, 0.25, 0.25])
    with pytest.raises(ValueError, match="preference of a game with contexts"):
        PreferenceGame(CYCLE, context_probs=[1.0])
    with pytest.raises(ValueError, match="no context_probs"):
        PreferenceGame(CYCLE).average(np.array([1.0]))
    with pytest.raises(ValueError, match="values must have trailing shape"):
        game.average(np.ones(3))


def test_condorcet_winners_of_a_batch():
    game = PreferenceGame(
        np.stack([CYCLE, np.asarray(PreferenceGame.from_reward([0.0, 1.0, 3.0]).preference)])
    )
    assert game.condorcet_winner().tolist() == [-1, 2]
    assert PreferenceGame([[0.5]]).condorcet_winner() == 0
    assert PreferenceGame(np.full((2, 2), 0.5)).condorcet_winner() == -1


def test_from_reward():
    reward = np.array([[0.0, 1.0], [2.0, -1.0]])
    game = PreferenceGame.from_reward(reward, scale=0.5)
    np.testing.assert_allclose(
        game.preference[:, 0, 1], 1 / (1 + np.exp(-0.5 * (reward[:, 0] - reward[:, 1]))), rtol=1e-15
    )
    with pytest.raises(ValueError, match="scale must be a finite number > 0, got -1"):
        PreferenceGame.from_reward(reward, scale=-1)
    with pytest.raises(ValueError, match="reward must be finite"):
        PreferenceGame.from_reward([0.0, np.inf])
    assert np.isfinite(PreferenceGame.from_reward([0.0, 1e4]).preference).all()


def test_from_rankings():
    game = PreferenceGame.from_rankings([[0, 1, 2], [1, -1, -1]], labels=["a", "b", "c"])
    np.testing.assert_allclose(
        game.preference, [[0.5, 0.5, 0.75], [0.5, 0.5, 1.0], [0.25, 0.0, 0.5]]
    )
    weighted = PreferenceGame.from_rankings([[0, 1, 2], [1, -1, -1]], weights=[3, 1])
    assert weighted.preference[0, 1] == 0.75
    never_ranked = PreferenceGame.from_rankings([[0, 1]], n_items=4)
    assert never_ranked.preference[2].tolist() == [0.0, 0.0, 0.5, 0.5]
    for rankings, options, message in (
        ([[0, 0]], {}, "must not repeat an item"),
        ([[0, 3]], {"n_items": 2}, r"must hold items in \[0, 2\)"),
        ([[-1, 0]], {}, "-1 only after the last item"),
        ([[0.0, 1.0]], {}, "rankings must be integers"),
        ([[0, 1]], {"weights": [-1.0]}, "weights must be >= 0"),
        ([[0, 1]], {"weights": [1.0, 1.0]}, "weights must have trailing shape"),
        ([[0, 1]], {"n_items": 0}, "n_items must be an integer >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            PreferenceGame.from_rankings(rankings, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_random_games(kind):
    game = PreferenceGame.random(5, seed=3, batch_shape=(4, 2), kind=kind)
    assert game.preference.shape == (4, 2, 5, 5)
    np.testing.assert_array_equal(
        game.preference, PreferenceGame.random(5, seed=3, batch_shape=(4, 2), kind=kind).preference
    )
    assert not np.array_equal(
        game.preference, PreferenceGame.random(5, seed=4, batch_shape=(4, 2), kind=kind).preference
    )
    winners = game.condorcet_winner()
    if kind == "transitive":
        assert (winners >= 0).all()
    if kind == "cyclic":
        assert (winners == -1).all()
        assert (
            PreferenceGame.random(6, seed=0, kind=kind, batch_shape=(50,)).preference.max(axis=-2)
            > 0.5
        ).all(), "every response is beaten"
    if kind == "tournament":
        assert set(np.unique(game.preference)) == {0.0, 0.5, 1.0}


def test_random_options():
    tied = PreferenceGame.random(40, seed=0, ties=0.3).preference
    assert abs((tied[np.triu_indices(40, 1)] == 0.5).mean() - 0.3) < 0.05
    for options, message in (
        ({"n": 0}, "n must be an integer >= 1"),
        ({"n": 2, "kind": "cyclic"}, "a cyclic game needs n >= 3 responses, got 2"),
        (
            {"n": 3, "kind": "other"},
            "kind must be one of 'uniform', 'transitive', 'cyclic', 'tournament', got 'other'",
        ),
        ({"n": 3, "ties": 1.5}, r"ties must lie in \[0.0, 1.0\]"),
        ({"n": 3, "seed": -1}, "seed must be an integer >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            PreferenceGame.random(**{"seed": 0, **options})


def test_torch_backend_has_the_same_draws():
    expected = PreferenceGame.random(4, seed=0).preference
    with use_backend("torch", dtype="float32"):
        game = PreferenceGame.random(4, seed=0)
        assert isinstance(game.preference, torch.Tensor)
        assert game.preference.dtype == torch.float32
        np.testing.assert_allclose(game.preference.numpy(), expected, atol=1e-7)
        context = PreferenceGame(np.stack([CYCLE, CYCLE]), context_probs=[0.5, 0.5])
        assert context.average(torch.tensor([1.0, 3.0])) == 2.0


@given(preference_games(batch=(2,)))
def test_strategies_make_games(game):
    assert game.batch_shape == (2,)


@given(cyclic_games(least=0.1))
def test_cyclic_games_have_no_winner(game):
    assert game.condorcet_winner() == -1
    assert (game.preference.max(axis=-2) >= 0.6 - 1e-12).all()


@given(transitive_games(gap=0.1))
def test_transitive_games_have_a_winner(game):
    assert game.condorcet_winner() >= 0


@given(games_with_reference(degenerate_games()))
def test_references_have_full_support(pair):
    game, reference = pair
    assert reference.shape == (game.n_responses,)
    assert (reference > 0).all()
    assert abs(reference.sum() - 1) < 1e-12


def test_a_game_is_a_bandit_of_one_context():
    world = PreferenceGame(CYCLE).to_bandit()
    assert (world.n_contexts, world.n_responses, world.batch_shape) == (1, 3, ())
    np.testing.assert_array_equal(world.preference, CYCLE[None])
    np.testing.assert_array_equal(world.context_probs, [1.0])
    assert world.reward is None


def test_the_games_of_a_batch_are_contexts():
    table = PreferenceGame.random(3, seed=0, batch_shape=(2, 4)).preference
    weighted = PreferenceGame(table, context_probs=[0.1, 0.2, 0.3, 0.4]).to_bandit()
    assert (weighted.n_contexts, weighted.batch_shape) == (4, (2,))
    np.testing.assert_array_equal(weighted.preference, table)
    np.testing.assert_array_equal(weighted.context_probs, [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(PreferenceGame(table).to_bandit().context_probs, 4 * [0.25])


def test_the_bandit_of_a_game_follows_the_backend():
    with use_backend("torch"):
        assert isinstance(PreferenceGame(CYCLE).to_bandit().preference, torch.Tensor)
