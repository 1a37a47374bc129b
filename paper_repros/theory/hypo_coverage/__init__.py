"""What offline preference learning needs its data to cover, and what online samples repair."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="hypo_coverage",
    title="The Importance of Online Data: Understanding Preference Fine-tuning via Coverage",
    arxiv="2406.01462",
    year=2024,
    summary=(
        "Offline contrastive learning needs data that cover every policy, KL-regularised online"
        " learning only those near the reference; DPO with an online KL penalty (HyPO) needs the"
        " latter."
    ),
    implements=(
        "prefsim.analysis.coverage.concentrability",
        "prefsim.analysis.coverage.global_coverage",
        "prefsim.analysis.coverage.kl_ball_coverage",
        "prefsim.analysis.coverage.in_distribution_reward_error",
        "prefsim.solvers.optimisers.penalties.kl_penalty",
        "prefsim.solvers.optimisers.penalties.online_kl_penalty",
        "prefsim.losses.kl_estimators.rloo_kl",
    ),
)
