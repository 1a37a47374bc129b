"""The policy gradient of a pair as a regression: off policy, without importance weights."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="copg",
    title=(
        "Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a"
        " supervised-friendly fashion"
    ),
    arxiv="2406.19185",
    year=2024,
    summary=(
        "A pairwise loss whose gradient is a policy gradient with the right baseline: whatever drew"
        " the pairs, its only optimum is the regularised one."
    ),
    implements=(
        "prefsim.losses.copg",
        "prefsim.losses.copg_group",
        "prefsim.solvers.optimisers.policy_gradient.contrastive_gradient",
    ),
)
