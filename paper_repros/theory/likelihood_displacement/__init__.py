"""Preferring "No" over "Never" may teach "Yes": where likelihood goes when a margin grows."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="likelihood_displacement",
    title="Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization",
    arxiv="2410.08847",
    year=2024,
    summary=(
        "While the margin of a pair grows, the chosen response can become less likely, and the mass"
        " go to responses of the opposite meaning; similar hidden embeddings of the two responses"
        " cause it, and the CHES score measures how similar they are."
    ),
    implements=(
        "prefsim.analysis.displacement.ches_score",
        "prefsim.analysis.displacement.displacement",
        "prefsim.analysis.displacement.entanglement",
        "prefsim.analysis.pair_derivatives.pair_derivatives",
        "prefsim.analysis.unconstrained_features.feature_gradient",
        "prefsim.analysis.unconstrained_features.feature_gram",
        "prefsim.analysis.unconstrained_features.token_rates",
        "prefsim.losses.dpo",
        "prefsim.losses.ipo",
        "prefsim.losses.sft",
    ),
)
