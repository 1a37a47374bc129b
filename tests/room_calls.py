"""A valid call of what solves, plays, draws and makes worlds, by name, for sweeps of arguments."""

from __future__ import annotations

import functools
import importlib

import numpy as np

from prefsim import losses, solvers
from prefsim.analysis import difference_covariance, estimate_covariance, feature_differences
from prefsim.data import (
    Comparisons,
    Rankings,
    Revisions,
    ScoredPairs,
    Segments,
    properties,
    routing,
)
from prefsim.data.cross_task import transferred_preference
from prefsim.data.drawn import judged_triples, labelled_pairs
from prefsim.data.episodes import enumerate_episodes
from prefsim.data.replicates import replicated_comparisons
from prefsim.data.trajectories import enumerate_trajectories, sample_trajectories
from prefsim.loops import front_extension
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import (
    coupled_distances,
    gromov_wasserstein,
    pareto,
    performance_model,
    planning,
)
from prefsim.solvers.bandit_feedback import bonuses, covariance, estimates
from prefsim.solvers.games import (
    certificates,
    correlated,
    nash,
    optimism,
    pessimism,
    policy_gradient,
    preference_embedding,
    skew_symmetric,
    stationary_point,
)
from prefsim.solvers.likelihood import (
    linear_reward,
    logistic_posterior,
    plackett_luce,
    prompt_classifier,
    rationality,
    reward_heads,
    reward_learning,
    sparse_logistic,
)
from prefsim.solvers.online_learning import ftpl, ftrl, hedge, linear_attention, log_barrier
from prefsim.solvers.optimisers import penalties, token_policy_gradient, trust_region
from prefsim.solvers.optimisers import policy_gradient as score_gradients
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum
from prefsim.solvers.planning import layered
from prefsim.worlds import ContextualBandit, LinearMDP, TabularMDP, TokenTree

LOOPS = {
    name: importlib.import_module(f"prefsim.loops.{name}")
    for name in ("acceleration", "online_play", "preference_queue", "refreshed", "self_play")
}
RNG = np.random.default_rng(0)
GAME = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
POLICY, UNIFORM = np.array([0.2, 0.3, 0.5]), np.full(3, 1 / 3)
LOGS, LOG_UNIFORM = np.log(POLICY), np.log(UNIFORM)
MDP = TabularMDP.random(4, 3, discount=0.8, seed=0)
TWO_REWARDS = TabularMDP(MDP.transitions, np.stack([MDP.reward, -MDP.reward]), discount=0.8)
MATRIX = np.array([[1.0, 4.0, 0.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0], [2.0, 2.0, 0.5]])
Q, EACH = np.asarray(MDP.reward), np.full((4, 3), 1 / 3)
MOVES, VALUE = np.asarray(MDP.transitions), np.ones(4)
FEATURES = RNG.standard_normal((4, 3, 2))
SEGMENTS = Segments.sample(MDP, 10, 2, seed=0, scores=Q)
TABLE = TabularPolicy.uniform(2, 3)
WORLD = ContextualBandit(reward=RNG.standard_normal((2, 3)))
PAIRS = Comparisons([0, 0, 1], [0, 1, 2], [1, 0, 1], prob=[0.6, 0.7, 0.8])
TWO_GAMES = np.stack([GAME, GAME])
JUDGE = LOOPS["self_play"].table_judge(TWO_GAMES)
BOXED = pessimism.PessimisticGame(
    PAIRS, TABLE, np.asarray(TABLE.probs), beta=0.5, eta=0.1, bound=1.0
)
COUNTS = np.array([[0.0, 3.0, 2.0], [1.0, 0.0, 2.0], [2.0, 1.0, 0.0]])
LIBRARY = reward_learning.policy_library(MDP, FEATURES, 2, seed=0)
MARGIN, FIRST = np.array([1.0, -0.5, 2.0, 0.5]), np.array([1.0, 0.25, 0.0, 0.5])
TREE = TokenTree(2, 2, end_token=1)
ON_TREE = TokenTreePolicy.uniform(TREE)
BINARY = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
DISTANCES = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])
LEAVES = np.array([[0.5, -1.0, 2.0]])
TOKENS = np.array([[[0.5, -1.0], [2.0, 0.25]]])
WHOLE = TokenTreePolicy.uniform(TokenTree(2, 2))
PLACES = np.array([[[0.5, 1.0], [-1.0, 0.25], [2.0, -0.5], [1.5, 0.75]]])

