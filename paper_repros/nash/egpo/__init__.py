"""The extragradient method on a regularised game, each half step a gradient step of a loss."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="egpo",
    title=(
        "Extragradient Preference Optimization (EGPO): Beyond Last-Iterate Convergence for Nash"
        " Learning from Human Feedback"
    ),
    arxiv="2503.08942",
    year=2025,
    summary=(
        "The regularised preference game is strongly monotone, so that the extragradient method"
        " converges linearly in its last iterate where plain gradient play may cycle. Each half"
        " step is one gradient step of an online IPO loss: no inner problem has to be solved."
    ),
    implements=(
        "prefsim.solvers.games.updates.egpo_update",
        "prefsim.losses.nash.online_ipo",
        "prefsim.data.drawn.judged_triples",
        "prefsim.loops.rounds.play_rounds",
    ),
)
