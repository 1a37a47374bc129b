"""Models that are retrained on their own samples, which users have curated."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="self_consuming",
    title=(
        "Self-Consuming Generative Models with Curated Data Provably Optimize Human Preferences"
    ),
    arxiv="2407.09499",
    year=2024,
    summary=(
        "A model fitted again and again to those of its own samples that users keep maximises"
        " their reward until nothing but the best is left; real data among them keep it near, and"
        " still above the data's reward."
    ),
    implements=(
        "prefsim.solvers.closed_forms.curation.curation_factor",
        "prefsim.solvers.closed_forms.curation.curated_law",
        "prefsim.loops.self_consuming.self_consuming",
    ),
)
