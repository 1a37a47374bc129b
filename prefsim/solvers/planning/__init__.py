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
from prefsim.solvers.planning.constrained import (
    ConstrainedOptimum,
    InfeasibleError,
    constrained_program,
    largest_slack,
)
from prefsim.solvers.planning.evaluation import (
    SuccessorFeatures,
    occupancy,
    policy_evaluation,
    successor_features,
)
from prefsim.solvers.planning.features import FeatureOptimum, FeatureProcess
from prefsim.solvers.planning.iteration import advantages, soft_value_iteration, value_iteration
from prefsim.solvers.planning.linear_program import linear_program
from prefsim.solvers.planning.log_barrier import BarrierOptimum, log_barrier_optimum
from prefsim.solvers.planning.modified import modified_policy_iteration
from prefsim.solvers.planning.objectives import objective_returns
from prefsim.solvers.planning.policy_iteration import policy_iteration
from prefsim.solvers.planning.reachable import uniform_over_reachable
from prefsim.solvers.planning.tree_backup import (
    ExpectedBackup,
    SoftBackup,
    expected_backup,
    prefix_values,
    score_gradient_in_tree,
    soft_backup,
    token_gradient_in_tree,
)

__all__ = [
    "BarrierOptimum",
    "ConstrainedOptimum",
    "ExpectedBackup",
    "FeatureOptimum",
    "FeatureProcess",
    "InfeasibleError",
    "PlanningResult",
    "SoftBackup",
    "SuccessorFeatures",
    "action_values",
    "advantages",
    "bellman_backup",
    "constrained_program",
    "expected_backup",
    "greedy_policy",
    "largest_slack",
    "linear_program",
    "log_barrier_optimum",
    "modified_policy_iteration",
    "objective_returns",
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
    "token_gradient_in_tree",
    "uniform_over_reachable",
    "value_iteration",
]
