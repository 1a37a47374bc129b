"""Rewards held at the values up to which they are good proxies, by multipliers that are learned."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="constrained_rlhf",
    title="Confronting Reward Model Overoptimization with Constrained RLHF",
    arxiv="2310.04373",
    year=2023,
    summary=(
        "A sum of reward models is good only up to a point in each of them. Constraints hold each"
        " there; the multipliers are learned along, and the points found in the same training."
    ),
    implements=(
        "prefsim.solvers.closed_forms.constrained.constrained_optimum",
        "prefsim.solvers.closed_forms.constrained.constrained_dual",
        "prefsim.solvers.closed_forms.separation.separating_direction",
        "prefsim.losses.multipliers.mixture_weights",
        "prefsim.losses.multipliers.mixed_advantage",
        "prefsim.losses.multipliers.multiplier_step",
        "prefsim.losses.multipliers.saturated",
        "prefsim.analysis.proxy_points.reward_path",
        "prefsim.analysis.proxy_points.proxy_point",
        "prefsim.solvers.threshold_search.search_thresholds",
    ),
)