LINEAR = LinearMDP.random(2, 2, 2, 3, seed=0)
LAYER_MOVES, LAYER_EVENLY = np.asarray(LINEAR.transitions), np.full((2, 2, 2), 0.5)
LAYER_COSTS, PAIR_WEIGHTS = RNG.random((2, 2, 2)), RNG.standard_normal((4, 4))
PAIR_FEATURES, PAIR_LAW = np.asarray(LINEAR.pair_features[0]), np.full(4, 0.25)


def call(function, **arguments):
    return function, arguments


STEP = {"step": 0.5, "tau": 0.1}
PENALTY = {"reference": UNIFORM, "tau": 0.1}
BACKUP = {"transitions": MOVES, "reward": Q, "value": VALUE, "discount": 0.9}
OPPONENT = {"log_policy": LOGS, "log_reference": LOG_UNIFORM, "log_opponent": LOGS, "tau": 0.1}
FIT = {"policy": TABLE, "loss": losses.ipo, "data": PAIRS, "reference": TABLE}

CALLS = {
    # games
    "exploitability": call(certificates.exploitability, preference=GAME, policy=POLICY),
    "duality_gap": call(certificates.duality_gap, preference=GAME, policy=POLICY, opponent=UNIFORM),
    "best_response": call(certificates.best_response, preference=GAME, policy=POLICY),
    "soft best_response": call(
        certificates.best_response, preference=GAME, policy=POLICY, **PENALTY
    ),
    "expected_preference": call(
        certificates.expected_preference,
        preference=GAME,
        policy=POLICY,
        opponent=UNIFORM,
        **PENALTY,
    ),
    "regularised_gap": call(
        certificates.regularised_gap, preference=GAME, policy=POLICY, **PENALTY
    ),
    "geometric_mixture": call(
        certificates.geometric_mixture, log_policy=LOGS, log_reference=LOG_UNIFORM, weight=0.3
    ),
    "mirror_step": call(
        certificates.mirror_step, log_policy=LOGS, log_reference=LOG_UNIFORM, payoffs=POLICY, **STEP
    ),
    "policy_gradient": call(policy_gradient.policy_gradient, preference=GAME, **OPPONENT),
    "sampled_policy_gradient": call(
        policy_gradient.sampled_policy_gradient,
        preference=GAME,
        n=2,
        seed=0,
        baseline=0.5,
        **OPPONENT,
    ),
    "nash_md_pg_gradient": call(
        policy_gradient.nash_md_pg_gradient,
        preference=GAME,
        log_policy=LOGS,
        log_reference=LOG_UNIFORM,
        tau=0.1,
        mixture=0.2,
    ),
    "moving_average": call(
        policy_gradient.moving_average, average=LOGS, parameters=LOG_UNIFORM, rate=0.5
    ),
    "gpo_update": call(skew_symmetric.gpo_update, log_policy=LOGS, scores=GAME - GAME.T, beta=0.5),
    "solve_nash": call(
        nash.solve_nash,
        game=GAME,
        method="mirror_descent",
        initial=POLICY,
        step=0.5,
        max_iterations=2,
        tolerance=1.0,
        record=1,
        **PENALTY,
    ),
    "nash_path": call(
        nash.nash_path,
        game=GAME,
        method="nash_md_pg",
        iterations=2,
        record=1,
        initial=POLICY,
        step=0.5,
        mixture=0.5,
        **PENALTY,
    ),
    "nash_md_pg_stationary_point": call(
        stationary_point.nash_md_pg_stationary_point,
        game=GAME,
        reference=UNIFORM,
        tau=0.4,
        mixture=0.1,
    ),
    "PessimisticGame": call(
        pessimism.PessimisticGame,
        data=PAIRS,
        reference=TABLE,
        base=np.full((2, 3), 1 / 3),
        beta=0.5,
        eta=np.array(0.1),
        bound=np.array(1.0),
        context_probs=np.array([0.25, 0.75]),
    ),
    "PessimisticGame.objective": call(
        BOXED.objective, log_policy=np.log(np.full((2, 3), 1 / 3)), reward=np.ones((2, 3))
    ),
    "PessimisticGame.worst_reward": call(
        BOXED.worst_reward,
        log_policy=np.log(np.full((2, 3), 1 / 3)),
        tolerance=1e-9,
        max_iterations=50,
    ),
    "PessimisticGame.solve": call(BOXED.solve, tolerance=1e-9, max_iterations=50),
    "reward_misfit": call(pessimism.reward_misfit, reward=POLICY[None], wins=COUNTS[None]),
    "optimistic_reward": call(
        optimism.optimistic_reward,
        game=BOXED,
        starts=np.zeros((1, 2, 3)),
        tolerance=1e-6,
        max_iterations=50,
    ),
    "fit_preference_embedding": call(
        preference_embedding.fit_preference_embedding,
        wins=COUNTS,
        dim=2,
        ridge=0.1,
        starts=1,
        seed=0,
        tolerance=1e-6,
        max_iterations=50,
    ),
    "decompose_skew": call(skew_symmetric.decompose_skew, scores=GAME - GAME.T, dim=2),
    "preference_scores": call(skew_symmetric.preference_scores, preference=GAME),
    # likelihood
    "fit_plackett_luce": call(
        plackett_luce.fit_plackett_luce,
        rankings=np.array([[0, 1, 2], [2, 1, 0], [1, 2, -1]]),
        n_items=3,
        weight=np.array([1.0, 2.0, 0.5]),
        unranked="below",
        ridge=0.1,
        tolerance=1e-9,
        max_iterations=50,
    ),
    "fit_prompt_classifier": call(
        prompt_classifier.fit_prompt_classifier,
        features=MARGIN[:, None],
        desirable=np.array([True, False, True, False]),
        ridge=0.1,
    ),
    "fit_rationality": call(
        rationality.fit_rationality, margin=MARGIN, prob=FIRST, weight=np.ones(4)
    ),
    "fit_sparse_logistic": call(
        sparse_logistic.fit_sparse_logistic,
        features=np.eye(4)[:, :2],
        prob=FIRST,
        scale=0.5,
        weight=np.ones(4),
        tolerance=1e-6,
        max_iterations=500,
    ),
    "logistic_posterior": call(
        logistic_posterior.logistic_posterior,
        features=np.eye(4)[:, :3],
        prob=FIRST,
        scale=0.5,
        weight=np.ones(4),
        draws=512,
        seed=0,
    ),
    "fit_performance": call(
        performance_model.fit_performance,
        counts=np.eye(5)[:, :2],
        scores=np.arange(5.0),
        degree=2,
        ridge=0.1,
    ),
    "learn_performance": call(
        performance_model.learn_performance,
        features=BINARY,
        human=FIRST,
        model=FIRST[::-1],
        score=lambda labels: labels.sum(axis=-1),
        candidates=8,
        held_out=0.25,
        degree=1,
        seed=0,
    ),
    "cross_validated_loss": call(
        rationality.cross_validated_loss, margin=np.tile(MARGIN, 3), prob=np.tile(FIRST, 3), folds=2
    ),
    "fit_reward_heads": call(
        reward_heads.fit_reward_heads,
        layers=[np.zeros((1, 2, 2)), np.zeros((1, 1, 2))],
        steps=FEATURES,
        pairs=np.array([[0, 1], [1, 2]]),
        prob=np.array([0.7, 0.2]),
        activation="tanh",
        ridge=0.1,
        max_iterations=2,
    ),
    "fit_regret_reward": call(
        reward_learning.fit_regret_reward,
        segments=SEGMENTS,
        mdp=MDP,
        features=FEATURES,
        start=np.ones((1, 2)),
        learning_rate=0.1,
        iterations=2,
        segment_discount=0.5,
    ),
    "fit_regret_reward_library": call(
        reward_learning.fit_regret_reward_library,
        segments=SEGMENTS,
        features=FEATURES,
        library=LIBRARY,
        temperature=0.1,
        learning_rate=0.1,
        iterations=2,
        start=np.ones(2),
    ),
    "off_policy_limit": call(
        score_gradients.off_policy_limit,
        reward=POLICY,
        log_behaviour=LOGS,
        log_reference=LOG_UNIFORM,
        beta=0.5,
        baseline=np.array(0.0),
    ),
    # transport
    "distance_matrix": call(coupled_distances.distance_matrix, points=Q, normalise=True),
    "gromov_wasserstein_cost": call(
        coupled_distances.gromov_wasserstein_cost,
        source=DISTANCES,
        target=DISTANCES[:2, :2],
        coupling=np.full((3, 2), 1 / 6),
    ),
    "stationarity_gap": call(
        gromov_wasserstein.stationarity_gap,
        source=DISTANCES,
        target=DISTANCES[:2, :2],
        coupling=np.full((3, 2), 1 / 6),
    ),
    "gromov_wasserstein": call(
        gromov_wasserstein.gromov_wasserstein,
        source=DISTANCES,
        target=DISTANCES[:2, :2],
        source_mass=POLICY,
        target_mass=np.array([0.25, 0.75]),
        restarts=1,
        seed=0,
        tolerance=1e-6,
        max_iterations=50,
    ),
    "entropic_gromov_wasserstein": call(
        gromov_wasserstein.entropic_gromov_wasserstein,
        source=DISTANCES,
        target=DISTANCES[:2, :2],
        entropy=1.0,
        source_mass=POLICY,
        target_mass=np.array([0.25, 0.75]),
        tolerance=1e-6,
        max_iterations=50,
    ),
    # planning
    "action_values": call(planning.action_values, **BACKUP),
    "bellman_backup": call(planning.bellman_backup, **BACKUP),
    "soft_bellman_backup": call(
        planning.soft_bellman_backup,
        **BACKUP,
        temperature=0.3,
        log_reference=np.log(EACH),
        terminal=np.zeros(4, dtype=bool),
    ),
    "greedy_policy": call(planning.greedy_policy, q_value=Q),
    "soft_policy": call(
        planning.soft_policy, q_value=Q, temperature=0.3, log_reference=np.log(EACH)
    ),
    "soft_maximum": call(planning.soft_maximum, q_value=Q, temperature=0.3),
    "value_iteration": call(
        planning.value_iteration,
        mdp=MDP,
        initial_value=VALUE,
        tolerance=1e-6,
        max_iterations=100,
    ),
    "soft_value_iteration": call(
        planning.soft_value_iteration,
        mdp=MDP,
        temperature=0.3,
        reference=EACH,
        method="newton",
        tolerance=1e-6,
        max_iterations=100,
    ),
    "policy_iteration": call(
        planning.policy_iteration, mdp=MDP, tolerance=1e-6, max_iterations=100
    ),
    "modified_policy_iteration": call(
        planning.modified_policy_iteration,
        mdp=MDP,
        tolerance=1e-6,
        max_iterations=100,
        sweeps=5,
        contraction=0.5,
    ),
    "linear_program": call(planning.linear_program, mdp=MDP, tolerance=1e-6),
    "advantages": call(planning.advantages, mdp=MDP, policy=EACH),
    "soft advantages": call(planning.advantages, mdp=MDP, temperature=0.3),
    "successor_features": call(
        planning.successor_features, mdp=MDP, policy=EACH, features=FEATURES
    ),
    "soft_backup": call(planning.soft_backup, policy=ON_TREE, leaf_values=LEAVES),
    "soft_backup of tokens": call(
        planning.soft_backup, policy=ON_TREE, token_values=TOKENS, discount=0.9
    ),
    "expected_backup": call(
        planning.expected_backup,
        policy=ON_TREE,
        leaf_values=LEAVES,
        token_values=TOKENS,
        discount=0.9,
    ),
    "token_gradient_in_tree": call(planning.token_gradient_in_tree, policy=WHOLE, weights=PLACES),
    "token_policy_gradient": call(
        token_policy_gradient.token_policy_gradient,
        policy=WHOLE,
        rewards=PLACES,
        critic=np.array([[0.5, -0.25, 1.0]]),
        discount=0.9,
        trace=0.8,
    ),
    "pessimistic_reward": call(
        linear_reward.pessimistic_reward,
        features=BINARY,
        weights=np.array([1.0, -0.5]),
        differences=BINARY[:3] - BINARY[1:],
        radius=0.5,
        ridge=0.3,
        baseline=np.array([0.25, 0.5]),
    ),
    "TokenTree.along": call(TREE.along, table=TOKENS[0]),
    "prefix_values": call(
        planning.prefix_values,
        policy=TokenTreePolicy.uniform(TokenTree(2, 2)),
        rewards=np.array([[[0.0, 4.0], [0.0, 2.0], [1.0, 0.0], [-1.0, 1.0]]]),
    ),
    "log_linear_optimum": call(
        log_linear_optimum,
        reward=np.asarray(WORLD.reward),
        features=FEATURES[:2],
        ref_log_probs=np.log(np.full((2, 3), 1 / 3)),
        beta=0.5,
        context_probs=np.array([0.5, 0.5]),
    ),
    "score_gradient_in_tree": call(planning.score_gradient_in_tree, policy=ON_TREE, weights=LEAVES),
    "policy_evaluation": call(planning.policy_evaluation, mdp=MDP, policy=EACH),
    "objective_returns": call(planning.objective_returns, mdp=TWO_REWARDS, policy=EACH),
    "constrained_program": call(
        planning.constrained_program,
        mdp=TWO_REWARDS,
        weights=np.array([1.0, 0.0]),
        at_least=np.array([-1e9, -1e9]),
    ),
    "largest_slack": call(
        planning.largest_slack, mdp=TWO_REWARDS, at_least=np.array([-20.0, -10.0])
    ),
    "log_barrier_optimum": call(
        planning.log_barrier_optimum,
        mdp=TWO_REWARDS,
        weights=np.array([1.0, 0.0]),
        at_least=np.array([-20.0, -10.0]),
        sharpness=10.0,
        max_iterations=100,
    ),
    "constrained_step": call(
        trust_region.constrained_step,
        gradient=POLICY,
        constraint_gradient=UNIFORM,
        excess=np.array(-0.1),
        curvature=np.eye(3),
        radius=0.1,
    ),
    "barrier_penalty": call(
        trust_region.barrier_penalty, slack=POLICY, sharpness=20.0, floor=0.01, extended=True
    ),
    "non_dominated": call(pareto.non_dominated, points=MATRIX, tolerance=0.1),
    "crowding_distance": call(pareto.crowding_distance, points=MATRIX),
    "weight_grid": call(pareto.weight_grid, n_objectives=3, parts=2),
    "convex_coverage_set": call(
        pareto.convex_coverage_set,
        best=lambda weights: MATRIX[np.argmax(MATRIX @ weights)],
        n_objectives=3,
        tolerance=1e-9,
        max_points=10,
    ),
    "convex_front": call(pareto.convex_front, mdp=TWO_REWARDS, tolerance=1e-9),
    "least_returns": call(
        front_extension.least_returns, returns=POLICY, objective=1, share=0.9, bound="lowered"
    ),
    "occupancy": call(planning.occupancy, mdp=MDP, policy=EACH),
    "TabularMDP": call(
        TabularMDP,
        transitions=MOVES,
        reward=Q,
        discount=0.9,
        start_probs=np.full(4, 0.25),
        terminal=np.zeros(4, dtype=bool),
    ),
    "TabularMDP.random": call(
        TabularMDP.random,
        n_states=3,
        n_actions=2,
        discount=0.9,
        seed=0,
        deterministic=True,
        transition_rewards=False,
    ),
    "TabularMDP.grid_world": call(
        TabularMDP.grid_world,
        reward=np.zeros((2, 2)),
        terminal=np.array([[False, False], [False, True]]),
        discount=0.9,
    ),
    "ContextualBandit.random": call(
        ContextualBandit.random, n_contexts=2, n_responses=3, seed=0, scale=1.0
    ),
    # data
    "transferred_preference": call(
        transferred_preference, coupling=np.full((3, 2), 1 / 6), preference=GAME
    ),
    "compare_scores": call(
        properties.compare_scores, first=Q, second=Q[::-1], way="normalised", limit=3.0
    ),
    "compare_lengths": call(
        properties.compare_lengths, first=np.array([3, 40]), second=np.array([9, 41])
    ),
    "normalised_length_difference": call(
        properties.normalised_length_difference,
        first=np.array([3, 40]),
        second=np.array([9, 41]),
        limit=100,
    ),
    "feature_counts": call(
        routing.feature_counts, features=BINARY, routed=np.array([True, False, True, False])
    ),
    "routed_labels": call(
        routing.routed_labels,
        human=FIRST,
        model=FIRST[::-1],
        routed=np.array([True, False, True, False]),
    ),
    "route_candidates": call(
        routing.route_candidates, features=BINARY, budgets=np.array([1, 3]), seed=0
    ),
    "route_top": call(routing.route_top, gains=MARGIN, budget=2),
    "route_above": call(routing.route_above, gains=MARGIN, threshold=0.1),
    "ScoredPairs.sample": call(
        ScoredPairs.sample, world=WORLD, n=2, seed=0, policy=TABLE, against=TABLE
    ),
    "ScoredPairs.population": call(
        ScoredPairs.population, world=WORLD, policy=TABLE, against=TABLE
    ),
    "Rankings.sample": call(Rankings.sample, world=WORLD, n=2, k=2, seed=0),
    "Revisions": call(Revisions, comparisons=PAIRS, n_contexts=2, n_responses=3),
    "Segments.sample": call(Segments.sample, mdp=MDP, n=2, length=2, seed=0, scores=Q),
    "sample_trajectories": call(
        sample_trajectories, mdp=MDP, n=2, length=2, seed=0, start=np.full(4, 0.25)
    ),
    "enumerate_trajectories": call(
        enumerate_trajectories, mdp=MDP, length=1, policy=TabularPolicy.uniform(4, 3)
    ),
    "judged_triples": call(judged_triples, world=WORLD, opponent=TABLE, n=2, seed=0, sampler=TABLE),
    "labelled_pairs": call(
        labelled_pairs, world=WORLD, policy=TABLE, n=2, seed=0, opponent=TABLE, distinct=False
    ),
    "replicated_comparisons": call(
        replicated_comparisons,
        world=WORLD,
        n=2,
        replicates=2,
        seed=0,
        policy=TABLE,
        distinct=True,
    ),
    "feature_differences": call(feature_differences, data=PAIRS, features=FEATURES),
    "difference_covariance": call(difference_covariance, data=PAIRS, features=FEATURES),
    "estimate_covariance": call(estimate_covariance, data=PAIRS, features=FEATURES, beta=0.5),
    # loops
    "accelerate": call(
        LOOPS["acceleration"].accelerate,
        improve=lambda policy, _: policy,
        policy=TABLE,
        momentum=0.5,
        rounds=2,
    ),
    "extrapolate_policy": call(
        LOOPS["acceleration"].extrapolate_policy, policy=TABLE, before=TABLE, momentum=0.5
    ),
    "win_rates": call(
        LOOPS["self_play"].win_rates, preference=GAME, weight=UNIFORM, include_self=True
    ),
    "judged_samples": call(
        LOOPS["self_play"].judged_samples,
        policy=TABLE,
        judge=JUDGE,
        prompt=np.array([0, 1]),
        n_samples=2,
        include_self=True,
        seed=0,
    ),
    "self_play": call(
        LOOPS["self_play"].self_play,
        policy=TABLE,
        loss=losses.ipo,
        judge=JUDGE,
        rounds=1,
        n_samples=2,
        include_self=True,
        train=lambda policy, *_: policy,
        seed=0,
    ),
    "queue_win_rates": call(
        LOOPS["preference_queue"].queue_win_rates,
        preference=GAME,
        queue=np.array([0, 1]),
        include_self=False,
    ),
    "refreshed_negatives": call(
        LOOPS["refreshed"].refreshed_negatives,
        prompt=np.array([0, 1]),
        rejected=np.array([0, 1]),
        n_samples=2,
        weight=np.array([0.5, 0.5]),
    ),
    # layers, and losses that are met alone
    "layered_values": call(
        layered.layered_values,
        transitions=LAYER_MOVES,
        costs=LAYER_COSTS,
        policy=LAYER_EVENLY,
        growth=1.5,
    ),
    "layered_occupancy": call(
        layered.layered_occupancy,
        transitions=LAYER_MOVES,
        policy=LAYER_EVENLY,
        start_probs=np.array([1.0, 0.0]),
    ),
    "layered_optimum": call(layered.layered_optimum, transitions=LAYER_MOVES, costs=LAYER_COSTS),
    "linear_q_residual": call(
        layered.linear_q_residual,
        transitions=LAYER_MOVES,
        costs=LAYER_COSTS,
        features=np.asarray(LINEAR.features),
        policy=LAYER_EVENLY,
    ),
    "enumerate_episodes": call(enumerate_episodes, world=LINEAR, policy=LAYER_EVENLY),
    "log_barrier_step": call(log_barrier.log_barrier_step, costs=LEAVES, step=0.5),
    "log_barrier": call(log_barrier.log_barrier, policy=POLICY),
    "feature_covariance": call(covariance.feature_covariance, features=PAIR_FEATURES, law=PAIR_LAW),
    "regularised_inverse": call(
        covariance.regularised_inverse, covariance=np.diag([0.5, 0.2]), gamma=0.1
    ),
    "resampled_inverse": call(
        covariance.resampled_inverse, draws=RNG.random((2, 3, 2)), gamma=0.1, scale=0.5
    ),
    "expected_resampled_inverse": call(
        covariance.expected_resampled_inverse,
        covariance=np.diag([0.5, 0.2]),
        gamma=0.1,
        scale=0.5,
        length=3,
    ),
    "empirical_inverse": call(
        covariance.empirical_inverse,
        features=PAIR_FEATURES,
        counts=np.array([1.0, 2.0, 0.0, 1.0]),
        gamma=0.1,
    ),
    "expected_empirical_inverse": call(
        covariance.expected_empirical_inverse,
        features=PAIR_FEATURES,
        law=PAIR_LAW,
        gamma=0.1,
        draws=2,
    ),
    "relative_spectrum": call(
        covariance.relative_spectrum,
        inverse=np.diag([2.0, 3.0]),
        covariance=np.diag([0.5, 0.2]),
        gamma=0.1,
    ),
    "estimate_weights": call(
        estimates.estimate_weights, features=PAIR_FEATURES, inverse=np.diag([1.0, 2.0, 3.0])
    ),
    "standard_estimate": call(
        estimates.standard_estimate,
        weights=PAIR_WEIGHTS,
        played=np.array([0, 3]),
        loss=np.array([0.5, 1.5]),
    ),
    "reduced_estimate": call(
        estimates.reduced_estimate,
        weights=PAIR_WEIGHTS,
        law=PAIR_LAW,
        played=np.array([0, 3]),
        loss=np.array([0.5, 1.5]),
        bound=2.0,
    ),
    "expected_negative_part": call(
        estimates.expected_negative_part, weights=PAIR_WEIGHTS, law=PAIR_LAW
    ),
    "magnitude_reduced": call(estimates.magnitude_reduced, values=PAIR_WEIGHTS, law=PAIR_LAW),
    "estimate_moments": call(estimates.estimate_moments, estimates=PAIR_WEIGHTS, prob=PAIR_LAW),
    "exploration_bonus": call(
        bonuses.exploration_bonus,
        weights=PAIR_WEIGHTS,
        policy=LAYER_EVENLY[0],
        strength=0.1,
    ),
    "dilated_bonus": call(
        bonuses.dilated_bonus,
        transitions=LAYER_MOVES,
        bonus=LAYER_COSTS,
        policy=LAYER_EVENLY,
    ),
    "play_online": call(
        LOOPS["online_play"].play_online, learner=lambda past: np.ones(3), losses=np.eye(3)
    ),
    "play_bandit": call(LOOPS["online_play"].play_bandit, losses=np.abs(GAME), step=0.5, seed=0),
    "play_game": call(
        LOOPS["online_play"].play_game,
        learners=[lambda past: UNIFORM] * 2,
        losses=[GAME, -GAME],
        rounds=2,
    ),
    # online learning
    "hedge": call(hedge.hedge, cumulative_loss=MARGIN[:3], step=0.5, log_start=LOGS),
    "hedge_step": call(hedge.hedge_step, rounds=5, actions=3, width=2.0),
    "hedge_bound": call(hedge.hedge_bound, rounds=5, actions=3, width=2.0),
    "importance_weighted_loss": call(
        hedge.importance_weighted_loss,
        played_loss=np.array([0.5, 1.0]),
        action=np.array([0, 2]),
        policy=np.stack([POLICY, UNIFORM]),
    ),
    "ftrl": call(ftrl.ftrl, cumulative_loss=MARGIN[:3], step=0.5, regulariser=ftrl.tsallis(0.5)),
    "tsallis": call(ftrl.tsallis, order=2.0),
    "ftrl_ball": call(ftrl.ftrl_ball, cumulative_loss=MARGIN[:3], step=0.5, radius=2.0),
    "project_to_simplex": call(ftrl.project_to_simplex, points=MARGIN),
    "project_to_ball": call(ftrl.project_to_ball, points=MARGIN, radius=0.5),
    "ftpl": call(ftpl.ftpl, cumulative_loss=MARGIN[:3], scale=0.5, noise="laplace"),
    "posterior_scale": call(ftpl.posterior_scale, rounds=3, prior=0.5, noise=2.0),
    "cumulative_before": call(linear_attention.cumulative_before, losses=GAME),
    "attention_decisions": call(
        functools.partial(
            linear_attention.attention_decisions, linear_attention.LinearAttention.random(3, seed=0)
        ),
        losses=GAME,
        output="ball",
        radius=0.5,
    ),
    "averaged_play": call(
        correlated.averaged_play, decisions=[np.stack([POLICY, UNIFORM]), np.eye(2)]
    ),
    "coarse_correlated_gaps": call(
        correlated.coarse_correlated_gaps, losses=[GAME, -GAME], joint=np.full((3, 3), 1 / 9)
    ),
    "correlated_gaps": call(
        correlated.correlated_gaps, losses=[GAME, -GAME], joint=np.full((3, 3), 1 / 9)
    ),
    # fits
    "objective": call(solvers.objective, **FIT),
    "gradient_descent": call(
        solvers.gradient_descent,
        **FIT,
        step=0.1,
        iterations=2,
        tolerance=1e-3,
        record=lambda policy: 0,
    ),
    "kl_penalty": call(solvers.kl_penalty, reference=TABLE, weight=0.1),
    "cross_entropy_penalty": call(
        penalties.cross_entropy_penalty, base=np.full((2, 3), 1 / 3), weight=0.1
    ),
    "fit_partial_return_reward": call(
        functools.partial(reward_learning.fit_partial_return_reward, iterations=2),
        segments=SEGMENTS,
        features=FEATURES,
    ),
    "policy_library": call(reward_learning.policy_library, mdp=MDP, features=FEATURES, n=2, seed=0),
}
