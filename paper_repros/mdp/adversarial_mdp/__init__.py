"""Losses chosen by an adversary, seen on the visited path alone: two ways to a regret of √K."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="adversarial_mdp",
    title="Refined Regret for Adversarial MDPs with Linear Function Approximation",
    arxiv="2301.12942",
    year=2023,
    summary=(
        "In decision processes whose action values are linear in known features, losses that an"
        " adversary changes every episode are learned with a regret of √K: by the log-barrier,"
        " which takes estimates however negative, or by an estimator whose negative part is"
        " small."
    ),
    implements=(
        "prefsim.solvers.online_learning.log_barrier.log_barrier_step",
        "prefsim.solvers.online_learning.log_barrier.log_barrier",
        "prefsim.solvers.bandit_feedback.covariance.feature_covariance",
        "prefsim.solvers.bandit_feedback.covariance.regularised_inverse",
        "prefsim.solvers.bandit_feedback.covariance.resampled_inverse",
        "prefsim.solvers.bandit_feedback.covariance.expected_resampled_inverse",
        "prefsim.solvers.bandit_feedback.covariance.empirical_inverse",
        "prefsim.solvers.bandit_feedback.covariance.expected_empirical_inverse",
        "prefsim.solvers.bandit_feedback.covariance.relative_spectrum",
        "prefsim.solvers.bandit_feedback.estimates.estimate_weights",
        "prefsim.solvers.bandit_feedback.estimates.standard_estimate",
        "prefsim.solvers.bandit_feedback.estimates.expected_negative_part",
        "prefsim.solvers.bandit_feedback.estimates.reduced_estimate",
        "prefsim.solvers.bandit_feedback.estimates.magnitude_reduced",
        "prefsim.solvers.bandit_feedback.estimates.estimate_moments",
        "prefsim.solvers.bandit_feedback.bonuses.exploration_bonus",
        "prefsim.solvers.bandit_feedback.bonuses.dilated_bonus",
        "prefsim.solvers.planning.layered.layered_values",
        "prefsim.solvers.planning.layered.layered_occupancy",
        "prefsim.solvers.planning.layered.layered_optimum",
        "prefsim.solvers.planning.layered.linear_q_residual",
    ),
)
