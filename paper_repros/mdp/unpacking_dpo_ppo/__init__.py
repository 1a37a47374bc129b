"""Which of data, algorithm, reward model and prompts matters: DPO and PPO in a full factorial."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="unpacking_dpo_ppo",
    title=(
        "Unpacking DPO and PPO: Disentangling Best Practices for Learning from Preference Feedback"
    ),
    arxiv="2406.09279",
    year=2024,
    summary=(
        "Data matter most, then the algorithm (PPO over DPO), then the reward model, then the"
        " prompts that PPO is trained on. What the algorithm is worth follows from what the reward"
        " model carries over to other prompts and the policy does not."
    ),
    implements=(
        "prefsim.losses.dpo",
        "prefsim.losses.bradley_terry",
        "prefsim.losses.ppo",
        "prefsim.losses.value_loss",
        "prefsim.losses.gae",
        "prefsim.losses.whitened",
        "prefsim.losses.reduced",
        "prefsim.losses.kl_shaped_rewards",
        "prefsim.losses.finished_scores",
        "prefsim.raters.noise.flip_labels",
        "prefsim.solvers.planning.tree_backup.prefix_values",
        "prefsim.solvers.optimisers.log_linear_optimum.log_linear_optimum",
        "prefsim.analysis.factorial.full_factorial",
        "prefsim.analysis.factorial.contrast",
        "prefsim.analysis.factorial.main_effects",
    ),
)
