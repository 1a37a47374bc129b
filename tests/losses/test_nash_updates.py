"""The exact minimisers of the losses of self-play are the updates of the solvers."""

import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from self_play_losses import GAME, LAST, minimiser, one_step, policy, world

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax
from prefsim.policies import TabularPolicy
from prefsim.solvers import gradient_descent, objective, solve_nash
from prefsim.solvers.games.certificates import best_response, geometric_mixture, mirror_step, payoff
from prefsim.solvers.games.nash import StepSizeWarning
from prefsim.solvers.games.policy_gradient import nash_md_pg_gradient
from prefsim.testing.games import games_with_reference, preference_games
from prefsim.worlds import PreferenceGame

CALM = games_with_reference(preference_games(min_n=2, max_n=6))


def by_mirror_descent(preference, last, reference, step, tau, opponent=None):
    return minimiser(
        functools.partial(losses.mirror_descent, step=step, tau=tau),
        preference,
        last,
        reference,
        opponent,
    )


def by_egpo(preference, last, reference, step, tau):
    trial = by_mirror_descent(preference, last, reference, step, tau)
    return by_mirror_descent(preference, last, reference, step, tau, opponent=trial)


def by_nash_md(preference, last, reference, step, tau):
    mixture = np.exp(geometric_mixture(np.log(last), np.log(reference), weight=step * tau))
    return by_mirror_descent(preference, last, reference, step, tau, opponent=mixture)


BRIDGES = {
    "mwu": lambda p, last, ref, step, tau: by_mirror_descent(p, last, ref, step, 0.0),
    "spo": lambda p, last, ref, step, tau: by_mirror_descent(p, last, ref, step, 0.0),
    "dno": lambda p, last, ref, step, tau: minimiser(
        functools.partial(losses.dno, step=step), p, last, last
    ),
    "mirror_descent": by_mirror_descent,
    "inpo": lambda p, last, ref, step, tau: minimiser(
        functools.partial(losses.inpo, step=step, tau=tau), p, last, ref
    ),
    "mmd": lambda p, last, ref, step, tau: by_mirror_descent(
        p, last, ref, step / (1 + step * tau), tau
    ),
    "nash_md": by_nash_md,
    "egpo": by_egpo,
    "extragradient": by_egpo,
}


# --- the bridge: a method's update is the minimiser of its loss ---


