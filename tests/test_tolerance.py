"""Sums and symmetries hold to the precision in which they were given, at every door alike."""

import numpy as np
import pytest
import scipy.sparse as sp

from prefsim import use_backend
from prefsim.analysis.elections import bradley_terry_winner
from prefsim.backend import to_numpy
from prefsim.checks import PROBABILITY_TOLERANCE, as_preference, as_probabilities, tolerance_of
from prefsim.data import Comparisons, Negatives, Revisions
from prefsim.data.ranked_pairs import ranked_pairs
from prefsim.data.trajectories import sample_trajectories
from prefsim.loops.preference_queue import queue_win_rates
from prefsim.loops.self_play import table_judge
from prefsim.loops.self_preferring import self_preferring
from prefsim.policies import TabularPolicy
from prefsim.policies.tokens import TokenTreePolicy
from prefsim.raters import MatrixRater, UserPopulation, mixture_preference
from prefsim.solvers import nash_path, optimal_policy, solve_nash
from prefsim.solvers.closed_forms.self_training import iterative_dpo_step
from prefsim.solvers.games.certificates import duality_gap, exploitability, regularised_gap
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.games.skew_symmetric import decompose_skew, preference_scores
from prefsim.solvers.optimisers.penalties import cross_entropy_penalty, online_kl_penalty
from prefsim.solvers.planning import policy_evaluation, policy_iteration
from prefsim.testing.games import games_near
from prefsim.worlds import ContextualBandit, PreferenceGame, TabularMDP, TokenTree

torch = pytest.importorskip("torch")

PRECISIONS = {
    "single": lambda table: table.astype(np.float32),
    "half": lambda table: table.astype(np.float16),
    "torch single": lambda table: torch.tensor(table, dtype=torch.float32),
    "torch half": lambda table: torch.tensor(table, dtype=torch.bfloat16),
}

# One table of each kind whose rounding in single precision alone is more than double precision
# allows, as the test of this name makes sure.
MARGINS = np.triu(np.random.default_rng(3).uniform(-0.5, 0.5, (4, 4)), 1)
GAME = 0.5 + MARGINS - MARGINS.T
POLICY = np.random.default_rng(1).dirichlet(np.ones(4), size=2)
MOVES = np.random.default_rng(2).dirichlet(np.ones(4), size=(4, 2))
PAID = np.arange(8.0).reshape(4, 2)
PAIR = Comparisons([0, 1], [0, 2], [1, 3])
UNIFORM = TabularPolicy.uniform(2, 4)
FIXED = TabularMDP(MOVES, PAID, discount=0.9)

TAKE_GAMES = {
    "PreferenceGame": PreferenceGame,
    "ContextualBandit": lambda p: ContextualBandit(preference=p[None]),
    "MatrixRater": MatrixRater,
    "UserPopulation": lambda p: UserPopulation([1.0], p[None]),
    "ranked_pairs": ranked_pairs,
    "queue_win_rates": lambda p: queue_win_rates(p, [0, 1, 2]),
    "table_judge": lambda p: table_judge(p[None]),
    "self_preferring": lambda p: self_preferring(
        TabularPolicy.uniform(1, 4), p[None], rounds=1, seed=0
    ),
    "iterative_dpo_step": lambda p: iterative_dpo_step(p, np.log(POLICY[0]), beta=1.0),
    "bradley_terry_winner": lambda p: bradley_terry_winner(p, POLICY[0]),
    "games_near": games_near,
    "preference_scores": preference_scores,
    "decompose_skew": lambda p: decompose_skew(p - 0.5),
    "as_preference": as_preference,
    "lp": lambda p: solve_nash(p, method="lp"),
    "mwu": lambda p: nash_path(p, method="mwu", iterations=3),
    "egpo": lambda p: solve_nash(p, method="egpo", tau=0.5, max_iterations=500, tolerance=1e-2),
    "regularised": lambda p: solve_nash(p, method="regularised", tau=0.5),
}

