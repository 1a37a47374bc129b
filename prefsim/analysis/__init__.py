"""Analyses: what policies are worth, what data covers, how games and elections end, how fast."""

from prefsim.analysis.bandit import (
    divergence_to_reference,
    expected_reward,
    kl_to_reference,
    regularised_value,
    suboptimality,
)
from prefsim.analysis.coverage import (
    KLBallCoverage,
    concentrability,
    global_coverage,
    in_distribution_reward_error,
    kl_ball_coverage,
    partial_coverage_coefficient,
)
from prefsim.analysis.credal_sets import (
    CredalSet,
    Interval,
    expectation_bounds,
    extend_credal_set,
    gaussian_barycentre,
    gaussian_wasserstein,
    preference_weights,
)
from prefsim.analysis.decisions import (
    Decision,
    length_normalised_utility,
    map_decision,
    mbr_decision,
    noisy_token_accuracy,
)
from prefsim.analysis.density_regions import (
    Box,
    DensityRegion,
    MixtureRegion,
    central_box,
    highest_density_region,
    mixture_density_region,
    mixture_quantile,
)
from prefsim.analysis.dispersion import Dispersion, dispersion
from prefsim.analysis.displacement import (
    Displacement,
    Entanglement,
    ches_score,
    displacement,
    entanglement,
    kl_from_tokens,
    ranking_accuracy,
    reward_accuracy,
)
from prefsim.analysis.dissection import judge_similarity, property_attribution
from prefsim.analysis.elections import (
    Election,
    bradley_terry_winner,
    distance_from_winner,
    elect,
)
from prefsim.analysis.factorial import (
    Contrast,
    Factorial,
    MainEffect,
    contrast,
    full_factorial,
    main_effects,
)
from prefsim.analysis.frontier import (
    Frontier,
    optimal_frontier,
)
from prefsim.analysis.gradient_conflict import backbone_conflict, head_conflict
from prefsim.analysis.h_consistency import (
    constant_minimisability_gap,
    h_consistency_bound,
    h_consistency_transformation,
    least_comp_sum_risk,
    minimisability_gap_bound,
    simple_h_consistency_bound,
)
from prefsim.analysis.loglinear import (
    difference_covariance,
    estimate_covariance,
    estimation_bound,
    feature_differences,
    policy_covariance,
    relative_condition_number,
)
from prefsim.analysis.mode_seeking import KLGradients, kl_gradients, logarithmic_mean
from prefsim.analysis.nash_family import (
    FAMILY,
    MethodTrace,
    compare_methods,
    family_games,
)
from prefsim.analysis.nash_figure import draw_comparison
from prefsim.analysis.online_regret import (
    dynamic_regret,
    external_regret,
    loss_variation,
    swap_regret,
)
from prefsim.analysis.pair_derivatives import (
    LossPull,
    PairDerivatives,
    both_fall_above,
    pair_derivatives,
    pulls_of_losses,
)
from prefsim.analysis.pareto import (
    assign_points,
    expected_utility,
    hypervolume,
    sparsity,
)
from prefsim.analysis.posteriors import (
    DiagonalGaussian,
    GridPosterior,
    gaussian_posterior,
    grid_posterior,
    mixture_log_prob,
    mixture_moments,
    posterior_weights,
)
from prefsim.analysis.proxy_points import ProxyPoint, RewardPath, proxy_point, reward_path
from prefsim.analysis.ranking import (
    exact_ranking_accuracy,
    idealised_log_ratio,
    idealised_ranking_accuracy,
    largest_ranking_beta,
    ranking_loss,
)
from prefsim.analysis.rates import (
    log_log_slope,
)
from prefsim.analysis.regret_tests import (
    RegressionTest,
    TrendTest,
    regret_regression_test,
    regret_trend_test,
)
from prefsim.analysis.representations import tolerance, uniformity
from prefsim.analysis.returns import (
    mean_return,
    scaled_return,
)
from prefsim.analysis.sampled_coverage import SampledCoverage, sampled_coverage
from prefsim.analysis.unconstrained_features import (
    FeatureGradient,
    FeatureGram,
    GradientGram,
    TokenRates,
    feature_gradient,
    feature_gram,
    token_rates,
)
from prefsim.analysis.utilities import (
    improvement_direction,
    revealed_margin,
    sharpening_slope,
    utility_probability,
)
from prefsim.analysis.voting import (
    borda_scores,
    condorcet_margin,
    copeland_scores,
)

