"""The Nash-MD policy gradient: exact, from samples, and where it vanishes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.backend import use_backend
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax, softmax
from prefsim.solvers.games.certificates import best_response, expected_preference, geometric_mixture
from prefsim.solvers.games.nash import solve_nash
from prefsim.solvers.games.policy_gradient import (
    moving_average,
    nash_md_pg_gradient,
    policy_gradient,
    sampled_policy_gradient,
)
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.testing.games import games_with_reference, preference_games, references
from prefsim.worlds.game import PreferenceGame
from prefsim.worlds.textbook import TEXTBOOK_REFERENCE, textbook_game

GAME = textbook_game().preference
LOG_REFERENCE = np.log(TEXTBOOK_REFERENCE)
LOG_POLICY = np.log([0.2, 0.5, 0.3])


def test_reference_values():
    found = nash_md_pg_gradient(GAME, LOG_POLICY, LOG_REFERENCE, tau=0.1, mixture=0.125)
    np.testing.assert_allclose(found, [0.0398585236, 0.0094363071, -0.0492948307], atol=1e-10)
    point = nash_md_pg_stationary_point(GAME, np.exp(LOG_REFERENCE), tau=0.1, mixture=0.125)
    np.testing.assert_allclose(point, [0.5400318727, 0.1811642836, 0.2788038438], atol=1e-10)
    assert (
        np.abs(
            nash_md_pg_gradient(GAME, np.log(point), LOG_REFERENCE, tau=0.1, mixture=0.125)
        ).max()
        <= 1e-14
    )


@given(games_with_reference(), st.data())
def test_it_is_the_gradient_of_the_regularised_preference(pair, data):
    game, reference = pair
    opponent = data.draw(references(game.n_responses))
    logits = np.log(data.draw(references(game.n_responses)))
    constants = [torch.tensor(x) for x in (game.preference, opponent, reference)]

    def value(theta):
        preference, other, anchor = constants
        return expected_preference(preference, softmax(theta), other, reference=anchor, tau=0.3)

    expected = gradient(value, logits)
    found = policy_gradient(
        game.preference, log_softmax(logits), np.log(reference), np.log(opponent), tau=0.3
    )
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(games_with_reference(preference_games(min_n=2)), st.floats(0.05, 2.0), st.floats(0.0, 0.95))
def test_the_stationary_point_is_its_own_formula(pair, tau, mixture):
    game, reference = pair
    point = nash_md_pg_stationary_point(game, reference, tau=tau, mixture=mixture)
    opponent = np.exp(geometric_mixture(np.log(point), np.log(reference), weight=mixture))
    np.testing.assert_allclose(
        best_response(game.preference, opponent, reference=reference, tau=tau), point, atol=1e-12
    )
    stiffer = solve_nash(
        game, method="regularised", reference=reference, tau=tau / (1 - mixture)
    ).policy
    np.testing.assert_allclose(opponent, stiffer, atol=1e-12)


def test_ascent_ends_at_the_stationary_point():
    logits = LOG_POLICY.copy()
    for _ in range(4000):
        logits = log_softmax(
            logits + 2.0 * nash_md_pg_gradient(GAME, logits, LOG_REFERENCE, tau=0.3, mixture=0.25)
        )
    np.testing.assert_allclose(
        np.exp(logits),
        nash_md_pg_stationary_point(GAME, np.exp(LOG_REFERENCE), tau=0.3, mixture=0.25),
        atol=1e-9,
    )


def test_the_ends_of_the_mixture():
    reference = np.exp(LOG_REFERENCE)
    selfplay = nash_md_pg_stationary_point(GAME, reference, tau=0.1, mixture=0.0)
    np.testing.assert_allclose(
        selfplay,
        solve_nash(GAME, method="regularised", reference=reference, tau=0.1).policy,
        atol=1e-14,
    )
    alone = nash_md_pg_stationary_point(GAME, reference, tau=0.1, mixture=1.0)
    np.testing.assert_allclose(
        alone, best_response(GAME, reference, reference=reference, tau=0.1), atol=1e-14
    )


def test_a_moving_average_opponent_shares_the_equilibrium():
    logits, average = LOG_POLICY.copy(), LOG_POLICY.copy()
    for _ in range(4000):
        gradient = policy_gradient(
            GAME, log_softmax(logits), LOG_REFERENCE, log_softmax(average), tau=0.3
        )
        logits = log_softmax(logits + 2.0 * gradient)
        average = moving_average(average, logits, rate=0.2)
    target = solve_nash(GAME, method="regularised", reference=np.exp(LOG_REFERENCE), tau=0.3).policy
    np.testing.assert_allclose(np.exp(logits), target, atol=1e-9)
    assert moving_average(1.0, 3.0, rate=0.25) == 1.5


@pytest.mark.parametrize("baseline", [0.5, 0.0])
def test_samples_average_to_the_gradient(baseline):
    mixture = geometric_mixture(LOG_POLICY, LOG_REFERENCE, weight=0.5)
    exact = policy_gradient(GAME, LOG_POLICY, LOG_REFERENCE, mixture, tau=0.1)
    options = {"tau": 0.1, "n": 200_000, "seed": 0, "baseline": baseline}
    samples = sampled_policy_gradient(GAME, LOG_POLICY, LOG_REFERENCE, mixture, **options)
    error = samples.std(axis=0) / np.sqrt(len(samples))
    assert (
        np.abs(samples.mean(axis=0) - exact) <= 5 * error
    ).all()  # one in a million for each of three entries
    np.testing.assert_array_equal(
        samples, sampled_policy_gradient(GAME, LOG_POLICY, LOG_REFERENCE, mixture, **options)
    )


def test_the_baseline_lowers_the_variance():
    draws = [
        sampled_policy_gradient(
            GAME, LOG_POLICY, LOG_REFERENCE, LOG_REFERENCE, tau=0.1, n=20_000, seed=1, baseline=b
        )
        for b in (0.5, 0.0)
    ]
    assert draws[0].var(axis=0).sum() < draws[1].var(axis=0).sum()


def test_batches_and_torch():
    rng = np.random.default_rng(0)
    games = PreferenceGame.random(4, seed=rng, batch_shape=(3,)).preference
    own, other, reference = (np.log(rng.dirichlet(np.ones(4), 3)) for _ in range(3))
    expected = sampled_policy_gradient(games, own, reference, other, tau=0.2, n=7, seed=5)
    assert expected.shape == (7, 3, 4)
    np.testing.assert_allclose(expected.sum(axis=-1), 0.0, atol=1e-14)
    found = sampled_policy_gradient(
        *map(torch.tensor, (games, own, reference, other)), tau=0.2, n=7, seed=5
    )
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-14)
    points = nash_md_pg_stationary_point(games, np.exp(reference), tau=0.2, mixture=0.5)
    assert points.shape == (3, 4)
    on_torch = nash_md_pg_stationary_point(
        torch.tensor(games), np.exp(reference), tau=0.2, mixture=0.5
    )
    np.testing.assert_allclose(on_torch.numpy(), points, atol=1e-12)
    with use_backend("torch"):
        np.testing.assert_allclose(
            nash_md_pg_stationary_point(
                PreferenceGame(games), np.exp(reference), tau=0.2, mixture=1.0
            )
            .numpy()
            .shape,
            (3, 4),
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nash_md_pg_gradient(GAME, LOG_POLICY, LOG_REFERENCE, tau=0.1, mixture=1.1),
            r"mixture must lie in \[0.0, 1.0\], got 1.1",
        ),
        (
            lambda: nash_md_pg_gradient(GAME, LOG_POLICY, LOG_REFERENCE, tau=-0.1, mixture=0.1),
            "tau must be a finite number >= 0",
        ),
        (
            lambda: nash_md_pg_stationary_point(GAME, np.exp(LOG_REFERENCE), tau=0.1, mixture=-0.1),
            "mixture must lie in",
        ),
        (
            lambda: nash_md_pg_stationary_point(GAME, np.exp(LOG_REFERENCE), tau=0.0, mixture=0.1),
            "tau must be a (finite )?number > 0, got 0.0",
        ),
        (
            lambda: nash_md_pg_stationary_point(GAME, [1.0, 0.0, 0.0], tau=0.1, mixture=0.1),
            "reference must be > 0 everywhere",
        ),
        (
            lambda: sampled_policy_gradient(
                GAME, LOG_POLICY, LOG_REFERENCE, LOG_POLICY, tau=0.1, n=0, seed=0
            ),
            "n must be an integer >= 1",
        ),
        (
            lambda: sampled_policy_gradient(
                GAME, LOG_POLICY, LOG_REFERENCE, LOG_POLICY, tau=0.1, n=1, seed=-1
            ),
            "seed must be an integer >= 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
