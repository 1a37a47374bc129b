"""A valid call of every public function of the rooms of formulas and values, by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np

from prefsim import analysis, losses, policies, raters
from prefsim.data import Comparisons
from prefsim.losses.multipliers import Multipliers
from prefsim.losses.registry import loss_functions
from prefsim.solvers import closed_forms
from prefsim.worlds import (
    ContextualBandit,
    TabularMDP,
)

RNG = np.random.default_rng(0)
PROBS = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
OTHER = np.array([[0.4, 0.4, 0.2], [0.3, 0.3, 0.4]])
LOGS, REF = np.log(PROBS), np.log(OTHER)
REWARD = np.array([[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]])
WORLD = ContextualBandit(reward=REWARD)
GAME = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
FEATURES = RNG.standard_normal((2, 3, 2))
DATA = Comparisons([0, 0, 1], [0, 1, 2], [1, 2, 0], prob=[0.7, 0.6, 0.8])
MASK = np.array([[True, True, False], [True, True, True]])
STEPS = np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 1.0]])
TWO_REWARDS = np.stack([REWARD, STEPS])
LOGPS = {
    name: -1.0 - RNG.random(4)
    for name in ("chosen", "rejected", "ref_chosen", "ref_rejected", "start_chosen")
}
LOGPS["start_rejected"] = LOGPS["ref_chosen"] - 0.3
PAIR = ("chosen", "rejected")
VOTED = {
    "ref_chosen": np.array([-2.0, -1.0, -3.0, -0.5]),
    "ref_rejected": np.array([-1.0, -2.0, -1.5, -0.25]),
    "vote_share": np.array([0.6, 0.7, 0.8, 1.0]),
}
MDP = TabularMDP.grid_world([[0.0, 0.0, 1.0]], terminal=[[False, False, True]], discount=0.9)
UNIFORM = np.full((3, 4), 0.25)
IMPROVER = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.1, 0.8]])
KEYS = np.array([0, 1, 2])
CROSSED = analysis.Factorial({"a": (0, 1)}, PROBS)


def logps(*names):
    return {name: LOGPS[name] for name in names}


EXAMPLES = {
    # raters
    "both_orders": {"shown": STEPS, "swapped": -STEPS + 0.5, "average": "prob"},
    "bradley_terry_gap": {"preference": GAME},
    "deterministic_regret": {
        "rewards": STEPS,
        "start_value": np.array([1.0, 2.0]),
        "end_value": np.array([0.5, 0.3]),
        "mask": MASK,
        "discount": 0.9,
    },
    "embedding_preference": {
        "embedding": FEATURES[0],
        "scales": np.array([0.5]),
        "temperature": 0.5,
    },
    "flip_labels": {"preference": PROBS, "rate": 0.1},
    "flip_sampled_labels": {"labels": MASK, "rate": 0.5, "seed": 0},
    "judge_logits": {"option_logits": FEATURES[0]},
    "judged_preference": {
        "reward": REWARD,
        "temperature": 1.0,
        "position_bias": 0.1,
        "average": "logit",
    },
    "learned_temperature": {"raw": REWARD},
    "logistic_normal_preference": {"mean": STEPS, "deviation": np.abs(REWARD) + 0.5},
    "mixture_preference": {
        "weights": np.array([0.25, 0.75]),
        "preferences": np.stack([GAME, GAME.T]),
    },
    "noiseless_preference": {"score_first": STEPS, "score_second": STEPS[::-1], "tie": 0.1},
    "proxy_reward": {
        "length": STEPS,
        "distinct": PROBS,
        "relevance": REWARD,
        "constrained": MASK,
        "with_length": True,
        "with_distinct": True,
        "with_relevance": True,
        "with_branching": True,
        "longest": 512,
        "largest_relevance": 3.5,
    },
    "order_free_margin": {"shown": FEATURES[0], "swapped": FEATURES[1]},
    "pairwise_preference": {"reward": REWARD, "link": "probit"},
    "partial_return_preference": {
        "return_first": STEPS,
        "return_second": STEPS[::-1],
        "beta": 1.0,
    },
    "preference_of": {"preference": GAME, "first": KEYS, "second": KEYS[::-1]},
    "prompt_scales": {"logits": REWARD, "width": 4},
    "ranking_log_prob": {"reward": REWARD, "ranking": np.array([[2, 0, 1], [0, 1, 2]])},
    "regret_preference": {"regret_first": STEPS, "regret_second": STEPS[::-1], "beta": 1.0},
    "reward_embedding": {"reward": REWARD},
    "sample_labels": {"probability": PROBS, "seed": 0},
    "sample_rankings": {"reward": REWARD, "n": 2, "seed": 0, "k": 2},
    "score_matrix": {"embedding": FEATURES[0], "scales": np.array([0.5])},
    "segment_regret": {"advantages": STEPS, "mask": MASK, "discount": 0.5},
    "segment_return": {"rewards": STEPS, "mask": MASK, "discount": 0.5},
    "skew_score": {"first": FEATURES[0], "second": FEATURES[1], "scales": np.array([0.5])},
    # analysis
    "backbone_conflict": {"first": REWARD, "second": STEPS, "weights": OTHER.T},
    "head_conflict": {"first": REWARD, "second": STEPS, "features": PROBS},
    "constant_minimisability_gap": {
        "context_probs": np.array([0.6, 0.4]),
        "label_probs": PROBS,
        "tau": 1.5,
    },
    "h_consistency_bound": {"excess": np.array([0.05, 0.2]), "tau": 0.5, "n_classes": 3},
    "h_consistency_transformation": {"gap": np.array([0.3, 1.0]), "tau": 0.5, "n_classes": 3},
    "least_comp_sum_risk": {"label_probs": PROBS, "tau": 1.5},
    "minimisability_gap_bound": {
        "sum_exponential_risk": np.array(1.5),
        "context_probs": np.array([0.6, 0.4]),
        "label_probs": PROBS,
        "tau": 0.5,
    },
    "simple_h_consistency_bound": {
        "excess": np.array([0.05, 0.2]),
        "tau": 0.5,
        "n_classes": 3,
    },
    "assign_points": {"points": STEPS, "weights": PROBS},
    "expected_utility": {"points": STEPS, "weights": PROBS},
    "hypervolume": {"points": STEPS, "reference": np.array([0.0, -2.0, 0.0])},
    "sparsity": {"points": STEPS},
    "proxy_point": {
        "path": analysis.reward_path(
            TWO_REWARDS, REF, np.array([[0.0, 0.0], [1.0, 0.5]]), beta=0.5
        ),
        "gold": STEPS,
    },
    "reward_path": {
        "rewards": TWO_REWARDS,
        "ref_log_probs": REF,
        "weights": np.array([[0.0, 0.0], [1.0, 0.5]]),
        "beta": 0.5,
        "context_probs": np.array([0.25, 0.75]),
    },
    "borda_scores": {"preference": GAME},
    "condorcet_margin": {"preference": GAME},
    "copeland_scores": {"preference": GAME},
    "bradley_terry_winner": {"preference": GAME, "sampling": OTHER},
    "ches_score": {
        "chosen_states": RNG.standard_normal((2, 3, 2)),
        "rejected_states": RNG.standard_normal((2, 3, 2)),
        "chosen_mask": MASK,
        "rejected_mask": MASK,
        "normalised": True,
    },
    "dispersion": {
        "log_probs": np.array([-1.0, -2.0]),
        "start_log_probs": np.array([-1.5, -1.0]),
    },
    "tolerance": {"points": REWARD, "label": np.array([1, 1]), "conditional": True},
    "uniformity": {"points": REWARD, "scale": 0.5},
    "sampled_coverage": {"log_ratio": np.array([0.3, -0.2, 0.1])},
    "improvement_direction": {
        "utility": REWARD,
        "chosen": np.array([2, 1]),
        "temperature": 0.7,
    },
    "length_normalised_utility": {"log_prob": LOGS, "length": STEPS**2, "power": 0.5},
    "judge_similarity": {"weights": REWARD, "kind": "spearman"},
    "property_attribution": {"weights": REWARD[0], "features": STEPS},
    "map_decision": {"utility": REWARD, "mask": MASK},
    "mbr_decision": {"probs": PROBS, "similarity": GAME, "mask": MASK},
    "noisy_token_accuracy": {
        "noise_rate": PROBS,
        "temperature": 0.7,
        "vocabulary_size": 5,
    },
    "revealed_margin": {"utility": REWARD, "chosen": np.array([2, 1])},
    "sharpening_slope": {
        "utility": REWARD,
        "value": STEPS,
        "temperature": 0.7,
        "mask": MASK,
    },
    "utility_probability": {"utility": REWARD, "temperature": 0.7, "mask": MASK},
    "concentrability": {
        "log_policy": LOGS,
        "log_reference": REF,
        "context_probs": np.array([0.5, 0.5]),
    },
    "contrast": {"factorial": CROSSED, "levels": {"a": (1, 0)}, "interval": 0.9},
    "main_effects": {"factorial": CROSSED, "interval": 0.9},
    "difference_covariance": {"data": DATA, "features": FEATURES},
    "displacement": logps(*PAIR, "start_chosen", "start_rejected"),
    "distance_from_winner": {"game": GAME, "winner": 1},
    "divergence_to_reference": {
        "log_policy": LOGS,
        "log_reference": REF,
        "world": WORLD,
        "divergence": "alpha",
        "alpha": 0.5,
    },
    "entanglement": {
        "chosen_squared": np.array([1.0, 2.0]),
        "rejected_squared": np.array([2.0, 3.0]),
        "inner": np.array([0.5, -0.3]),
        "chosen_slope": np.array([1.0, 0.5]),
        "rejected_slope": np.array([1.0, 0.5]),
    },
    "estimate_covariance": {"data": DATA, "features": FEATURES, "beta": 0.5, "flip_rate": 0.1},
    "estimation_bound": {
        "n": 100,
        "dimension": 3,
        "beta": 0.5,
        "flip_rate": 0.1,
        "curvature": 0.2,
        "radius": 1.0,
        "ridge": 0.1,
        "chance": 0.05,
    },
    "expected_reward": {"log_policy": LOGS, "world": WORLD},
    "feature_differences": {"data": DATA, "features": FEATURES},
    "global_coverage": {"log_reference": REF, "context_probs": np.array([0.5, 0.5])},
    "in_distribution_reward_error": {
        "estimate": REWARD + 0.1,
        "reward": REWARD[::-1],
        "log_sampling": REF,
    },
    "kl_ball_coverage": {"log_reference": REF, "radius": np.array([0.1, 1.0])},
    "kl_from_tokens": {"token_kl": np.abs(STEPS), "mask": MASK},
    "kl_gradients": {"log_policy": LOGS, "log_target": REF},
    "kl_to_reference": {"log_policy": LOGS, "log_reference": REF, "world": WORLD},
    "log_log_slope": {"sizes": np.array([1.0, 10.0, 100.0]), "errors": np.array([3.0, 2.0, 1.0])},
    "logarithmic_mean": {"log_first": LOGS, "log_second": REF},
    "mean_return": {"mdp": MDP, "policy": UNIFORM, "temperature": 0.1},
    "optimal_frontier": {
        "world": WORLD,
        "log_reference": REF,
        "penalties": np.array([1.0, 2.0]),
        "divergence": "reverse_kl",
        "alpha": 0.5,
    },
    "partial_coverage_coefficient": {
        "log_policy": LOGS,
        "log_base": REF,
        "pair_weight": np.full((2, 3, 3), 1 / 18),
        "features": FEATURES,
    },
    "policy_covariance": {"log_policy": LOGS, "features": FEATURES},
    "ranking_accuracy": logps(*PAIR),
    "regularised_value": {"log_policy": LOGS, "log_reference": REF, "world": WORLD, "beta": 0.5},
    "relative_condition_number": {
        "target": np.eye(2),
        "covering": np.array([[2.0, 0.5], [0.5, 1.0]]),
    },
    "reward_accuracy": logps(*PAIR, "ref_chosen", "ref_rejected"),
    "scaled_return": {"mdp": MDP, "policy": UNIFORM, "temperature": 0.0, "floor": -1.0},
    "suboptimality": {"log_policy": LOGS, "world": WORLD, "comparator": REF},
    "idealised_log_ratio": VOTED | {"beta": 0.5, "unanimous": 1e-3},
    "idealised_ranking_accuracy": VOTED | {"beta": 0.5, "unanimous": 1e-3},
    "largest_ranking_beta": VOTED | {"unanimous": 1e-3},
    "ranking_loss": {name: VOTED[name] for name in ("ref_chosen", "ref_rejected")} | {"beta": 0.5},
    "exact_ranking_accuracy": {"log_probs": LOGS},
    "both_fall_above": {
        "chosen_slope": np.array([0.5, -1.0, 0.0]),
        "rejected_slope": np.array([1.0, 0.5, -0.5]),
        "norm_ratio": np.array([2.0, 1.0, 0.5]),
    },
    "token_rates": {
        "unembedding": FEATURES[0],
        "state": np.array([0.5, -1.0]),
        "chosen": np.array(2),
        "rejected": np.array(0),
        "chosen_slope": np.array(0.5),
        "rejected_slope": np.array(0.25),
    },
    "feature_gradient": {
        "unembedding": FEATURES[0],
        "states": FEATURES[::-1],
        "tokens": np.array([[2, 1, 0], [0, 0, 1]]),
        "mask": MASK,
    },
    "feature_gram": {
        "unembedding": FEATURES[0],
        "chosen_states": FEATURES,
        "rejected_states": np.concatenate([FEATURES[:, :1], FEATURES[::-1, 1:]], axis=1),
        "chosen": np.array([[2, 1, 0], [0, 0, 1]]),
        "rejected": np.array([[1, 1, 0], [2, 0, 1]]),
        "chosen_mask": MASK,
        "rejected_mask": MASK,
    },
    "grid_posterior": {"log_prior": LOGS, "log_likelihood": STEPS},
    "mixture_log_prob": {"log_prob": LOGS, "weight": np.array([0.25, 0.75])},
    "posterior_weights": {"weight": PROBS, "log_evidence": STEPS},
    "gaussian_posterior": {
        "mean": STEPS[:1],
        "deviation": STEPS[:1] + 0.5,
        "observations": STEPS,
        "noise": 0.5,
    },
    "mixture_moments": {
        "mean": STEPS.T,
        "deviation": np.abs(REWARD.T) + 0.5,
        "weight": PROBS[0],
    },
    "preference_weights": {
        "preference": PROBS,
        "stand_in": np.array([[0, 1], [1, 2], [0, 2]]),
    },
    "expectation_bounds": {"probs": PROBS, "values": REWARD[0]},
    "gaussian_wasserstein": {
        "mean": STEPS,
        "deviation": np.abs(REWARD) + 0.5,
        "other_mean": REWARD,
        "other_deviation": OTHER,
    },
    "gaussian_barycentre": {
        "mean": STEPS.T,
        "deviation": np.abs(REWARD.T) + 0.5,
        "weight": PROBS[0],
    },
    "highest_density_region": {"probs": PROBS, "level": 0.75},
    "mixture_density_region": {
        "mean": STEPS[0],
        "deviation": np.array([0.5, 1.0, 2.0]),
        "weight": PROBS[0],
        "level": 0.75,
    },
    "mixture_quantile": {
        "mean": STEPS[0],
        "deviation": np.array([0.5, 1.0, 2.0]),
        "weight": PROBS[0],
        "level": np.array([0.25, 0.5]),
    },
    "central_box": {"mean": STEPS, "deviation": np.abs(REWARD) + 0.5, "level": 0.75},
    # closed forms
    "constrained_dual": {
        "multipliers": np.array([0.5, 0.2]),
        "rewards": TWO_REWARDS,
        "ref_log_probs": REF,
        "thresholds": np.array([0.7, 0.4]),
        "beta": 0.5,
        "sense": "equal",
        "weights": np.array([0.1, 0.0]),
        "context_probs": np.array([0.25, 0.75]),
    },
    "constrained_optimum": {
        "rewards": TWO_REWARDS,
        "ref_log_probs": REF,
        "thresholds": np.array([0.7, 0.4]),
        "beta": 0.5,
        "sense": "at_least",
        "weights": np.array([0.1, 0.0]),
        "context_probs": np.array([0.25, 0.75]),
        "infeasible": "report",
        "tolerance": 1e-10,
        "max_iterations": 100,
    },
    "separating_direction": {
        "rewards": TWO_REWARDS,
        "ref_log_probs": REF,
        "thresholds": np.array([4.0, 0.4]),
        "sense": "at_least",
        "context_probs": np.array([0.25, 0.75]),
    },
    "chi_squared_optimum": {"reward": REWARD, "reference": OTHER, "beta": 0.5},
    "calibrated_reward": {
        "log_policy": LOGS,
        "ref_log_probs": REF,
        "calibration": OTHER,
        "beta": 0.5,
    },
    "calibrated_value": {
        "reward": REWARD,
        "ref_log_probs": REF,
        "calibration": OTHER,
        "beta": 0.5,
    },
    "gibbs_log_policy": {"reward": REWARD, "ref_log_probs": REF, "beta": 0.5},
    "optimal_policy": {
        "reward": REWARD,
        "reference": OTHER,
        "beta": 0.5,
        "divergence": "forward_kl",
        "alpha": 0.5,
    },
    "regularised_optimum": {"reward": REWARD, "ref_log_probs": REF, "beta": 0.5},
    "accept_pass": {
        "reward": REWARD,
        "uniform": PROBS,
        "beta": 0.5,
        "remaining": np.array([[True, False, True], [True, True, True]]),
    },
    "accepted_law": {
        "reward": REWARD,
        "log_proposal": REF,
        "beta": 0.5,
        "cap": np.array([2.0, 2.0]),
    },
    "first_accepted_law": {"reward": REWARD, "log_proposal": REF, "candidates": 3, "beta": 0.5},
    "log_acceptance": {"reward": REWARD, "beta": 0.5, "cap": np.array([2.0, 2.0])},
    "rejection_sample": {
        "reward": REWARD,
        "n_samples": 2,
        "beta": 0.5,
        "seed": 0,
        "keys": np.array([[0, 1, 2], [0, 1, 2]]),
    },
    "revision_chain": {"start": OTHER[0], "improver": IMPROVER, "revisions": 2},
    "self_improvement_errors": {
        "preference": GAME,
        "generator": PROBS[0],
        "improver": IMPROVER,
        "reference": OTHER[0],
        "beta": 0.5,
        "improver_reference": np.full((3, 3), 1 / 3),
    },
    "self_improvement_value": {
        "preference": GAME,
        "generator": PROBS[0],
        "improver": IMPROVER,
        "reference": OTHER[0],
        "beta": 0.5,
    },
    "solve_self_improvement": {"preference": GAME, "reference": OTHER[0], "beta": 0.5},
    "curation_factor": {"reward": REWARD, "log_policy": LOGS, "candidates": 3},
    "curated_law": {"reward": REWARD, "log_policy": LOGS, "candidates": 3},
    "best_of_n": {"score": REWARD, "log_policy": LOGS, "n": 2},
    "iterative_dpo_step": {"preference": GAME, "log_policy": LOGS[0], "beta": 0.5},
    # losses that take no container
    "activation_weights": {"activations": np.stack([STEPS, STEPS[::-1]]), "mask": MASK},
    "relu_weights": {
        "features": FEATURES,
        "weight": np.array([[0.5, -1.0]]),
        "bias": np.array([0.1, 0.2]),
    },
    "token_sparsity": {
        "weights": np.maximum(STEPS, 0.0),
        "mask": MASK,
        "prob": np.array([0.75, 0.25]),
    },
    "density_ratio_weights": {"prob": PROBS, "low": 0.5, "high": 10.0},
    "from_structure": {
        "structure": "ORPO",
        "link": "hinge",
        "beta": 0.5,
        "reference": "full",
        "average": True,
    },
    "flip_corrected": {"as_labelled": STEPS, "exchanged": STEPS[::-1], "flip_rate": 0.1},
    "finished_scores": {
        "scores": STEPS[0],
        "ended": np.array([True, False, True]),
        "unfinished": -10.0,
    },
    "gae": {"rewards": STEPS, "values": PROBS, "mask": MASK, "discount": 0.9, "trace": 0.8},
    "group_advantage": {"rewards": REWARD, "scale": True},
    "kl_shaped_rewards": {
        "scores": np.array([1.0, -1.0]),
        "old_logp": LOGS,
        "ref_logp": REF,
        "mask": MASK,
        "beta": 0.5,
    },
    "leave_one_out": {"rewards": REWARD},
    "log_ratio_rewards": {
        "logp": LOGS,
        "ref_logp": REF,
        "mask": MASK,
        "scale": 0.5,
        "clip": 0.3,
    },
    "rto_rewards": {
        "scores": np.array([1.0, -1.0]),
        "old_logp": LOGS,
        "ref_logp": REF,
        "dpo_logp": np.log(PROBS[::-1]),
        "mask": MASK,
        "scale": 0.5,
        "clip": 0.3,
        "beta": 0.5,
        "score_scale": 2.0,
        "score_clip": 0.7,
    },
    "reduced": {"values": STEPS[None], "mask": MASK[None], "reduction": "batch"},
    "rewards_to_go": {"rewards": STEPS},
    "mixed_advantage": {
        "penalty_advantage": STEPS,
        "advantages": TWO_REWARDS,
        "raw": np.array([0.5, -0.25]),
        "kind": "tanh",
        "normalise": True,
        "mask": MASK,
    },
    "mixture_weights": {"raw": np.array([0.5, -0.25]), "kind": "sigmoid"},
    "multiplier_step": {
        "multipliers": Multipliers.starting(np.array([0.5, -0.25])),
        "achieved": np.array([1.0, 2.0]),
        "thresholds": np.array([0.5, 2.5]),
        "kind": "sigmoid",
        "learning_rate": 0.5,
        "momentum": 0.5,
        "max_norm": 0.5,
    },
    "saturated": {"rewards": STEPS, "thresholds": np.array([[0.5, 1.0, 2.0]])},
    "token_kl": {"logps": LOGS, "ref_logps": REF, "estimator": "k3"},
    "whitened": {"values": STEPS, "mask": MASK, "epsilon": 1e-6},
    "guided_filter": {
        "margin": STEPS[0],
        "mean": 1.0,
        "deviation": 0.5,
        "keep": 0.8,
        "seed": 0,
    },
    "kl_dro": {"scores": REWARD, "lambda_": np.array([0.5, 1.0])},
    "ordinal_logits": {"score": REWARD, "thresholds": np.array([-1.0, 0.0, 1.0])},
    "dynamic_regret": {"decisions": PROBS, "losses": STEPS},
    "external_regret": {"decisions": PROBS, "losses": STEPS},
    "swap_regret": {"decisions": PROBS, "losses": STEPS},
    "loss_variation": {"losses": STEPS},
    "regret_trend_test": {"regrets": STEPS},
    "regret_regression_test": {"regrets": STEPS, "floor": 0.01},
    "regret_loss": {
        "decisions": np.stack([PROBS, OTHER]),
        "losses": np.stack([STEPS, -STEPS]),
        "k": 2.0,
        "growth": "positive",
        "weighting": "power",
        "comparator": "ball",
        "radius": 2.0,
    },
    "regret": {"advantages": np.stack([STEPS, -STEPS]), "prob": np.array([0.5, 0.9])},
    "rloo_kl": {"logps": LOGPS["chosen"], "ref_logps": LOGPS["rejected"]},
    "running_bco": {"beta": 0.1},
    "running_beta_dpo": {"beta": 0.1, "alpha": 0.6, "smallest_beta": 1e-3, "momentum": 0.9},
    "score_function_kl": {
        "logps": LOGPS["chosen"],
        "ref_logps": LOGPS["rejected"],
        "baseline": np.full(4, 0.1),
    },
}

# What looks at values or files of another room, which has its own tests, at functions or at texts.
ELSEWHERE = {
    "relevance_reward",
    "tfidf_embedding",
    "elect",
    "extend_credal_set",
    "family_games",
    "full_factorial",
    "compare_methods",
    "draw_comparison",
    "pair_derivatives",
    "pulls_of_losses",
    "catalogue",
    "container_of",
    "loss_functions",
    # Elementary: the formulas inside every loss, swept with the losses.
    "soft_logistic",
    "log_ratios",
    "reward_margin",
}


def rooms():
    """Yield every public function of the rooms that are swept, by name."""
    inside = [
        importlib.import_module(module.name)
        for module in pkgutil.iter_modules(closed_forms.__path__, closed_forms.__name__ + ".")
    ]
    for room in (raters, analysis, policies, losses, *inside):
        for name in room.__all__:
            function = getattr(room, name)
            if inspect.isfunction(function) and name not in loss_functions():
                yield name, function


FUNCTIONS = dict(rooms())
