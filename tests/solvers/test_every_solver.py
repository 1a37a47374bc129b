"""Every solver runs through the same checks.

Its certificate is recomputed here by other means, and degenerate instances are solved too.

A method added to ``METHODS`` or to the planners is swept without another line.
"""

import inspect
import warnings

import numpy as np
import pytest
import torch

from prefsim.data import Comparisons
from prefsim.divergences import DIVERGENCES
from prefsim.policies import TabularPolicy
from prefsim.solvers import (
    ConvergenceWarning,
    fit_bradley_terry,
    optimal_policy,
    planning,
    regularised_optimum,
    solve_nash,
)
from prefsim.solvers.games.nash import METHODS
from prefsim.solvers.games.nash_methods import UPDATES
from prefsim.worlds import ContextualBandit, PreferenceGame, TabularMDP

GAMES = {
    "tied": np.full((4, 4), 0.5),
    "single": np.full((1, 1), 0.5),
    "cycle": np.asarray([[0.5, 1, 0], [0, 0.5, 1], [1, 0, 0.5]]),
    "twin rows": np.asarray([[0.5, 1, 1, 0], [0, 0.5, 0.5, 1], [0, 0.5, 0.5, 1], [1, 0, 0, 0.5]]),
    "dominant": np.asarray([[0.5, 0.9, 0.8], [0.1, 0.5, 0.6], [0.2, 0.4, 0.5]]),
    "tournament": np.where(np.triu(np.ones((5, 5)), 1) > 0, 1.0, np.where(np.eye(5) > 0, 0.5, 0.0)),
    "random": np.asarray(PreferenceGame.random(6, seed=0).preference),
}


def penalised(method):
    return method == "regularised" or (method in UPDATES and UPDATES[method].penalty == "needed")


def options(method):
    proximal = method in UPDATES and UPDATES[method].penalty == "proximal"
    return {"tau": 0.2} if penalised(method) or proximal else {}


def exploit(preference, policy):
    return (preference @ policy).max() - 0.5


