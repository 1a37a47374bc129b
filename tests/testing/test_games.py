"""Strategies of plays and of games near a given one, and the random games of the papers."""

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from prefsim.solvers import exploitability, nash_path, solve_nash
from prefsim.solvers.games.certificates import best_response
from prefsim.testing.games import (
    Play,
    cyclic_games,
    games_near,
    plays,
    preference_games,
    random_games,
    skew_scores,
)
from prefsim.worlds import ContextualBandit, textbook_game


@given(plays(tau=(0.1, 1.0), weight=(0.2, 0.4), spread=1.0))
def test_plays_are_what_they_say(play):
    n = len(play.preference)
    assert 2 <= n <= 6
    np.testing.assert_allclose(play.preference + play.preference.T, 1.0, atol=1e-12)
    for policy in (play.reference, play.policy, play.sampler):
        assert policy.shape == (n,) and policy.sum() == pytest.approx(1.0)
        assert np.ptp(np.log(policy)) <= 2.0 + 1e-9
    assert 0.1 - 1e-12 <= play.tau <= 1.0 + 1e-12 and 0.2 <= play.weight <= 0.4
    assert play.step * play.tau == pytest.approx(play.weight)
    np.testing.assert_array_equal(play.world().preference, play.preference[None])
    assert isinstance(play.world(), ContextualBandit)


@given(plays(cyclic_games(3)))
def test_the_games_may_be_chosen(play):
    assert play.preference.shape == (3, 3)
    assert exploitability(play.preference, np.eye(3)).min() > 0


@given(plays())
def test_the_equilibrium_is_its_own_best_response(play):
    point = play.equilibrium()
    response = best_response(play.preference, point, reference=play.reference, tau=play.tau)
    np.testing.assert_allclose(response, point, atol=1e-12)


@pytest.mark.parametrize("method", ["mirror_descent", "nash_md", "egpo"])
@pytest.mark.filterwarnings("ignore::prefsim.solvers.StepSizeWarning")
@given(play=plays(weight=(0.01, 0.4)))
def test_an_update_is_a_step_of_the_solver(method, play):
    path = nash_path(
        play.preference,
        method=method,
        reference=play.reference,
        initial=play.policy,
        tau=play.tau,
        step=play.step,
        iterations=1,
    )
    found = np.exp(play.update(method, np.log(play.policy)))
    np.testing.assert_allclose(found, path.policy[-1], rtol=1e-9, atol=1e-12)
    still = play.update(method, np.log(play.policy), step=1e-12)
    np.testing.assert_allclose(still, np.log(play.policy), atol=1e-9)


def test_a_play_shrinks_to_the_plainest():
    play = find(plays(), lambda play: True)
    assert isinstance(play, Play)
    np.testing.assert_array_equal(play.reference, [0.5, 0.5])
    np.testing.assert_array_equal(play.policy, play.sampler)


@given(games_near(textbook_game().preference))
def test_games_near_are_near_and_their_answers_too(game):
    assert np.abs(game.preference - textbook_game().preference).max() <= 0.02 + 1e-15
    assert game.condorcet_winner() == -1
    policy = solve_nash(game, method="lp").policy
    np.testing.assert_allclose(policy, np.array([4, 2, 3]) / 9, atol=0.05)


@given(st.data())
def test_games_near_an_edge_stay_games(data):
    edge = data.draw(preference_games(min_n=2))
    near = data.draw(games_near(edge.preference, within=0.3))
    assert near.preference.min() >= 0.0
    assert np.abs(near.preference - edge.preference).max() <= 0.3 + 1e-12


def test_random_games_are_uniform_below_the_diagonal():
    rng = np.random.default_rng(3)
    draws = np.random.default_rng(3).random((2, 4, 4))
    games = random_games(2, 4, seed=rng)
    rows, columns = np.tril_indices(4, -1)
    np.testing.assert_array_equal(games[:, rows, columns], draws[:, rows, columns])
    np.testing.assert_allclose(games + np.swapaxes(games, -1, -2), 1.0, rtol=1e-15)
    assert random_games(3, seed=0).shape == (3, 10, 10)
    # The generator moves on.
    assert np.abs(random_games(2, 4, seed=rng) - games).max() > 0.1


@given(skew_scores(3, 5, limit=2.0))
def test_scores_are_skew_and_bounded(scores):
    n = len(scores)
    assert 3 <= n <= 5 and scores.shape == (n, n)
    np.testing.assert_array_equal(scores, -scores.T)
    assert np.abs(scores).max() <= 2
