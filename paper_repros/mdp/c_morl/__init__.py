"""Fronts of trade-offs, filled by improving one objective while the others keep their level."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="c_morl",
    title="C-MORL: Multi-Objective Reinforcement Learning through Efficient Discovery of Pareto"
    " Front",
    arxiv="2410.02236",
    year=2024,
    summary=(
        "A few policies for fixed preferences, then extensions of the loneliest: one objective is"
        " improved while the others keep a share of what they are. That reaches points between"
        " those that weighted sums find, so that a small archive dominates more."
    ),
    implements=(
        "prefsim.loops.front_extension.extend_front",
        "prefsim.loops.front_extension.least_returns",
        "prefsim.solvers.planning.constrained.constrained_program",
        "prefsim.solvers.planning.constrained.largest_slack",
        "prefsim.solvers.planning.log_barrier.log_barrier_optimum",
        "prefsim.solvers.optimisers.trust_region.constrained_step",
        "prefsim.solvers.optimisers.trust_region.barrier_penalty",
        "prefsim.solvers.pareto.non_dominated",
        "prefsim.solvers.pareto.crowding_distance",
        "prefsim.solvers.pareto.convex_coverage_set",
        "prefsim.solvers.pareto.weight_grid",
        "prefsim.analysis.pareto.hypervolume",
        "prefsim.analysis.pareto.expected_utility",
        "prefsim.analysis.pareto.sparsity",
        "prefsim.analysis.pareto.assign_points",
    ),
)
