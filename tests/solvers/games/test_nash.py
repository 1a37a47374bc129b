"""Solvers of preference games.

Golden values, certificates, oracles, degenerate games, batches, options.
"""

import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from prefsim.backend import use_backend
from prefsim.numerics import categorical_kl, softmax
from prefsim.solvers.games.certificates import best_response, exploitability, regularised_gap
from prefsim.solvers.games.nash import METHODS, NashResult, StepSizeWarning, solve_nash
from prefsim.solvers.games.policy_gradient import nash_md_pg_stationary_point
from prefsim.solvers.games.updates import UPDATES
from prefsim.solvers.results import ConvergenceWarning
from prefsim.testing.games import (
    cyclic_games,
    degenerate_games,
    games_with_reference,
    preference_games,
    transitive_games,
)
from prefsim.worlds.game import KINDS, PreferenceGame
from prefsim.worlds.textbook import TEXTBOOK_REFERENCE, textbook_game

GAME = textbook_game().preference
REFERENCE = TEXTBOOK_REFERENCE
PENALISED = [name for name, rule in UPDATES.items() if rule.penalty in ("needed", "optional")]
UNPENALISED = ["lp", *(name for name, rule in UPDATES.items() if rule.penalty == "none")]
GOLDEN = {
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
    GOLDEN[alias] = GOLDEN[name]
GAPS = {"mirror_descent": 0.0078425035, "nash_md": 0.0081220425, "egpo": 0.0069555119}
DISTANCES = {
    "mirror_descent": 0.0141535717,
    "mmd": 0.0147615800,
    "nash_md": 0.0147172090,
    "egpo": 0.0123390418,
    "optimistic": 0.0123299387,
}


def tau_of(method, tau=0.1):
    return 0.0 if method in UNPENALISED else tau


def ten_steps(method, game=GAME, **options):
    options = {
        "reference": REFERENCE,
        "tau": tau_of(method),
        "step": 0.5,
        "max_iterations": 10,
        "tolerance": 0.0,
        **options,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        return solve_nash(game, method=method, **options)


# --- golden values ---


@pytest.mark.parametrize("method", GOLDEN)
def test_ten_steps(method):
    result = ten_steps(method)
    np.testing.assert_allclose(result.policy, GOLDEN[method], atol=1e-10)
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


def test_exact_equilibrium():
    result = solve_nash(PreferenceGame(GAME), method="lp")
    np.testing.assert_allclose(result.policy, np.array([4, 2, 3]) / 9, atol=1e-11)
    assert result.converged
    assert isinstance(result, NashResult)
    assert result.average_policy is None


# --- the exact equilibrium ---


def assert_equilibrium(game, result, tolerance=1e-9):
    policy = np.asarray(result.policy)
    assert (policy >= 0).all()
    np.testing.assert_allclose(policy.sum(axis=-1), 1.0, atol=1e-12)
    # The certificate again, from the definition.
    certificate = (np.asarray(game.preference) @ policy[..., None])[..., 0].max(axis=-1) - 0.5
    assert (certificate <= tolerance).all()
    np.testing.assert_allclose(result.exploitability, certificate, atol=1e-12)
    assert np.all(result.converged)


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
    start = time.process_time()
    result = solve_nash(games, method="regularised", tau=0.05)
    together = time.process_time() - start
    assert result.policy.shape == (10_000, 10)
    assert (result.regularised_gap <= 1e-8).all()
    start = time.process_time()
    alone = [solve_nash(game, method="regularised", tau=0.05).policy for game in games[:100]]
    looped = 100 * (time.process_time() - start)
    np.testing.assert_allclose(result.policy[:100], alone, atol=1e-12)
    assert looped >= 50 * together


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


# --- warnings and errors ---


def test_a_missed_tolerance_warns():
    with pytest.warns(
        ConvergenceWarning,
        match=(
            r"solve_nash\(method='mwu'\): 1 of 1 games missed the tolerance 1e-06 after 20"
            r" iterations"
        ),
    ):
        assert not solve_nash(GAME, method="mwu", max_iterations=20, tolerance=1e-6).converged
    with pytest.warns(ConvergenceWarning, match="regularised gap"):
        solve_nash(GAME, method="egpo", tau=0.1, max_iterations=3)
    with pytest.warns(ConvergenceWarning, match="method='lp'.*exploitability"):
        solve_nash(PreferenceGame.random(20, seed=0), method="lp", max_iterations=2)
    with pytest.warns(ConvergenceWarning, match="method='regularised'"):
        solve_nash(
            PreferenceGame.random(20, seed=0), method="regularised", tau=0.03, max_iterations=0
        )


@pytest.mark.parametrize(
    ("method", "step"),
    [("mirror_descent", 0.39), ("mmd", 0.41), ("egpo", 0.51), ("optimistic", 0.51)],
)
def test_a_step_beyond_the_guarantee_warns(method, step):
    with pytest.warns(StepSizeWarning, match=f"largest with which '{method}' is known to converge"):
        solve_nash(GAME, method=method, tau=0.1, step=step, max_iterations=2, tolerance=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve_nash(GAME, method=method, tau=0.1, step=step - 0.02, max_iterations=2, tolerance=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "simplex"}, "method must be one of 'lp', 'regularised', 'mwu'.*got 'simplex'"),
        (
            {"method": "lp", "tau": 0.1},
            "method 'lp' is for games without a penalty: tau must be 0, got 0.1",
        ),
        ({"method": "mwu", "tau": 0.1}, "tau must be 0"),
        ({"method": "nash_md"}, "method 'nash_md' is for games with a penalty: tau must be > 0"),
        ({"method": "regularised"}, "tau must be > 0"),
        ({"method": "egpo", "tau": -1.0}, "tau must be a finite number >= 0"),
        (
            {"method": "lp", "reference": REFERENCE},
            "method 'lp' has no use for the option reference",
        ),
        ({"method": "lp", "step": 0.1}, "no use for the option step"),
        (
            {"method": "regret_matching", "step": 0.1},
            "method 'regret_matching' has no use for the option step",
        ),
        (
            {"method": "comal", "tau": 0.1, "step": 0.1},
            "method 'comal' has no use for the option step",
        ),
        ({"method": "comal"}, "tau must be > 0"),
        ({"method": "mwu", "momentum": 0.3}, "method 'mwu' has no use for the option momentum"),
        ({"method": "apo", "momentum": 1.0}, r"momentum must lie in \[0.0, 1.0\), got 1.0"),
        (
            {"method": "online_ipo", "tau": 0.1, "mixture": 0.3},
            "method 'online_ipo' has no use for the option mixture",
        ),
        (
            {"method": "nash_md_pg", "tau": 0.1, "mixture": 1.1},
            r"mixture must lie in \[0.0, 1.0\], got 1.1",
        ),
        (
            {"method": "regularised", "tau": 0.1, "initial": REFERENCE},
            "no use for the option initial",
        ),
        ({"method": "regularised", "tau": 0.1, "record": 1}, "no use for the option record"),
        ({"method": "egpo", "step": -0.1}, "step must be a finite number > 0"),
        ({"method": "egpo", "step": lambda t: 0.1 - t}, "step must be a finite number > 0"),
        (
            {"method": "nash_md", "tau": 0.5, "step": 2.1},
            r"step \* tau must be <= 1, got step=2.1 times tau=0.5",
        ),
        ({"method": "egpo", "max_iterations": -1}, "max_iterations must be an integer >= 0"),
        ({"method": "egpo", "tolerance": -1.0}, "tolerance must be a finite number >= 0"),
        ({"method": "egpo", "record": 1.5}, "record must be an integer >= 0"),
        (
            {"method": "egpo", "reference": [0.5, 0.5, 0.0]},
            r"reference must be > 0 everywhere, got 0.0 at index 2",
        ),
        ({"method": "egpo", "reference": [0.5, 0.6, 0.1]}, "reference must sum to 1"),
        ({"method": "egpo", "reference": [0.5, 0.5]}, "reference must have trailing shape"),
        ({"method": "egpo", "initial": [0.5, np.nan, 0.5]}, "initial must be finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        solve_nash(GAME, **options)


@pytest.mark.filterwarnings("ignore::prefsim.solvers.StepSizeWarning")
@pytest.mark.parametrize("method", ["mirror_descent", "egpo", "optimistic"])
def test_a_negative_exponent_is_refused(method):
    with pytest.raises(ValueError, match=r"step \* tau must be <= 1"):
        solve_nash(GAME, method=method, tau=0.5, step=2.5)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_bad_games(convert):
    with pytest.raises(ValueError, match=r"P \+ Pᵀ = 1"):
        solve_nash(convert([[0.5, 0.6], [0.5, 0.5]]), method="lp")
    with pytest.raises(ValueError, match="must be finite"):
        solve_nash(convert([[0.5, float("nan")], [0.5, 0.5]]), method="lp")
    with pytest.raises(ValueError, match="must have"):
        solve_nash(convert([0.5]), method="lp")


def test_the_game_is_left_as_it_was():
    games = PreferenceGame.random(5, seed=0, batch_shape=(3,)).preference
    before = games.copy()
    for method in METHODS:
        solve_nash(games, method=method, tau=tau_of(method, 0.3), tolerance=0.1)
    np.testing.assert_array_equal(games, before)


def test_each_option_changes_the_result():
    base = ten_steps("mirror_descent")
    for change in (
        {"tau": 0.2},
        {"step": 0.3},
        {"max_iterations": 9},
        {"reference": REFERENCE[::-1]},
        {"initial": REFERENCE[::-1]},
        {"tolerance": 0.03},
    ):
        assert not np.allclose(ten_steps("mirror_descent", **change).policy, base.policy), change
