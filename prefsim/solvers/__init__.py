"""Solvers: fitted policies, closed forms, planning, games; each result carries its certificate."""

from prefsim.solvers import games, planning
from prefsim.solvers.closed_forms.constrained import (
    ConstrainedOptimum,
    DualPoint,
    constrained_dual,
    constrained_optimum,
)
from prefsim.solvers.closed_forms.regularised import (
    RegularisedOptimum,
    calibrated_reward,
    calibrated_value,
    gibbs_log_policy,
    optimal_policy,
    regularised_optimum,
)
from prefsim.solvers.closed_forms.self_improvement import (
    SelfImprovement,
    revision_chain,
    solve_self_improvement,
)
from prefsim.solvers.closed_forms.separation import Separation, separating_direction
from prefsim.solvers.descent import gradient_descent
from prefsim.solvers.fit import FitResult, fit, objective
from prefsim.solvers.flow import Flow, gradient_flow
from prefsim.solvers.games.certificates import duality_gap, exploitability
from prefsim.solvers.games.nash import (
    NashHistory,
    NashResult,
    StepSizeWarning,
    nash_path,
    solve_nash,
)
from prefsim.solvers.games.optimism import OptimisticReward, optimistic_reward
from prefsim.solvers.games.pessimism import PessimisticGame
from prefsim.solvers.games.preference_embedding import EmbeddingResult, fit_preference_embedding
from prefsim.solvers.games.skew_symmetric import (
    SkewDecomposition,
    decompose_skew,
    gpo_update,
    preference_scores,
)
from prefsim.solvers.likelihood.bradley_terry import (
    BradleyTerryResult,
    count_matrix,
    fit_bradley_terry,
)
from prefsim.solvers.likelihood.plackett_luce import PlackettLuceResult, fit_plackett_luce
from prefsim.solvers.optimisers.penalties import cross_entropy_penalty, kl_penalty
from prefsim.solvers.pareto import (
    ConvexFront,
    convex_coverage_set,
    convex_front,
    crowding_distance,
    non_dominated,
    weight_grid,
)
from prefsim.solvers.reference_update import ReferenceUpdate
from prefsim.solvers.results import ConvergenceWarning
from prefsim.solvers.threshold_search import ThresholdSearch, search_thresholds

__all__ = [
    "BradleyTerryResult",
    "ConstrainedOptimum",
    "ConvergenceWarning",
    "ConvexFront",
    "DualPoint",
    "EmbeddingResult",
    "FitResult",
    "Flow",
    "NashHistory",
    "NashResult",
    "OptimisticReward",
    "PessimisticGame",
    "PlackettLuceResult",
    "ReferenceUpdate",
    "RegularisedOptimum",
    "SelfImprovement",
    "SkewDecomposition",
    "Separation",
    "StepSizeWarning",
    "ThresholdSearch",
    "calibrated_reward",
    "calibrated_value",
    "convex_coverage_set",
    "convex_front",
    "constrained_dual",
    "constrained_optimum",
    "count_matrix",
    "cross_entropy_penalty",
    "crowding_distance",
    "decompose_skew",
    "duality_gap",
    "exploitability",
    "fit",
    "fit_bradley_terry",
    "fit_plackett_luce",
    "fit_preference_embedding",
    "games",
    "gibbs_log_policy",
    "gpo_update",
    "gradient_descent",
    "gradient_flow",
    "kl_penalty",
    "nash_path",
    "non_dominated",
    "objective",
    "optimal_policy",
    "optimistic_reward",
    "planning",
    "preference_scores",
    "regularised_optimum",
    "revision_chain",
    "search_thresholds",
    "separating_direction",
    "solve_nash",
    "solve_self_improvement",
    "weight_grid",
]


def __dir__() -> list[str]:
    return sorted(__all__)
