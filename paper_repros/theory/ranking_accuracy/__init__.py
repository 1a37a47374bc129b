"""Preference learning hardly turns the pairs that its reference ranks wrongly."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="ranking_accuracy",
    title="Preference Learning Algorithms Do Not Learn Preference Rankings",
    arxiv="2405.19534",
    year=2024,
    summary=(
        "The optimum ranks nearly all pairs as people do, trained policies rank few of those that"
        " the reference gets wrong: to turn one, the loss must fall far below where training ends."
    ),
    implements=(
        "prefsim.analysis.ranking.idealised_log_ratio",
        "prefsim.analysis.ranking.idealised_ranking_accuracy",
        "prefsim.analysis.ranking.largest_ranking_beta",
        "prefsim.analysis.ranking.ranking_loss",
        "prefsim.analysis.displacement.ranking_accuracy",
        "prefsim.analysis.displacement.reward_accuracy",
        "prefsim.losses.dpo",
        "prefsim.losses.ipo",
    ),
)
