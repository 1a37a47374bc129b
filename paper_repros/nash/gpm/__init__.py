"""Preferences, cycles included, as a fixed skew form of two vectors; self-play on its scores."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="gpm",
    title=(
        "General Preference Modeling with Preference Representations for Aligning Language Models"
    ),
    arxiv="2410.02197",
    year=2024,
    summary=(
        "Each response gets a vector, and a fixed skew form of two vectors is the log-odds of the"
        " preference: antisymmetric by construction, it holds every preference matrix, cycles"
        " included. GPO is multiplicative weights on these scores."
    ),
    implements=(
        "prefsim.raters.skew_score",
        "prefsim.raters.score_matrix",
        "prefsim.raters.embedding_preference",
        "prefsim.raters.prompt_scales",
        "prefsim.raters.learned_temperature",
        "prefsim.lm.PreferenceModel",
        "prefsim.losses.bradley_terry",
        "prefsim.losses.score_regression",
        "prefsim.losses.gpo",
        "prefsim.solvers.decompose_skew",
        "prefsim.solvers.fit_preference_embedding",
        "prefsim.solvers.gpo_update",
    ),
)
