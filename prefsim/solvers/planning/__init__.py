"""Planning in tabular decision processes.

Optimal and soft-optimal values, each with a certificate.
"""

from prefsim.solvers.planning.bellman import (
    action_values,
    bellman_backup,
    greedy_policy,
    soft_bellman_backup,
    soft_maximum,
    soft_policy,
)
from prefsim.solvers.planning.certificate import PlanningResult
from prefsim.solvers.planning.evaluation import (
    SuccessorFeatures,
    occupancy,
    policy_evaluation,
    successor_features,
)
from prefsim.solvers.planning.features import FeatureOptimum, FeatureProcess
from prefsim.solvers.planning.iteration import advantages, soft_value_iteration, value_iteration
from prefsim.solvers.planning.linear_program import linear_program
from prefsim.solvers.planning.modified import modified_policy_iteration
from prefsim.solvers.planning.policy_iteration import policy_iteration
from prefsim.solvers.planning.reachable import uniform_over_reachable
from prefsim.solvers.planning.tree_backup import (
    SoftBackup,
    prefix_values,
    score_gradient_in_tree,
    soft_backup,
)

__all__ = [
    "FeatureOptimum",
    "FeatureProcess",
    "PlanningResult",
    "SoftBackup",
    "SuccessorFeatures",
    "action_values",
    "advantages",
    "bellman_backup",
    "greedy_policy",
    "linear_program",
    "modified_policy_iteration",
    "occupancy",
    "policy_evaluation",
    "policy_iteration",
    "prefix_values",
    "score_gradient_in_tree",
    "soft_backup",
    "soft_bellman_backup",
    "soft_maximum",
    "soft_policy",
    "soft_value_iteration",
    "successor_features",
    "uniform_over_reachable",
    "value_iteration",
]
