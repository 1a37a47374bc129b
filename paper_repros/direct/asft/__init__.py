"""The chosen response is classified by its own log-odds, not against the rejected one."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="asft",
    title="ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood",
    arxiv="2409.10571",
    year=2024,
    summary=(
        "Classify each response by its own log-odds, not by a margin, so that the chosen one is"
        " always pulled harder."
    ),
    implements=("prefsim.losses.asft", "prefsim.losses.orpo"),
)