def gap(preference, policy, tau):
    """The regularised duality gap by definition: twice the gain of the best deviation."""
    n = len(policy)
    payoffs = preference @ policy
    best = tau * np.log(np.mean(np.exp((payoffs - payoffs.max()) / tau))) + payoffs.max()
    return 2 * (best - payoffs @ policy + tau * np.sum(policy * np.log(policy * n)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GAMES)
def test_nash_certificates_hold_on_degenerate_games(method, name):
    preference = GAMES[name]
    before = preference.copy()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # the certificate says it, and is what is checked
        result = solve_nash(
            preference,
            method=method,
            max_iterations=200 if method in ("lp", "regularised") else 3000,
            **options(method),
        )
    np.testing.assert_array_equal(preference, before)
    np.testing.assert_allclose(result.policy.sum(), 1.0, rtol=1e-12)
    assert (result.policy >= 0).all()
    np.testing.assert_allclose(
        result.exploitability, max(exploit(preference, result.policy), 0), atol=1e-12
    )
    if penalised(method):
        np.testing.assert_allclose(
            result.regularised_gap, gap(preference, result.policy, 0.2), atol=1e-10
        )
    if method == "lp":
        assert result.converged and exploit(preference, result.policy) <= 1e-9
    if method == "regularised":
        assert result.converged and result.regularised_gap <= 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_nash_batch_library_and_repetition(method):
    games = np.asarray(PreferenceGame.random(4, seed=1, batch_shape=(3,)).preference)
    settings = {}
    if method in UPDATES:
        # A step of COMAL solves a game of its own.
        settings = {"max_iterations": 30 if method == "comal" else 300, "tolerance": 0}
    together = solve_nash(games, method=method, **settings, **options(method))
    again = solve_nash(games, method=method, **settings, **options(method))
    np.testing.assert_array_equal(together.policy, again.policy)
    for i in range(3):
        alone = solve_nash(games[i], method=method, **settings, **options(method))
        np.testing.assert_allclose(alone.policy, together.policy[i], atol=1e-11)
    on_torch = solve_nash(torch.as_tensor(games), method=method, **settings, **options(method))
    np.testing.assert_allclose(on_torch.policy.numpy(), together.policy, atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_nash_refuses_bad_games(method):
    for bad, message in (
        (np.full((2, 3), 0.5), "shape"),
        (np.asarray([[0.5, 0.7], [0.7, 0.5]]), r"P \+ Pᵀ = 1"),
        (np.asarray([[0.5, np.nan], [0.5, 0.5]]), "finite"),
        (np.zeros((0, 0)), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            solve_nash(bad, method=method, **options(method))


def planners():
    found = {}
    for name in planning.__all__:
        function = getattr(planning, name)
        parameters = inspect.signature(function).parameters if inspect.isfunction(function) else {}
        if (
            "mdp" in parameters
            and function.__annotations__.get("return") == "PlanningResult"
            and name != "policy_evaluation"
        ):
            found[name] = function
    return found


PLANNERS = planners()


def plan(name, mdp):
    return PLANNERS[name](mdp, **({"temperature": 0.3} if name.startswith("soft") else {}))


def worlds():
    chain = np.zeros((3, 2, 3))
    chain[0, 0, 1] = chain[0, 1, 2] = chain[1, :, 2] = chain[2, :, 2] = 1.0
    return {
        "random": TabularMDP.random(6, 3, discount=0.9, seed=0),
        "single state": TabularMDP(np.ones((1, 2, 1)), np.asarray([[1.0, 0.0]]), discount=0.5),
        "single action": TabularMDP(
            np.full((3, 1, 3), 1 / 3), np.asarray([[1.0], [0.0], [2.0]]), discount=0.9
        ),
        "all tied": TabularMDP(np.full((3, 2, 3), 1 / 3), np.zeros((3, 2)), discount=0.9),
        "terminal": TabularMDP(
            chain,
            np.asarray([[0.0, 1.0], [3.0, 0.0], [0.0, 0.0]]),
            discount=0.9,
            terminal=[False, False, True],
        ),
        "no discounting of the future": TabularMDP.random(4, 2, discount=0.0, seed=1),
    }


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("world", worlds())
def test_planning_residuals_are_recomputed(name, world):
    mdp = worlds()[world]
    result = plan(name, mdp)
    value = np.asarray(result.value)
    q = np.asarray(mdp.reward) + mdp.discount * np.einsum(
        "sat,t->sa", np.asarray(mdp.transitions), value
    )
    if name.startswith("soft"):
        backup = 0.3 * np.log(np.exp((q - q.max(1, keepdims=True)) / 0.3).sum(1)) + q.max(1)
    else:
        backup = q.max(1)
    backup = np.where(np.asarray(mdp.terminal), 0.0, backup)
    assert np.abs(backup - value).max() <= 1e-11
    assert result.converged and result.residual <= 1e-12 * max(1.0, np.abs(value).max())
    np.testing.assert_allclose(np.asarray(result.policy).sum(-1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(np.asarray(plan(name, mdp).value), value)


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**-600])
@pytest.mark.parametrize("world", ["dense", "sparse", "batch", "terminal", "finite"])
@pytest.mark.parametrize("name", [name for name in PLANNERS if not name.startswith("soft")])
def test_plans_do_not_depend_on_the_unit_of_rewards(name, world, unit):
    if world == "finite" and name != "value_iteration":
        pytest.skip("plans without end")
    mdp = {
        "dense": lambda: TabularMDP.random(7, 3, discount=0.95, seed=2),
        "sparse": lambda: TabularMDP.random_sparse(40, 3, 4, discount=0.95, seed=2),
        "batch": lambda: TabularMDP.random(5, 3, discount=0.8, seed=3, batch_shape=(2,)),
        "terminal": lambda: TabularMDP.grid_world(
            [[-0.1, -0.2, -0.1], [-0.1, -0.3, 0.9]],
            terminal=[[False] * 3, [False, False, True]],
            discount=1.0,
        ),
        "finite": lambda: TabularMDP.random(5, 3, discount=0.9, horizon=4, seed=4),
    }[world]()
    # Steps of another size in each process of a batch.
    size = unit * np.array([1.0, 2.0**-20])[:, None, None] if world == "batch" else unit
    small = mdp.replace_checked(reward=np.asarray(mdp.reward) * size)
    expected, found = plan(name, mdp), plan(name, small)
    assert np.all(found.converged)
    if world == "batch":
        size = size[..., 0]
    np.testing.assert_allclose(found.value, expected.value * size, rtol=1e-9)
    np.testing.assert_array_equal(found.policy, expected.policy)


def test_there_are_planners():
    assert {
        "value_iteration",
        "policy_iteration",
        "modified_policy_iteration",
        "linear_program",
        "soft_value_iteration",
    } == set(PLANNERS)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize(
    "reward",
    [[0.0, 0.0, 0.0], [1e3, 0.0, -1e3], [5.0], [1e-12, 0.0]],
    ids=["tied", "extreme", "single", "close"],
)
def test_closed_forms_satisfy_their_optimality_conditions(divergence, reward):
    reward = np.asarray(reward)
    reference = np.full(reward.shape, 1 / reward.size)
    found = regularised_optimum(reward, np.log(reference), beta=0.5, divergence=divergence)
    assert found.residual <= 1e-9
    policy = optimal_policy(reward, reference, beta=0.5, divergence=divergence)
    np.testing.assert_allclose(policy.sum(), 1.0, rtol=1e-12)
    assert (np.diff(policy) <= 1e-15).all()  # rewards are given in falling order


def test_maximum_likelihood_gradient_is_recomputed():
    counts = np.random.default_rng(0).integers(1, 9, (5, 5)).astype(float)
    np.fill_diagonal(counts, 0)
    result = fit_bradley_terry(counts)
    probability = 1 / (1 + np.exp(result.reward[None] - result.reward[:, None]))
    upsets = counts * (1 - probability)
    assert np.abs((upsets - upsets.T).sum(1)).max() <= 1e-9 and result.converged
    assert abs(result.reward.sum()) < 1e-10


def test_seeded_draws_repeat():
    world, policy = ContextualBandit.random(2, 3, seed=0), TabularPolicy.random(2, 3, seed=0)
    for first, second in zip(
        (
            Comparisons.sample(world, 50, seed=7, policy=policy).chosen,
            policy.sample(np.arange(2), 9, seed=7),
        ),
        (
            Comparisons.sample(world, 50, seed=7, policy=policy).chosen,
            policy.sample(np.arange(2), 9, seed=7),
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(first, second)
