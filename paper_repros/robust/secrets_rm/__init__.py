"""Which labels to doubt and what to do with them, and a reward model that is to last."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="secrets_rm",
    title="Secrets of RLHF in Large Language Models Part II: Reward Modeling",
    arxiv="2401.06080",
    year=2024,
    summary=(
        "The mean margin of an ensemble of reward models finds labels to doubt, which are flipped,"
        " smoothed or given a margin. A contrastive term shapes the model's representations, and a"
        " look ahead up the differences of rewards (MetaRM) is to keep it useful on new responses."
    ),
    implements=(
        "prefsim.losses.bradley_terry",
        "prefsim.data.strength.preference_strength",
        "prefsim.data.strength.treat_labels",
        "prefsim.solvers.likelihood.linear_reward.fit_linear_reward",
        "prefsim.losses.paired_views.simcse",
        "prefsim.losses.paired_views.sinkhorn_codes",
        "prefsim.losses.paired_views.swapped_prediction",
        "prefsim.solvers.look_ahead.reward_difference",
        "prefsim.solvers.look_ahead.look_ahead_gradient",
        "prefsim.solvers.look_ahead.look_ahead_step",
    ),
)
