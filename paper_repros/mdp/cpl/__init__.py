"""A contrastive loss on whole segments turns preferences into a policy, without a reward model."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="cpl",
    title="Contrastive Preference Learning: Learning from Human Feedback without RL",
    arxiv="2310.13639",
    year=2023,
    summary=(
        "If people judge segments by regret and act like a maximum-entropy expert, advantages are"
        " log-probabilities of the policy: a contrastive loss on whole segments learns the policy"
        " in any decision process, and DPO is its one-step case."
    ),
    implements=(
        "prefsim.losses.segments.cpl",
        "prefsim.losses.segments.cpl_ranked",
        "prefsim.losses.segments.segment_contrast",
        "prefsim.losses.segments.squared_error_logps",
        "prefsim.data.Segments",
        "prefsim.solvers.planning.soft_value_iteration",
    ),
)
