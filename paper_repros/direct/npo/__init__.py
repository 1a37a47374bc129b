"""Unlearning by negative preferences alone, held against gradient ascent."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="npo",
    title="Negative Preference Optimization: From Catastrophic Collapse to Effective Unlearning",
    arxiv="2404.05868",
    year=2024,
    summary=(
        "Unlearning as DPO with rejected responses only: bounded below, and divergence from the"
        " start grows like log t instead of t."
    ),
    implements=("prefsim.losses.npo", "prefsim.losses.gradient_ascent"),
)
