"""Public hypothesis strategies: worlds, policies and data for property tests of your own.

And :func:`must_break`, for the tests that pass where a property fails.
"""

from prefsim.testing.bandits import (
    alphas,
    bandits,
    bandits_with_reference,
    betas,
    divergences,
    flip_rates,
    general_bandits,
    general_bandits_with_reference,
    margins,
    pair_logps,
    policies,
    tables,
)
from prefsim.testing.breaking import counterexample, must_break
from prefsim.testing.contrasts import (
    Contrast,
    contrasts,
    regularised_reward_gap,
    scored_pair_logps,
)
from prefsim.testing.data import (
    count_matrices,
    ranking_tables,
    rankings,
    revisions,
    rewards,
    separable_counts,
    user_populations,
)
from prefsim.testing.games import (
    Play,
    cyclic_games,
    degenerate_games,
    games_near,
    games_with_reference,
    plays,
    preference_games,
    random_games,
    references,
    skew_scores,
    transitive_games,
)
from prefsim.testing.mdps import (
    action_tables,
    grid_worlds,
    mdps,
    mdps_with_policy,
    stochastic_policies,
)
from prefsim.testing.parametric_policies import log_linear_policies, network_policies
from prefsim.testing.segments import (
    SegmentProcess,
    potentials,
    segment_pairs,
    segment_processes,
    token_pair_logps,
)
from prefsim.testing.tokens import comparisons, feedback, token_tree_policies, token_trees

__all__ = [
    "Contrast",
    "Play",
    "SegmentProcess",
    "action_tables",
    "alphas",
    "bandits",
    "bandits_with_reference",
    "betas",
    "comparisons",
    "contrasts",
    "count_matrices",
    "counterexample",
    "cyclic_games",
    "degenerate_games",
    "divergences",
    "feedback",
    "flip_rates",
    "games_near",
    "games_with_reference",
    "general_bandits",
    "general_bandits_with_reference",
    "grid_worlds",
    "log_linear_policies",
    "margins",
    "mdps",
    "mdps_with_policy",
    "must_break",
    "network_policies",
    "pair_logps",
    "plays",
    "policies",
    "potentials",
    "preference_games",
    "random_games",
    "ranking_tables",
    "rankings",
    "references",
    "regularised_reward_gap",
    "revisions",
    "rewards",
    "scored_pair_logps",
    "segment_pairs",
    "segment_processes",
    "separable_counts",
    "skew_scores",
    "stochastic_policies",
    "tables",
    "token_pair_logps",
    "token_tree_policies",
    "token_trees",
    "transitive_games",
    "user_populations",
]


def __dir__() -> list[str]:
    return sorted(__all__)
