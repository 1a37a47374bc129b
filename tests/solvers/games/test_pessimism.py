"""The pessimistic game against a general optimiser, its certificates and its bad inputs."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit
from prefsim.solvers.games.pessimism import PessimisticGame, win_weights
from prefsim.solvers.optimisers.box_newton import BoxProblem, minimise_in_box
from prefsim.solvers.optimisers.penalties import cross_entropy_penalty
from prefsim.testing.bandits import bandits_with_reference, betas
from prefsim.worlds import ContextualBandit

REFERENCE = TabularPolicy.from_probs([[0.4, 0.3, 0.2, 0.1]])
BASE = np.array([[0.1, 0.2, 0.3, 0.4]])


def counts(seed, n=12):
    """A small data set of four responses: separable or disconnected for some seeds."""
    rng = np.random.default_rng(seed)
    pairs = np.array([rng.choice(4, size=2, replace=False) for _ in range(n)])
    return Comparisons(np.zeros(n, dtype=int), pairs[:, 0], pairs[:, 1])


def scipy_minimum(game, eta):
    """Minimise the min–max objective by L-BFGS-B on the plain formula."""
    wins = game.wins[0]

    def objective(r):
        scores = game.log_reference[0] + r / game.beta
        top = scores.max()
        partition = top + np.log(np.exp(scores - top).sum())
        gaps = r[:, None] - r[None]
        value = eta * (game.beta * partition - game.base[0] @ r) + np.sum(
            wins * np.logaddexp(0, -gaps)
        )
        slopes = wins / (1 + np.exp(gaps))
        return value, eta * (np.exp(scores - partition) - game.base[0]) - slopes.sum(
            1
        ) + slopes.sum(0)

    bounds = list(zip(game.low[0], game.high[0], strict=True))
    return minimize(
        objective,
        np.zeros(4),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000},
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("bound", [1.0, 4.0, ([-1.0, -2.0, 0.0, 0.5], [1.0, 0.5, 3.0, 4.0])])
def test_against_a_general_optimiser(seed, bound):
    game = PessimisticGame(counts(seed), REFERENCE, BASE, beta=0.3, eta=0.1, bound=bound)
    solution, expected = game.solve(), scipy_minimum(game, 0.1)
    assert solution.converged
    assert solution.value == pytest.approx(expected.fun, abs=1e-9)
    assert solution.value <= expected.fun + 1e-13
    scores = game.log_reference[0] + expected.x / 0.3
    np.testing.assert_allclose(
        np.exp(solution.log_policy[0]), np.exp(scores) / np.exp(scores).sum(), atol=1e-5
    )


@given(
    bandits_with_reference(max_contexts=2, max_responses=4),
    betas(0.1, 2.0),
    st.floats(0.01, 2.0),
    st.floats(0.5, 5.0),
)
def test_certificates_recomputed(instance, beta, eta, bound):
    world, reference = instance
    rho = world.context_probs
    base = np.roll(reference.probs, 1, axis=-1)
    game = PessimisticGame(
        Comparisons.population(world, reference),
        reference,
        base,
        beta=beta,
        eta=eta,
        bound=bound,
        context_probs=rho,
    )
    solution = game.solve()
    assert solution.converged
    assert np.abs(solution.reward).max() <= bound
    assert solution.gap <= 1e-9
    assert solution.value == pytest.approx(
        float(game.objective(solution.log_policy, solution.reward)), abs=1e-13
    )
    # The gap says that no reward of the box is worse; the inner problem, solved by itself, agrees.
    worst = game.worst_reward(solution.log_policy)
    assert -1e-13 <= solution.value - worst.value <= solution.gap + 1e-13
    other = game.worst_reward(reference.log_probs)
    rewards = np.random.default_rng(0).uniform(-bound, bound, size=(50, *reference.probs.shape))
    assert (game.objective(reference.log_probs, rewards) >= other.value - other.gap - 1e-13).all()
    assert other.value <= solution.value + 1e-12


@settings(max_examples=10)
@given(
    bandits_with_reference(max_contexts=2, max_responses=4), betas(0.2, 1.0), st.floats(0.05, 1.0)
)
def test_all_functions_give_the_direct_fit(instance, beta, eta):
    world, reference = instance
    data, base = Comparisons.population(world, reference), np.roll(reference.probs, 1, axis=-1)
    rho = world.context_probs
    game = PessimisticGame(data, reference, base, beta=beta, eta=eta, context_probs=rho)
    penalty = cross_entropy_penalty(base, weight=eta * beta, context_probs=rho)
    direct = fit(
        reference,
        functools.partial(losses.dpo, beta=beta),
        data,
        reference=reference,
        penalty=penalty,
    )
    np.testing.assert_allclose(np.exp(game.solve().log_policy), direct.policy.probs, atol=1e-9)


def test_a_batch_is_its_members_and_eta_broadcasts():
    n = 20
    rng = np.random.default_rng(0)
    chosen = rng.integers(4, size=(5, n))
    rejected = (chosen + rng.integers(1, 4, size=(5, n))) % 4
    eta = np.array([0.0, 0.05, 0.3])
    prompt = np.zeros((1, 5, n), dtype=int)
    whole = PessimisticGame(
        Comparisons(prompt, chosen[None], rejected[None]),
        REFERENCE,
        BASE,
        beta=0.2,
        eta=eta[:, None],
        bound=4.0,
    ).solve()
    assert whole.reward.shape == (3, 5, 1, 4)
    assert whole.value.shape == whole.gap.shape == whole.residual.shape == (3, 5)
    for i in range(3):
        for j in range(5):
            one = PessimisticGame(
                Comparisons(prompt[0, 0], chosen[j], rejected[j]),
                REFERENCE,
                BASE,
                beta=0.2,
                eta=eta[i],
                bound=4.0,
            )
            np.testing.assert_allclose(one.solve().reward, whole.reward[i, j], atol=1e-9)


def test_without_an_adversary_what_is_not_compared_stays():
    solution = PessimisticGame(
        Comparisons([0], [0], [1], prob=0.8), REFERENCE, BASE, beta=0.5, eta=0.0, bound=4.0
    ).solve()
    np.testing.assert_allclose(solution.reward, [[np.log(4) / 2, -np.log(4) / 2, 0, 0]], atol=1e-9)


def test_separable_data_end_at_the_box():
    solution = PessimisticGame(
        Comparisons([0], [0], [1]), REFERENCE, BASE, beta=0.5, eta=0.0, bound=2.5
    ).solve()
    np.testing.assert_array_equal(solution.reward, [[2.5, -2.5, 0.0, 0.0]])


def test_no_minimiser_is_said():
    game = PessimisticGame(
        Comparisons([0], [0], [1]), REFERENCE, [[1.0, 0.0, 0.0, 0.0]], beta=0.1, eta=0.5
    )
    with pytest.warns(ConvergenceWarning, match="the worst reward may not exist"):
        found = game.worst_reward(REFERENCE.log_probs, max_iterations=20)
    assert not found.converged
    assert found.gap == np.inf


def test_objective_of_an_unsupported_policy():
    half = TabularPolicy.from_probs([[0.5, 0.5, 0.0, 0.0]])
    game = PessimisticGame(Comparisons([0], [0], [1]), half, BASE, beta=0.1, eta=0.5, bound=1.0)
    assert game.objective(REFERENCE.log_probs, np.zeros((1, 4))) == -np.inf
    assert np.isfinite(game.objective(half.log_probs, np.zeros((1, 4))))
    assert np.exp(game.solve().log_policy)[0, 2:].sum() == 0


@given(st.integers(0, 50))
def test_win_weights_hold_all_that_a_loss_of_differences_sees(seed):
    rng = np.random.default_rng(seed)
    world, policy = ContextualBandit.random(2, 3, seed=rng), TabularPolicy.random(2, 3, seed=rng)
    data = Comparisons.sample(world, 30, seed=rng)
    wins = win_weights(data, 2, 3)
    gaps = policy.log_probs[:, :, None] - policy.log_probs[:, None, :]
    expected = np.mean(np.logaddexp(0, -gaps[data.prompt, data.chosen, data.rejected]))
    assert np.sum(wins * np.logaddexp(0, -gaps)) == pytest.approx(expected, rel=1e-12)
    assert wins.sum() == pytest.approx(1.0)


def test_box_newton_leaves_the_problem_alone_and_needs_no_more_than_a_start_at_the_optimum():
    n = 3
    problem = BoxProblem(
        np.zeros(n),
        np.array(1.0),
        np.log(np.full(n, 1 / n)),
        0.5,
        np.zeros((n, n)),
        np.full(n, 0.2),
        np.full(n, 1.0),
    )
    found = minimise_in_box(problem, tolerance=1e-12, max_iterations=5)
    # Only the partition function is left: the lowest corner of the box.
    np.testing.assert_array_equal(found.minimiser, np.full(n, 0.2))
    assert found.iterations == 0
    assert found.gap == 0.0


GOOD = {
    "data": Comparisons([0], [0], [1]),
    "reference": REFERENCE,
    "base": BASE,
    "beta": 0.5,
    "eta": 0.1,
    "bound": 1.0,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number > 0"),
        ({"eta": -0.1}, "eta must be >= 0"),
        ({"eta": np.nan}, "eta must be finite"),
        ({"base": [[0.5, 0.5]]}, r"base must have trailing shape \(1, 4\)"),
        ({"base": [[0.5, 0.5, 0.5, 0.5]]}, "base must sum to 1"),
        ({"bound": -1.0}, "bound must have low < high"),
        ({"bound": np.nan}, "bound must have low < high"),
        ({"bound": ([0.0, 0.0], [1.0, 1.0])}, r"bound must be a number or a pair \(low, high\)"),
        ({"bound": "wide"}, r"bound must be a number or a pair \(low, high\)"),
        ({"context_probs": [0.5, 0.5]}, "context_probs must have trailing shape"),
        ({"data": Comparisons([0], [0], [4])}, "rejected must be < 4, got 4"),
        ({"data": Comparisons([1], [0], [1])}, "prompt must be < 1, got 1"),
        ({"data": Comparisons([], [], [])}, "data must hold at least one row"),
    ],
)
def test_bad_inputs(change, message):
    given_ = {**GOOD, **change}
    with pytest.raises(ValueError, match=message):
        PessimisticGame(given_.pop("data"), given_.pop("reference"), given_.pop("base"), **given_)


def test_bad_options_of_the_solver():
    game = PessimisticGame(GOOD["data"], REFERENCE, BASE, beta=0.5, eta=0.1, bound=1.0)
    with pytest.raises(ValueError, match="tolerance must be a finite number > 0"):
        game.solve(tolerance=0.0)
    with pytest.raises(ValueError, match="max_iterations must be an integer >= 1"):
        game.solve(max_iterations=0)
    with pytest.raises(ValueError, match="log_policy must have trailing shape"):
        game.worst_reward(np.zeros((1, 3)))


@pytest.mark.parametrize("name", ["base", "eta"])
def test_a_gradient_that_would_be_lost_is_refused(name):
    asks = torch.as_tensor(GOOD[name], dtype=torch.float64).requires_grad_()
    with pytest.raises(ValueError, match=f"^{name} is a torch tensor that requires a gradient"):
        PessimisticGame(**GOOD | {name: asks})


def test_a_gradient_that_the_functions_of_a_game_would_lose_is_refused():
    game = PessimisticGame(**GOOD)
    logs, reward = (torch.as_tensor(table) for table in (np.log(BASE), 0.0 * BASE))
    for call, name in (
        (lambda: game.objective(logs.clone().requires_grad_(), reward), "log_policy"),
        (lambda: game.objective(logs, reward.clone().requires_grad_()), "reward"),
        (lambda: game.worst_reward(logs.clone().requires_grad_()), "log_policy"),
    ):
        with pytest.raises(ValueError, match=f"^{name} is a torch tensor that requires"):
            call()
