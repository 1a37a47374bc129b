"""The policy gradient written with differences of rewards of one prompt, clipped by response."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="p3o",
    title="Pairwise Proximal Policy Optimization: Harnessing Relative Feedback for LLM Alignment",
    arxiv="2310.00212",
    year=2023,
    summary=(
        "The policy gradient as a difference over pairs, clipped by sequence: exact, and unmoved by"
        " rewards shifted prompt by prompt."
    ),
    implements=(
        "prefsim.losses.p3o",
        "prefsim.losses.RewardScale.updated",
        "prefsim.losses.RewardScale.scaled",
        "prefsim.solvers.optimisers.policy_gradient.pairwise_variance",
    ),
)