TAKE_PROBABILITIES = {
    "from_probs": TabularPolicy.from_probs,
    "from_sequence_probs": lambda p: TokenTreePolicy.from_sequence_probs(TokenTree(2, 2), p),
    "context_probs of a bandit": lambda p: ContextualBandit(
        reward=np.zeros((4, 2)), context_probs=p[0]
    ),
    "context_probs of a game": lambda p: PreferenceGame(
        np.full((4, 2, 2), 0.5), context_probs=p[0]
    ),
    "context_probs of a tree": lambda p: TokenTree(2, 1, context_probs=p[0]),
    "online_kl_penalty": lambda p: online_kl_penalty(
        TabularPolicy.uniform(4, 2), weight=1.0, context_probs=p[0], seed=0
    )(TabularPolicy.uniform(4, 2)),
    "cross_entropy_penalty": lambda p: cross_entropy_penalty(p, weight=1.0),
    "PessimisticGame": lambda p: PessimisticGame(PAIR, UNIFORM, p, beta=1.0, eta=0.1),
    "UserPopulation": lambda p: UserPopulation(p[0], np.full((4, 2, 2), 0.5)),
    "mixture_preference": lambda p: mixture_preference(p[0], 0 * p[0][:, None, None] + 0.5),
    "Revisions": lambda p: Revisions(PAIR, n_contexts=2, n_responses=4).joint_policy(p),
    "Negatives": lambda p: Negatives([0], [0], [[0, 1, 2, 3]], sample_weight=p[:1]),
    "bradley_terry_winner": lambda p: bradley_terry_winner(GAME, p[0]),
    "optimal_policy": lambda p: optimal_policy(0 * p, p, beta=1.0),
    "start_probs": lambda p: TabularMDP(MOVES, PAID, discount=0.9, start_probs=p[0]),
    "gymnasium": lambda p: (
        TabularMDP(MOVES, PAID, discount=0.9, start_probs=p[0]).to_gymnasium().reset(seed=0)
    ),
    "start of trajectories": lambda p: sample_trajectories(FIXED, 3, 2, start=p[0], seed=0),
    "policy_evaluation": lambda p: policy_evaluation(
        TabularMDP(np.full((2, 4, 2), 0.5), np.zeros((2, 4)), discount=0.9), p
    ),
    "exploitability": lambda p: exploitability(_beside(GAME, p), p[0]),
    "duality_gap": lambda p: duality_gap(_beside(GAME, p), p[0], p[1]),
    "regularised_gap": lambda p: regularised_gap(_beside(GAME, p), p[0], reference=p[1], tau=0.1),
    "reference": lambda p: solve_nash(GAME, method="regularised", reference=p[0], tau=0.5),
    "initial": lambda p: nash_path(GAME, method="mwu", iterations=2, initial=p[0]),
    "as_probabilities": lambda p: as_probabilities(p, "p"),
}


def _beside(table, other):
    return torch.tensor(table, dtype=other.dtype) if torch.is_tensor(other) else table


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("door", TAKE_GAMES)
def test_games_of_less_than_double_precision_are_games(door, precision):
    TAKE_GAMES[door](PRECISIONS[precision](GAME))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("door", TAKE_PROBABILITIES)
def test_probabilities_of_less_than_double_precision_are_probabilities(door, precision):
    TAKE_PROBABILITIES[door](PRECISIONS[precision](POLICY))


@pytest.mark.parametrize("precision", ["single", "torch single"])
@pytest.mark.parametrize("door", TAKE_GAMES)
def test_no_game_in_single_precision_is_refused(door, precision):
    wrong = GAME.copy()
    wrong[1, 0] += 1e-4
    with pytest.raises(ValueError, match=r"within 1e-05|S \+ Sᵀ = 0"):
        TAKE_GAMES[door](PRECISIONS[precision](wrong))


@pytest.mark.parametrize("precision", ["single", "torch single"])
@pytest.mark.parametrize("door", TAKE_PROBABILITIES)
def test_no_distribution_in_single_precision_is_refused(door, precision):
    with pytest.raises(ValueError, match="within 1e-05"):
        TAKE_PROBABILITIES[door](PRECISIONS[precision](POLICY + np.array([0.0, 0.0, 0.0, 1e-4])))


