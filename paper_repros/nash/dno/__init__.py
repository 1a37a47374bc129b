"""Soft policy iteration on win rates against oneself, learned by a contrastive regression."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="dno",
    title=(
        "Direct Nash Optimization: Teaching Language Models to Self-Improve with General"
        " Preferences"
    ),
    arxiv="2404.03715",
    year=2024,
    summary=(
        "The reward of a response is its win rate against the current policy; the next policy,"
        " tilted by exp(reward/η), is learned by regression with soft labels on pairs. In practice"
        " iterated DPO on own samples and a teacher's answer, filtered by score and margin."
    ),
    implements=(
        "prefsim.losses.dno",
        "prefsim.solvers.nash_path",
        "prefsim.solvers.closed_forms.self_training.iterative_dpo_step",
        "prefsim.data.Comparisons.self_play",
        "prefsim.data.filtered_pairs.filtered_pairs",
        "prefsim.loops.self_play.self_play",
    ),
)
