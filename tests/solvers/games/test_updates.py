"""The iterative methods for preference games: reference values, limits, rates, steps."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nash_games import GAME, REFERENCE, tau_of, ten_steps

from prefsim.backend import use_backend
from prefsim.numerics import categorical_kl, softmax
from prefsim.solvers.games.certificates import exploitability
from prefsim.solvers.games.nash import METHODS, solve_nash
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.solvers.games.stationary_point import nash_md_pg_stationary_point
from prefsim.solvers.games.updates import regret_matching_update, shares
from prefsim.solvers.results import ConvergenceWarning
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    games_with_reference,
    preference_games,
)
from prefsim.worlds.game import PreferenceGame

PENALISED = [name for name, rule in UPDATES.items() if rule.penalty in ("needed", "optional")]
TEN_STEPS = {
    "mwu": (0.5962437040, 0.1951253256, 0.2086309704),
    "mirror_descent": (0.5792716323, 0.2139275578, 0.2068008099),
    "mmd": (0.5774593593, 0.2169871137, 0.2055535270),
    "nash_md": (0.5803870448, 0.2141118623, 0.2055010929),
    "egpo": (0.5739678066, 0.2147377471, 0.2112944463),
    "optimistic": (0.5739405518, 0.2147413572, 0.2113180911),
    "apo": (0.6129786448, 0.1629658193, 0.2240555359),
}


# Papers whose exact update is another's.
for alias, name in {
    "sppo": "mwu",
    "dno": "mwu",
    "spo": "mwu",
    "inpo": "mirror_descent",
    "extragradient": "egpo",
}.items():
    TEN_STEPS[alias] = TEN_STEPS[name]


GAPS = {"mirror_descent": 0.0078425035, "nash_md": 0.0081220425, "egpo": 0.0069555119}
DISTANCES = {
    "mirror_descent": 0.0141535717,
    "mmd": 0.0147615800,
    "nash_md": 0.0147172090,
    "egpo": 0.0123390418,
    "optimistic": 0.0123299387,
}


# --- reference values ---


@pytest.mark.parametrize("method", TEN_STEPS)
def test_ten_steps(method):
    result = ten_steps(method)
    np.testing.assert_allclose(result.policy, TEN_STEPS[method], atol=1e-10)
    if method in GAPS:
        assert result.regularised_gap == pytest.approx(GAPS[method], abs=1e-10)
    if method in DISTANCES:
        target = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=0.1).policy
        assert categorical_kl(np.log(target), np.log(result.policy)) == pytest.approx(
            DISTANCES[method], abs=1e-10
        )
    assert result.iterations == 10
    assert not result.converged


def test_ten_optimistic_steps_without_penalty():
    result = ten_steps("optimistic", tau=0.0)
    np.testing.assert_allclose(
        result.policy, [0.5886708443, 0.1960594930, 0.2152696628], atol=1e-10
    )
    assert result.exploitability == pytest.approx(0.0393103717, abs=1e-10)
    assert result.regularised_gap is None


def test_the_first_step_of_three_methods_is_the_same():
    for method in ("mwu", "mirror_descent", "nash_md"):
        np.testing.assert_allclose(
            ten_steps(method, max_iterations=1).policy,
            [0.5124786274, 0.2895805173, 0.1979408553],
            atol=1e-10,
        )


# --- the iterative methods ---


@pytest.mark.parametrize("method", PENALISED)
def test_default_steps_converge_to_the_regularised_equilibrium(method):
    game = PreferenceGame.random(5, seed=2, batch_shape=(4,))
    reference = softmax(np.random.default_rng(0).standard_normal((4, 5)))
    target = solve_nash(game, method="regularised", reference=reference, tau=0.5).policy
    result = solve_nash(game, method=method, reference=reference, tau=0.5)
    assert result.converged.all(), result.regularised_gap
    assert (result.regularised_gap <= 1e-8).all()
    np.testing.assert_allclose(result.policy, target, atol=2e-4)
    assert (result.iterations < 10_000).all()


@pytest.mark.parametrize("method", ["egpo", "optimistic"])
def test_last_iterates_without_a_penalty(method):
    result = solve_nash(GAME, method=method, tolerance=1e-6)
    np.testing.assert_allclose(result.policy, np.array([4, 2, 3]) / 9, atol=1e-4)
    assert result.converged


def test_hedge_converges_on_average_only():
    result = solve_nash(GAME, method="mwu", max_iterations=4000, tolerance=0.05)
    assert result.converged
    bound = np.sqrt(np.log(3) / (2 * 4000))
    full = solve_nash(
        GAME, method="mwu", max_iterations=4000, tolerance=0.0, reference=np.full(3, 1 / 3)
    )
    assert exploitability(GAME, full.average_policy) <= bound
    assert full.average_exploitability == exploitability(GAME, full.average_policy)
    assert full.exploitability > full.average_exploitability


@pytest.mark.parametrize("method", [name for name in METHODS if name != "lp"])
def test_torch_agrees(method):
    games = PreferenceGame.random(4, seed=0, batch_shape=(3,)).preference
    tau = tau_of(method, 0.3)
    options = {}
    if method != "regularised":
        # A step of COMAL solves a game of its own.
        options = {"max_iterations": 10 if method == "comal" else 50, "tolerance": 0.0}
    expected = solve_nash(games, method=method, tau=tau, **options)
    found = solve_nash(torch.tensor(games), method=method, tau=tau, **options)
    assert isinstance(found.policy, torch.Tensor)
    np.testing.assert_allclose(found.policy.numpy(), expected.policy, atol=1e-12)
    with use_backend("torch", dtype="float32"):
        single = solve_nash(PreferenceGame(games), method=method, tau=tau, **options)
    assert single.policy.dtype == torch.float32
    np.testing.assert_allclose(single.policy.numpy(), expected.policy, atol=1e-4)


def test_torch_agrees_on_the_exact_equilibrium():
    games = PreferenceGame.random(7, seed=0, batch_shape=(2, 3)).preference
    expected = solve_nash(games, method="lp")
    found = solve_nash(torch.tensor(games), method="lp")
    np.testing.assert_allclose(found.policy.numpy(), expected.policy, atol=1e-10)
    assert bool(found.converged.all())
    with use_backend("numpy", dtype="float32"):
        single = solve_nash(PreferenceGame(games), method="lp")
    assert single.policy.dtype == np.float32
    assert single.converged.all()
    assert (exploitability(games, single.policy) <= 1e-5).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_members(method):
    games = PreferenceGame.random(5, seed=1, batch_shape=(2, 3)).preference
    reference = (
        None if method == "lp" else softmax(np.random.default_rng(0).standard_normal((2, 3, 5)))
    )
    options = {
        "tau": tau_of(method, 0.4),
        **({} if method not in UPDATES else {"tolerance": 0.04, "max_iterations": 3000}),
    }
    together = solve_nash(games, method=method, reference=reference, **options)
    for index in np.ndindex(2, 3):
        alone = solve_nash(
            games[index],
            method=method,
            reference=None if reference is None else reference[index],
            **options,
        )
        np.testing.assert_allclose(together.policy[index], alone.policy, atol=1e-10)
        assert together.iterations[index] == alone.iterations
        assert bool(alone.converged)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_response_and_one_of_many_references(method):
    alone = solve_nash([[0.5]], method=method, tau=tau_of(method, 0.5))
    assert alone.policy.tolist() == [1.0]
    assert alone.converged
    if method != "lp":
        options = {} if method == "regularised" else {"max_iterations": 5, "tolerance": 0.0}
        many = solve_nash(
            GAME,
            method=method,
            tau=tau_of(method, 0.5),
            reference=[REFERENCE, REFERENCE[::-1]],
            **options,
        )
        assert many.policy.shape == (2, 3)


def test_history_records_what_was_asked():
    result = ten_steps("egpo", record=4)
    assert result.history.iteration.tolist() == [0, 4, 8, 10]
    np.testing.assert_allclose(result.history.policy[0], REFERENCE, rtol=1e-14)
    np.testing.assert_array_equal(result.history.policy[-1], result.policy)
    np.testing.assert_allclose(
        result.history.exploitability, exploitability(GAME, result.history.policy), atol=1e-15
    )
    assert result.history.regularised_gap.shape == (4,)
    played = np.stack([ten_steps("egpo", max_iterations=k).policy for k in range(4)])
    np.testing.assert_allclose(result.history.average_policy[1], played.mean(axis=0), rtol=1e-12)
    assert ten_steps("mwu", record=10).history.regularised_gap is None
    assert ten_steps("egpo").history is None


@pytest.mark.parametrize("method", ["regret_matching", "fictitious_play"])
def test_methods_without_a_step_size(method):
    game = PreferenceGame.random(5, seed=0, batch_shape=(3,), ties=0.2)
    result = solve_nash(
        game, method=method, tolerance=1e-4 if method == "regret_matching" else 0.02
    )
    assert result.converged.all()
    last = solve_nash(GAME, method=method, max_iterations=2000, tolerance=0.0, record=1)
    step = np.diff(last.history.policy, axis=0)
    if method == "fictitious_play":
        # The policy of step t is the mean of t plays after the initial one: every step moves 1/(t +
        # 2) of the way to a pure response.
        played = last.history.policy[:-1] + step * np.arange(2, 2002)[:, None]
        np.testing.assert_allclose(
            np.sort(played, axis=-1), np.broadcast_to([0, 0, 1], played.shape), atol=1e-9
        )
        np.testing.assert_array_equal(
            played.argmax(-1), (GAME @ last.history.policy[:-1, :, None])[..., 0].argmax(-1)
        )
    else:
        # The average is linear in t, and its exploitability falls like 1/T at least.
        weight = np.arange(1.0, 2001)
        expected = np.einsum("t,tn->n", weight, last.history.policy[:-1]) / weight.sum()
        np.testing.assert_allclose(last.average_policy, expected, rtol=1e-10)
        assert last.average_exploitability <= 1.0 / 2000


@given(degenerate_games(), st.floats(0.05, 2.0))
def test_proximal_points_converge_to_an_equilibrium_without_penalty(game, tau):
    result = solve_nash(game, method="comal", tau=tau, tolerance=1e-6, max_iterations=3000)
    assert result.converged
    assert result.regularised_gap is None


@given(cyclic_games(), st.floats(0.05, 1.0))
def test_proximal_points_never_move_away_from_an_equilibrium(game, tau):
    target = solve_nash(game, method="lp").policy
    run = solve_nash(game, method="comal", tau=tau, tolerance=0.0, max_iterations=20, record=1)
    distance = categorical_kl(np.log(np.maximum(target, 1e-300)), np.log(run.history.policy))
    assert (np.diff(distance) <= 1e-10).all()


@pytest.mark.parametrize("mixture", [0.0, 0.25, 0.5])
def test_the_policy_gradient_ends_at_its_stationary_point(mixture):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = solve_nash(
            GAME,
            method="nash_md_pg",
            reference=REFERENCE,
            tau=0.1,
            mixture=mixture,
            max_iterations=4000,
        )
    target = nash_md_pg_stationary_point(GAME, REFERENCE, tau=0.1, mixture=mixture)
    np.testing.assert_allclose(found.policy, target, atol=1e-4)
    assert bool(found.converged) == (mixture == 0.0)


def test_online_ipo_is_self_play_and_momentum_zero_is_multiplicative_weights():
    same = [
        solve_nash(
            GAME, method=m, reference=REFERENCE, tau=0.1, max_iterations=50, tolerance=0.0
        ).policy
        for m in ("online_ipo", "nash_md_pg")
    ]
    np.testing.assert_array_equal(*same)
    np.testing.assert_allclose(
        ten_steps("apo", momentum=0.0).policy, ten_steps("mwu").policy, rtol=1e-13
    )


def test_schedules_and_starts():
    halving = ten_steps("mirror_descent", step=lambda t: 1 / (t + 2), max_iterations=2)
    by_hand = ten_steps(
        "mirror_descent",
        step=1 / 3,
        max_iterations=1,
        initial=ten_steps("mirror_descent", step=0.5, max_iterations=1).policy,
    )
    np.testing.assert_allclose(halving.policy, by_hand.policy, rtol=1e-14)
    decreasing = ten_steps("mirror_descent", step=lambda t: 2 / (0.1 * (t + 2)), max_iterations=200)
    target = solve_nash(GAME, method="regularised", reference=REFERENCE, tau=0.1).policy
    assert categorical_kl(np.log(target), np.log(decreasing.policy)) <= 2 / (0.1**2 * 201)


@given(games_with_reference(preference_games(min_n=2)), st.floats(0.05, 2.0))
def test_linear_rates_of_the_theory(pair, tau):
    game, reference = pair
    target = np.log(solve_nash(game, method="regularised", reference=reference, tau=tau).policy)
    rates = {"mirror_descent": 1 / (1 + 4 * tau**2), "egpo": 1 - tau * min(1 / (2 * tau + 1), 0.5)}
    rates["optimistic"] = rates["egpo"]
    for method, rate in rates.items():
        run = solve_nash(
            game,
            method=method,
            reference=reference,
            tau=tau,
            max_iterations=30,
            tolerance=0.0,
            record=1,
        )
        distance = categorical_kl(target, np.log(run.history.policy))
        assert (distance <= rate ** np.arange(31) * distance[0] + 1e-12).all(), method


def test_magnetic_is_mirror_descent_with_a_shorter_step():
    magnetic = ten_steps("mmd", step=0.5)
    explicit = ten_steps("mirror_descent", step=0.5 / 1.05)
    np.testing.assert_allclose(magnetic.policy, explicit.policy, rtol=1e-13)


@pytest.mark.parametrize("method", ["mwu", "sppo", "apo"])
def test_the_default_step_of_multiplicative_weights_is_that_of_its_bound(method):
    """√(8 log n / T) for T updates: the regret is then at most √(T log n / 2)."""
    default, explicit = (
        solve_nash(GAME, method=method, max_iterations=50, tolerance=0.0, **step)
        for step in ({}, {"step": np.sqrt(8 * np.log(3) / 50)})
    )
    np.testing.assert_allclose(default.policy, explicit.policy, rtol=1e-12)


@pytest.mark.parametrize("step", [np.float64(1.0), 1, np.float32(1.0)])
def test_a_step_is_a_number_of_any_kind(step):
    plain = ten_steps("mwu", step=1.0)
    np.testing.assert_array_equal(ten_steps("mwu", step=step).policy, plain.policy)
    # The precision is that of the game, whatever the step is held in.
    single = ten_steps("mwu", game=GAME.astype(np.float32), step=step)
    assert single.policy.dtype == np.float32


def test_shares_of_masses():
    mass = np.array([[1.0, 3.0], [0.0, 0.0]])
    np.testing.assert_array_equal(shares(mass, otherwise=0.5), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_array_equal(shares(mass[0], otherwise=0.5), [0.25, 0.75])
    policy = np.array([[0.1, 0.9], [0.3, 0.7]])
    np.testing.assert_array_equal(shares(mass, otherwise=policy), [[0.25, 0.75], [0.3, 0.7]])
    np.testing.assert_array_equal(shares(mass[1], otherwise=policy[1]), policy[1])


def test_regret_matching_of_equals_stays_uniform():
    """Where no response is regretted there is no mass to share."""
    result = solve_nash(np.full((3, 3), 0.5), method="regret_matching", max_iterations=3)
    np.testing.assert_allclose(result.policy, 1 / 3, rtol=1e-15)
    policy, regret = np.array([0.2, 0.3, 0.5]), np.zeros(3)
    new, left = regret_matching_update((policy, regret), np.full((3, 3), 0.5), None)
    np.testing.assert_allclose(new, 1 / 3, rtol=1e-15)
    np.testing.assert_array_equal(left, 0.0)
