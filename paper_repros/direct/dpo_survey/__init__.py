"""Identities between the direct-alignment losses, and all of them on one plane."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="dpo_survey",
    title="A Survey of Direct Preference Optimization",
    arxiv="2503.11701",
    year=2025,
    summary=(
        "One table of direct-alignment losses, sorted by the part of DPO that each changes: data,"
        " framework, constraint or property."
    ),
    implements=(
        "prefsim.losses.soft",
        "prefsim.losses.catalogue.properties_of",
        "prefsim.losses.taxonomy.by_part",
    ),
)
