"""The regularised equilibrium: reference values, small penalties, many games at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nash_games import GAME, REFERENCE

from prefsim.numerics import categorical_kl, log_softmax, softmax
from prefsim.solvers.games.certificates import (
    best_response,
    log_best_response,
    regularised_gap,
)
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.games.regularised import solve_regularised
from prefsim.testing.games import (
    games_with_reference,
)
from prefsim.worlds.game import KINDS, PreferenceGame

# --- reference values ---


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.1, (0.5301864230, 0.1923682149, 0.2774453621)),
        (0.01, (0.4537065263, 0.2155536420, 0.3307398317)),
        (1.0, (0.5229998388, 0.2780521625, 0.1989479987)),
    ],
)
def test_regularised_equilibrium(tau, expected):
    result = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=tau)
    np.testing.assert_allclose(result.policy, expected, atol=1e-10)
    residual = np.log(result.policy) - np.log(
        best_response(GAME, result.policy, reference=REFERENCE, tau=tau)
    )
    assert np.abs(residual).max() <= 3e-15
    if tau == 0.1:
        assert result.exploitability == pytest.approx(0.0290899987, abs=1e-10)
        assert categorical_kl(np.log(result.policy), np.log(REFERENCE)) == pytest.approx(
            0.0364066674, abs=1e-10
        )


# --- the regularised equilibrium ---


@given(games_with_reference(), st.floats(-5.0, 1.5).map(lambda x: 10.0**x))
def test_any_regularised_game_is_solved(pair, tau):
    game, reference = pair
    result = solve_nash(game, method="regularised", reference=reference, tau=tau)
    assert result.converged
    gap = regularised_gap(game.preference, result.policy, reference=reference, tau=tau)
    assert abs(gap) <= 1e-12
    assert result.regularised_gap == pytest.approx(float(gap), abs=1e-15)


@pytest.mark.parametrize("tau", [1e-6, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("kind", KINDS)
def test_small_penalties_and_many_equilibria(kind, tau):
    game = PreferenceGame.random(10, seed=1, batch_shape=(40,), kind=kind, ties=0.3)
    reference = softmax(2.0 * np.random.default_rng(0).standard_normal((40, 10)))
    result = solve_nash(game, method="regularised", reference=reference, tau=tau)
    assert result.converged.all()
    assert (result.exploitability <= tau * -np.log(reference.min(axis=-1)) + 1e-12).all()


def test_the_penalty_leads_from_the_reference_to_the_equilibrium():
    strong = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=1e6).policy
    np.testing.assert_allclose(strong, REFERENCE, atol=1e-5)
    weak = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=1e-8).policy
    np.testing.assert_allclose(weak, solve_nash(GAME, method="lp").policy, atol=1e-6)


def test_ten_thousand_games_in_one_call():
    games = PreferenceGame.random(10, seed=0, batch_shape=(10_000,)).preference
    result = solve_nash(games, method="regularised", tau=0.05)
    assert result.policy.shape == (10_000, 10)
    assert (result.regularised_gap <= 1e-8).all()
    alone = [solve_nash(game, method="regularised", tau=0.05).policy for game in games[:100]]
    np.testing.assert_allclose(result.policy[:100], alone, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 50])
@pytest.mark.parametrize("kind", ["uniform", "tournament"])
def test_the_residuals_are_of_what_is_returned_however_few_steps_there_were(kind, steps):
    games = PreferenceGame.random(6, seed=0, batch_shape=(60,), kind=kind, ties=0.3).preference
    reference = log_softmax(np.random.default_rng(0).standard_normal((60, 6)))
    found = solve_regularised(games, reference, tau=0.01, max_iterations=steps)
    response = log_best_response(games, np.exp(found.log_policy), reference, tau=0.01)
    np.testing.assert_allclose(
        found.residual, np.abs(found.log_policy - response).max(axis=-1), atol=1e-12
    )
    np.testing.assert_allclose(np.exp(found.log_policy).sum(axis=-1), 1.0, rtol=1e-12)
    arrived = found.residual <= 1e-6
    assert not arrived.all() if steps == 0 else arrived.any()
    assert steps < 50 or arrived.all()