@pytest.mark.parametrize("method", BRIDGES)
@given(pair=CALM, step=st.floats(0.1, 2.0), tau=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_the_minimiser_of_a_loss_is_the_update_of_its_method(method, pair, step, tau, seed):
    game, reference = pair
    last = np.exp(log_softmax(np.random.default_rng(seed).standard_normal(game.n_responses)))
    penalty = {} if method in ("mwu", "spo", "dno") else {"tau": tau}
    expected = one_step(method, game.preference, last, reference, step=step, **penalty)
    found = BRIDGES[method](game.preference, last, reference, step, tau)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


@given(CALM, st.floats(0.1, 2.0))
def test_online_ipo_gives_the_best_response(pair, tau):
    game, reference = pair
    anywhere = np.full(game.n_responses, 1 / game.n_responses)
    found = minimiser(
        functools.partial(losses.online_ipo, tau=tau),
        game.preference,
        anywhere,
        reference,
        opponent=reference,
    )
    np.testing.assert_allclose(
        found,
        best_response(game.preference, reference, reference=reference, tau=tau),
        rtol=1e-8,
        atol=1e-11,
    )


def test_sppo_misses_the_update_by_the_third_power_of_the_step():
    errors = []
    for step in (0.4, 0.2, 0.1):
        found = minimiser(functools.partial(losses.sppo, beta=1 / step), GAME, LAST, LAST)
        errors.append(np.abs(found - one_step("sppo", GAME, LAST, LAST, step=step)).max())
    assert errors[0] < 1e-5
    assert 2.9 < np.log(errors[0] / errors[2]) / np.log(4) < 3.1


@given(CALM, st.floats(0.3, 2.0), st.floats(0.05, 0.5), st.integers(0, 99))
def test_labels_and_win_rates_have_the_same_minimiser(pair, step, tau, seed):
    """E5: the losses differ by a constant of the policy."""
    game, reference = pair
    rng = np.random.default_rng(seed)
    last = np.exp(log_softmax(rng.standard_normal(game.n_responses)))
    data = Comparisons.self_play(world(game.preference), policy(last))
    labels = functools.partial(losses.inpo, step=step, tau=tau)
    wins = functools.partial(losses.mirror_descent, step=step, tau=tau)
    differences = []
    for _ in range(3):
        here = policy(np.exp(log_softmax(rng.standard_normal(game.n_responses))))
        differences.append(
            objective(here, labels, data, reference=policy(reference))
            - objective(here, wins, data, reference=policy(reference))
        )
    np.testing.assert_allclose(differences, differences[0], atol=1e-11)


# --- the equivalences between methods ---


@given(CALM, st.floats(0.05, 1.0), st.floats(0.02, 0.3), st.integers(0, 99))
def test_a_gradient_step_of_online_ipo_is_a_mirror_step(pair, tau, rate, seed):
    """E1: with uniform pairs, and a learning rate lr, the step is η = 4 lr/(nτ)."""
    game, reference = pair
    n = game.n_responses
    last = np.exp(log_softmax(np.random.default_rng(seed).standard_normal(n)))
    pairs = Comparisons.population(world(game.preference), TabularPolicy.uniform(1, n))
    data = Comparisons.self_play(world(game.preference), policy(last), pairs=pairs)
    result, _ = gradient_descent(
        policy(last),
        functools.partial(losses.online_ipo, tau=tau),
        data,
        reference=policy(reference),
        step=rate,
        iterations=1,
    )
    step = 4 * rate / (n * tau)
    if step * tau <= 1:
        expected = mirror_step(
            np.log(last), np.log(reference), payoff(game.preference, last), step=step, tau=tau
        )
        np.testing.assert_allclose(result.policy.probs[0], np.exp(expected), rtol=1e-10)


@given(CALM, st.floats(0.05, 1.0), st.integers(0, 99))
def test_online_ipo_on_own_pairs_is_the_self_play_gradient(pair, tau, seed):
    """The opponent is the second response itself.

    The gradient is −4/τ of the policy gradient of self-play.
    """
    game, reference = pair
    logits = torch.tensor(
        np.random.default_rng(seed).standard_normal(game.n_responses), requires_grad=True
    )
    log_policy = torch.log_softmax(logits, 0)
    weight = (log_policy[:, None] + log_policy[None, :]).exp().detach()
    n = game.n_responses
    shape = (n, n)
    reference_logs = torch.tensor(np.log(reference))
    rows, columns = log_policy[:, None].expand(shape), log_policy[None, :].expand(shape)
    ref_rows, ref_columns = (
        reference_logs[:, None].expand(shape),
        reference_logs[None, :].expand(shape),
    )
    half = torch.full(shape, 0.5, dtype=torch.float64)
    logps = PairLogps(
        rows, columns, ref_rows, ref_columns, None, None, torch.tensor(game.preference), half
    )
    (weight * losses.online_ipo(logps, tau=tau)).sum().backward()
    ascent = nash_md_pg_gradient(
        game.preference, log_policy.detach().numpy(), np.log(reference), tau=tau, mixture=0.0
    )
    np.testing.assert_allclose(logits.grad.numpy(), -4 / tau * ascent, atol=1e-10)


@given(games_with_reference(preference_games(min_n=2)), st.floats(0.05, 1.0), st.floats(0.1, 0.9))
def test_the_mixtures_of_nash_md_are_mirror_descent(pair, tau, weight):
    """Constant steps end at the best response to the equilibrium of a stronger penalty."""
    game, reference = pair
    step = weight / tau
    stronger = {"step": step * (1 - weight), "tau": tau / (1 - weight)}
    start = reference
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        run = solve_nash(
            game,
            method="nash_md",
            reference=reference,
            tau=tau,
            step=step,
            max_iterations=15,
            tolerance=0.0,
            record=1,
        )
        other = solve_nash(
            game,
            method="mirror_descent",
            reference=reference,
            initial=start,
            max_iterations=15,
            tolerance=0.0,
            record=1,
            **stronger,
        )
    mixtures = geometric_mixture(np.log(run.history.policy), np.log(reference), weight=weight)
    np.testing.assert_allclose(np.exp(mixtures), other.history.policy, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau", [0.1, 0.3, 1.0])
def test_nash_md_with_a_weaker_penalty_has_its_mixture_at_the_equilibrium(tau):
    games = PreferenceGame.random(5, seed=0, batch_shape=(30,)).preference
    reference = np.exp(log_softmax(np.random.default_rng(0).standard_normal((30, 5))))
    step = min(2.0 * tau, 1.0)
    weaker = tau / (1 + step * tau)
    end = solve_nash(
        games,
        method="nash_md",
        reference=reference,
        tau=weaker,
        step=step,
        max_iterations=2500,
        tolerance=0.0,
    ).policy
    mixture = np.exp(geometric_mixture(np.log(end), np.log(reference), weight=step * weaker))
    target = solve_nash(games, method="regularised", reference=reference, tau=tau).policy
    np.testing.assert_allclose(mixture, target, atol=1e-10)
    np.testing.assert_allclose(
        end, best_response(games, mixture, reference=reference, tau=weaker), atol=1e-10
    )


@given(preference_games(min_n=2), st.floats(0.05, 1.0))
def test_two_players_from_one_start_stay_one(game, step):
    """E6: with P + Pᵀ = 1 the second player's payoffs are the first one's."""
    n = game.n_responses
    first = second = np.log(np.arange(1.0, n + 1) / np.arange(1.0, n + 1).sum())
    against_first = 1 - np.swapaxes(game.preference, -1, -2)
    for _ in range(50):
        first, second = (
            mirror_step(first, None, payoff(game.preference, np.exp(second)), step=step),
            mirror_step(second, None, payoff(against_first, np.exp(first)), step=step),
        )
    np.testing.assert_allclose(np.exp(first), np.exp(second), atol=1e-12)
