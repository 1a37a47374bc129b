"""Where samples come from, and whether a loss pushes responses down: what finds a far peak."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="suboptimal_on_policy",
    title="Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy Data",
    arxiv="2404.14367",
    year=2024,
    summary=(
        "Sampling from the policy and pushing responses down make an objective mode seeking: it"
        " moves mass fast to a peak of the reward that the data hardly cover, where maximum"
        " likelihood on fixed data stops."
    ),
    implements=(
        "prefsim.analysis.mode_seeking.kl_gradients",
        "prefsim.analysis.mode_seeking.logarithmic_mean",
        "prefsim.solvers.closed_forms.self_training.best_of_n",
        "prefsim.solvers.optimisers.policy_gradient.score_gradient",
        "prefsim.losses.dpo",
        "prefsim.losses.sft",
        "prefsim.losses.gradient_ascent",
    ),
)
