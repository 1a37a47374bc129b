"""Learners against losses: nobody sees the round that he decides, and games are played at once."""

import numpy as np
import pytest

from prefsim.loops.online_play import (
    most_likely_loses,
    play_against,
    play_game,
    play_online,
)
from prefsim.solvers.online_learning.hedge import hedge
from prefsim.solvers.online_learning.linear_attention import cumulative_before

LOSSES = np.random.default_rng(0).random((2, 3, 6, 3))


def learner(past):
    return hedge(past.sum(axis=-2), step=0.5)


def test_fixed_losses_are_played_in_one_batch():
    play = play_online(learner, LOSSES)
    np.testing.assert_allclose(play.decisions, hedge(cumulative_before(LOSSES), step=0.5))
    assert (play.losses == LOSSES).all()
    seen = []
    play_online(lambda past: seen.append(past.shape) or np.ones(3) / 3, LOSSES[0, 0])
    assert seen == [(t, 3) for t in range(6)]


def test_an_adversary_answers_to_what_is_played_now():
    def watched(past, decision):
        assert past.shape == (2, len(rounds), 3)
        rounds.append(decision)
        return most_likely_loses(past, decision)

    rounds = []
    play = play_against(learner, watched, rounds=5, shape=(2, 3))
    np.testing.assert_array_equal(play.decisions, np.stack(rounds, axis=1))
    lost = play.losses.argmax(axis=-1)
    assert (lost == play.decisions.argmax(axis=-1)).all()
    assert (play.losses.sum(axis=-1) == 1).all()


def test_games():
    first, second = np.random.default_rng(1).random((2, 4, 2, 3))
    plays = play_game([learner, learner], [first, second], rounds=5)
    x, y = (play.decisions for play in plays)
    np.testing.assert_allclose(plays[0].losses, np.einsum("gij,gtj->gti", first, y), atol=1e-14)
    np.testing.assert_allclose(plays[1].losses, np.einsum("gij,gti->gtj", second, x), atol=1e-14)
    for play in plays:
        expected = hedge(cumulative_before(play.losses), step=0.5)
        np.testing.assert_allclose(play.decisions, expected, atol=1e-14)


def test_three_players():
    tables = list(np.random.default_rng(2).random((3, 2, 2, 2)))
    plays = play_game([learner] * 3, tables, rounds=2)
    x, _, z = (play.decisions[1] for play in plays)
    np.testing.assert_allclose(plays[1].losses[1], np.einsum("ijk,i,k->j", tables[1], x, z))


def test_bad_input():
    with pytest.raises(ValueError, match="learner must return what it plays, of shape"):
        play_online(lambda past: np.ones(2) / 2, LOSSES)
    with pytest.raises(ValueError, match="what the adversary returns must have trailing shape"):
        play_against(learner, lambda past, now: now[:2], rounds=2, shape=(3,))
    with pytest.raises(ValueError, match="one table for each of 2 learners, got 1"):
        play_game([learner] * 2, [np.eye(2)], rounds=1)
