"""Multiplicative weights in the preference game, as a regression on win rates."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="sppo",
    title="Self-Play Preference Optimization for Language Model Alignment",
    arxiv="2405.00675",
    year=2024,
    summary=(
        "Multiplicative weights against oneself in the preference game, each step a least-squares"
        " regression of the log-ratio to the last policy on the centred win rate. The average"
        " policy converges to the equilibrium; chosen responses go up and rejected ones down."
    ),
    implements=(
        "prefsim.losses.sppo",
        "prefsim.losses.sppo_hard",
        "prefsim.solvers.nash_path",
        "prefsim.loops.self_play.self_play",
        "prefsim.data.Comparisons.self_play",
    ),
)
