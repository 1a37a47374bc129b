"""Nesterov's momentum between the rounds of iterative preference optimisation."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="apo",
    title="Accelerated Preference Optimization for Large Language Model Alignment",
    arxiv="2410.06293",
    year=2024,
    summary=(
        "Iterative preference optimisation, whose reference is the last policy, is a proximal-point"
        " method. Momentum on the log-policy makes T rounds worth T/(1 − α) of them, less a"
        " transient; on cyclic preferences it makes the last policy worse."
    ),
    implements=(
        "prefsim.loops.accelerate",
        "prefsim.loops.extrapolate_policy",
        "prefsim.loops.momentum_coefficients",
        "prefsim.solvers.games.updates.apo_update",
        "prefsim.solvers.solve_nash",
    ),
)
