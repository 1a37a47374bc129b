"""A generator and an improver from offline pairs, whoever drew them."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="srpo",
    title="Self-Improving Robust Preference Optimization",
    arxiv="2406.01660",
    year=2024,
    summary=(
        "A generator and an improver that revises its responses, as one min-max problem. It has a"
        " closed form that does not depend on how the training pairs were drawn, and one square"
        " loss on offline pairs finds both policies."
    ),
    implements=(
        "prefsim.losses.srpo",
        "prefsim.losses.SelfImprovementLogps",
        "prefsim.data.Revisions",
        "prefsim.solvers.solve_self_improvement",
        "prefsim.solvers.revision_chain",
        "prefsim.solvers.closed_forms.self_improvement.self_improvement_errors",
        "prefsim.solvers.closed_forms.self_improvement.self_improvement_value",
    ),
)
