"""The exact equilibrium of preference games: any game, batches, oracles."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from nash_games import GAME
from scipy.optimize import linprog

from prefsim.solvers.games.nash import NashResult, solve_nash
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    preference_games,
    transitive_games,
)
from prefsim.worlds.game import KINDS, PreferenceGame

# --- reference values ---


def test_exact_equilibrium():
    result = solve_nash(PreferenceGame(GAME), method="lp")
    np.testing.assert_allclose(result.policy, np.array([4, 2, 3]) / 9, atol=1e-11)
    assert result.converged
    assert isinstance(result, NashResult)
    assert result.average_policy is None


def assert_equilibrium(game, result, tolerance=1e-9):
    policy = np.asarray(result.policy)
    assert (policy >= 0).all()
    np.testing.assert_allclose(policy.sum(axis=-1), 1.0, atol=1e-12)
    # The certificate again, from the definition.
    certificate = (np.asarray(game.preference) @ policy[..., None])[..., 0].max(axis=-1) - 0.5
    assert (certificate <= tolerance).all()
    np.testing.assert_allclose(result.exploitability, certificate, atol=1e-12)
    assert np.all(result.converged)


# --- the exact equilibrium ---


@given(preference_games(min_n=1, max_n=9))
def test_any_game_is_solved(game):
    assert_equilibrium(game, solve_nash(game, method="lp"))


@given(degenerate_games())
def test_degenerate_games_are_solved(game):
    assert_equilibrium(game, solve_nash(game, method="lp"))


@given(cyclic_games())
def test_cyclic_games_have_mixed_equilibria(game):
    result = solve_nash(game, method="lp")
    assert_equilibrium(game, result)
    assert (result.policy > 0).sum() > 1


@given(transitive_games(gap=0.05))
def test_transitive_games_have_the_best_response_as_equilibrium(game):
    policy = solve_nash(game, method="lp").policy
    np.testing.assert_allclose(
        policy, np.eye(game.n_responses)[game.condorcet_winner()], atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ties", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [3, 40])
def test_batches_of_every_kind(kind, ties, n):
    game = PreferenceGame.random(n, seed=0, batch_shape=(20,), kind=kind, ties=ties)
    assert_equilibrium(game, solve_nash(game, method="lp"))


def test_a_hundred_actions_to_1e_9():
    for seed in range(5):
        game = PreferenceGame.random(100, seed=seed)
        assert_equilibrium(game, solve_nash(game, method="lp"), tolerance=1e-11)


@pytest.mark.parametrize("kind", ["uniform", "tournament"])
def test_a_thousand_actions(kind):
    game = PreferenceGame.random(1000, seed=0, kind=kind, ties=0.3)
    assert_equilibrium(game, solve_nash(game, method="lp"))


def test_multi_scale_margins_need_no_division_by_zero():
    rng = np.random.default_rng(0)
    margins = np.array([0, 0.5, -0.5, 1e-12, 3e-12, 1e-9, -1e-9, 1e-6, -1e-3, 1e-300, 0.1])
    upper = np.triu(margins[rng.integers(0, margins.size, (300, 7, 7))], 1)
    game = PreferenceGame(0.5 + upper - np.swapaxes(upper, -1, -2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equilibrium(game, solve_nash(game, method="lp"))


def test_of_several_equilibria_the_one_with_the_largest_support():
    rock, scissors, paper = np.eye(3)
    beats = 0.5 + 0.5 * (
        np.outer(rock, scissors) + np.outer(scissors, paper) + np.outer(paper, rock)
    )
    beats -= 0.5 * (np.outer(scissors, rock) + np.outer(paper, scissors) + np.outer(rock, paper))
    order = [0, 1, 2, 0]
    np.testing.assert_allclose(
        solve_nash(beats[np.ix_(order, order)], method="lp").policy,
        [1 / 6, 1 / 3, 1 / 3, 1 / 6],
        atol=1e-9,
    )
    np.testing.assert_allclose(
        solve_nash(np.full((5, 5), 0.5), method="lp").policy, 0.2, atol=1e-15
    )


def test_a_tournament_that_defeats_support_enumeration():
    outcome = np.array(
        [[0, 0, 0, 1, -1], [0, 0, 1, -1, 1], [0, -1, 0, 0, -1], [-1, 1, 0, 0, 0], [1, -1, 1, 0, 0]]
    )
    result = solve_nash(0.5 + 0.5 * outcome, method="lp")
    assert_equilibrium(PreferenceGame(0.5 + 0.5 * outcome), result)
    assert (result.policy > 0).tolist() == [True, True, False, True, True]
    nashpy = pytest.importorskip("nashpy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(nashpy.Game(outcome.astype(float)).support_enumeration()) == []


def highs(preference):
    n = len(preference)
    upper = np.hstack([-(preference - 0.5).T, np.ones((n, 1))])
    found = linprog(
        np.append(np.zeros(n), -1.0),
        A_ub=upper,
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
        method="highs",
    )
    return found.x[:n]


@pytest.mark.parametrize("n", [2, 5, 11, 30])
def test_against_highs(n):
    # An odd number of supported responses makes the equilibrium of a random game unique.
    for seed in range(10):
        preference = PreferenceGame.random(n, seed=seed).preference
        found = solve_nash(preference, method="lp").policy
        np.testing.assert_allclose(found, highs(preference), atol=1e-8)
        assert (found > 0).sum() % 2 == 1


def test_against_nashpy():
    nashpy = pytest.importorskip("nashpy")
    for seed in range(5):
        preference = PreferenceGame.random(6, seed=seed).preference
        row, _ = nashpy.Game(preference - 0.5).linear_program()
        np.testing.assert_allclose(solve_nash(preference, method="lp").policy, row, atol=1e-8)


def test_against_quantecon():
    minmax = pytest.importorskip("quantecon.optimize.minmax").minmax
    for seed in range(5):
        preference = PreferenceGame.random(12, seed=seed).preference
        value, row, _ = minmax(preference - 0.5)
        assert value == pytest.approx(0.0, abs=1e-12)
        np.testing.assert_allclose(solve_nash(preference, method="lp").policy, row, atol=1e-8)
