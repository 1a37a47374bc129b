"""Pairs drawn from the optimal policy itself, by rejection of samples of the SFT policy."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="rso",
    title="Statistical Rejection Sampling Improves Preference Optimization",
    arxiv="2309.06657",
    year=2023,
    summary=(
        "Pairs are drawn from the optimal policy by rejection sampling, labelled by a ranker and"
        " fitted with a logistic or hinge loss."
    ),
    implements=(
        "prefsim.solvers.closed_forms.rejection.accepted_law",
        "prefsim.solvers.closed_forms.rejection.first_accepted_law",
        "prefsim.solvers.closed_forms.rejection.rejection_sample",
        "prefsim.losses.hinge",
    ),
)
