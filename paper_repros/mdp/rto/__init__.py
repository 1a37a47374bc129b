"""What a policy trained by DPO says of every token is a reward for PPO."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="rto",
    title="DPO Meets PPO: Reinforced Token Optimization for RLHF",
    arxiv="2404.18922",
    year=2024,
    summary=(
        "A response is a path of states, its prefixes. The log-ratio of a policy trained by DPO to"
        " its reference is the true reward of each token, shaped by the values of what follows:"
        " paid to PPO token by token, it says at once what a reward of the whole response says at"
        " the end."
    ),
    implements=(
        "prefsim.losses.token_rewards.log_ratio_rewards",
        "prefsim.losses.token_rewards.rto_rewards",
        "prefsim.losses.advantages.gae",
        "prefsim.losses.advantages.kl_shaped_rewards",
        "prefsim.solvers.planning.tree_backup.soft_backup",
        "prefsim.solvers.planning.tree_backup.expected_backup",
        "prefsim.solvers.planning.tree_backup.token_gradient_in_tree",
        "prefsim.solvers.optimisers.token_policy_gradient.token_policy_gradient",
        "prefsim.solvers.likelihood.linear_reward.pessimistic_reward",
    ),
)