@pytest.mark.parametrize("door", TAKE_GAMES)
def test_no_game_in_double_precision_is_refused(door):
    wrong = GAME.copy()
    wrong[1, 0] += 1e-7
    with pytest.raises(ValueError, match=r"within 1e-09|S \+ Sᵀ = 0"):
        TAKE_GAMES[door](wrong)


@pytest.mark.parametrize("door", TAKE_PROBABILITIES)
def test_no_distribution_in_double_precision_is_refused(door):
    with pytest.raises(ValueError, match="within 1e-09"):
        TAKE_PROBABILITIES[door](POLICY + np.array([0.0, 0.0, 0.0, 1e-7]))


def test_the_tables_above_miss_double_precision():
    single = PRECISIONS["single"]
    game = single(GAME).astype(float)
    assert np.abs(game + game.T - 1).max() > PROBABILITY_TOLERANCE
    for table in (POLICY, MOVES):
        assert np.abs(single(table).astype(float).sum(axis=-1) - 1).max() > PROBABILITY_TOLERANCE


@pytest.mark.parametrize("sparse", [False, True])
def test_processes_of_single_precision(sparse):
    moves = PRECISIONS["single"](MOVES)
    given = sp.csr_array(moves.reshape(-1, 4)) if sparse else moves
    mdp = TabularMDP(given, PAID, discount=0.9)
    rows = to_numpy(mdp.to_dense().transitions).sum(axis=-1)
    np.testing.assert_allclose(rows, 1, atol=1e-15)
    exact = policy_iteration(FIXED).value
    np.testing.assert_allclose(policy_iteration(mdp).value, exact, rtol=1e-5)
    wrong = moves * np.float32(1.001)
    with pytest.raises(ValueError, match="transitions must sum to 1 within 1e-05"):
        TabularMDP(sp.csr_array(wrong.reshape(-1, 4)) if sparse else wrong, PAID, discount=0.9)


def test_a_process_of_single_precision_changes_its_layout():
    with use_backend("torch", dtype="float32"):
        mdp = TabularMDP(MOVES, PAID, discount=0.9)
        again = mdp.to_sparse().to_dense()
    np.testing.assert_allclose(to_numpy(again.transitions), MOVES, atol=1e-7)


@pytest.mark.parametrize("method", ["lp", "regularised"])
def test_the_game_of_a_rounded_matrix_is_solved_to_the_end(method):
    """Widened to double precision, a game in single is a game and not only nearly one."""
    options = {"method": method, "tau": 0.0 if method == "lp" else 0.3}
    widened = PreferenceGame(PRECISIONS["single"](GAME))
    np.testing.assert_array_equal(widened.preference + widened.preference.T, np.ones((4, 4)))
    result = solve_nash(widened, **options)
    assert result.converged
    exact = solve_nash(GAME, **options)
    np.testing.assert_allclose(result.policy, exact.policy, atol=1e-5)
    # A matrix stays in its precision, as pure functions leave all arrays.
    kept = solve_nash(PRECISIONS["single"](GAME), **options)
    assert kept.converged and kept.policy.dtype == np.float32
    np.testing.assert_allclose(kept.policy, exact.policy, atol=1e-4)


def test_a_softmax_of_torch_is_a_reference():
    generator = torch.Generator().manual_seed(0)
    reference = torch.softmax(torch.randn(200, 4, generator=generator), dim=-1)
    game = torch.tensor(GAME, dtype=torch.float32)
    result = solve_nash(game, method="regularised", reference=reference, tau=0.1)
    assert result.policy.shape == (200, 4) and bool(result.converged.all())


def test_the_coarsest_precision_counts():
    double, single = np.ones(1), np.ones(1, dtype=np.float32)
    assert tolerance_of(double, None, [1, 2]) == tolerance_of() == PROBABILITY_TOLERANCE
    assert tolerance_of(double, single) == tolerance_of(torch.ones(1)) == 1e-5
    assert tolerance_of([single]) == 1e-5
    assert tolerance_of(single, torch.ones(1, dtype=torch.bfloat16)) == 3e-2