__all__ = [
    "FAMILY",
    "Box",
    "Contrast",
    "CredalSet",
    "Decision",
    "DensityRegion",
    "DiagonalGaussian",
    "Dispersion",
    "Displacement",
    "Election",
    "Entanglement",
    "Factorial",
    "FeatureGradient",
    "FeatureGram",
    "Frontier",
    "GradientGram",
    "GridPosterior",
    "Interval",
    "KLBallCoverage",
    "KLGradients",
    "LossPull",
    "MainEffect",
    "MethodTrace",
    "MixtureRegion",
    "PairDerivatives",
    "ProxyPoint",
    "RewardPath",
    "SampledCoverage",
    "TokenRates",
    "assign_points",
    "RegressionTest",
    "TrendTest",
    "backbone_conflict",
    "borda_scores",
    "both_fall_above",
    "bradley_terry_winner",
    "central_box",
    "ches_score",
    "compare_methods",
    "concentrability",
    "condorcet_margin",
    "constant_minimisability_gap",
    "contrast",
    "copeland_scores",
    "difference_covariance",
    "dispersion",
    "displacement",
    "distance_from_winner",
    "divergence_to_reference",
    "draw_comparison",
    "dynamic_regret",
    "elect",
    "entanglement",
    "estimate_covariance",
    "estimation_bound",
    "exact_ranking_accuracy",
    "expectation_bounds",
    "expected_reward",
    "expected_utility",
    "extend_credal_set",
    "external_regret",
    "family_games",
    "feature_differences",
    "feature_gradient",
    "feature_gram",
    "full_factorial",
    "gaussian_barycentre",
    "gaussian_posterior",
    "gaussian_wasserstein",
    "global_coverage",
    "grid_posterior",
    "h_consistency_bound",
    "h_consistency_transformation",
    "head_conflict",
    "highest_density_region",
    "hypervolume",
    "idealised_log_ratio",
    "idealised_ranking_accuracy",
    "improvement_direction",
    "in_distribution_reward_error",
    "judge_similarity",
    "kl_ball_coverage",
    "kl_from_tokens",
    "kl_gradients",
    "kl_to_reference",
    "largest_ranking_beta",
    "least_comp_sum_risk",
    "length_normalised_utility",
    "log_log_slope",
    "logarithmic_mean",
    "loss_variation",
    "main_effects",
    "map_decision",
    "mbr_decision",
    "mean_return",
    "minimisability_gap_bound",
    "mixture_density_region",
    "mixture_log_prob",
    "mixture_moments",
    "mixture_quantile",
    "noisy_token_accuracy",
    "optimal_frontier",
    "pair_derivatives",
    "partial_coverage_coefficient",
    "policy_covariance",
    "posterior_weights",
    "preference_weights",
    "property_attribution",
    "proxy_point",
    "pulls_of_losses",
    "ranking_accuracy",
    "ranking_loss",
    "regret_regression_test",
    "regret_trend_test",
    "regularised_value",
    "relative_condition_number",
    "revealed_margin",
    "reward_accuracy",
    "reward_path",
    "sampled_coverage",
    "scaled_return",
    "sharpening_slope",
    "simple_h_consistency_bound",
    "sparsity",
    "suboptimality",
    "swap_regret",
    "token_rates",
    "tolerance",
    "uniformity",
    "utility_probability",
]


def __dir__() -> list[str]:
    return sorted(__all__)
