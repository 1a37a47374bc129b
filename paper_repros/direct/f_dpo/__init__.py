"""Direct preference optimisation under other divergences than the reverse KL."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="f_dpo",
    title=(
        "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence"
        " Constraints"
    ),
    arxiv="2309.16240",
    year=2023,
    summary=(
        "Where f' is invertible and infinite at zero, the reward is a function of the policy's"
        " ratio up to a constant that cancels in a comparison: DPO works under forward KL,"
        " Jensen–Shannon and alpha divergences as well."
    ),
    implements=(
        "prefsim.losses.f_dpo",
        "prefsim.divergences.divergence_score",
        "prefsim.divergences.f_divergence",
        "prefsim.divergences.pinsker_constant",
        "prefsim.analysis.frontier.optimal_frontier",
        "prefsim.solvers.optimal_policy",
    ),
)
