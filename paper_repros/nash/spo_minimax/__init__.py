"""The minimax winner of preferences over trajectories, by one learner that plays itself."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="spo_minimax",
    title="A Minimaximalist Approach to Reinforcement Learning from Human Feedback",
    arxiv="2401.04056",
    year=2024,
    summary=(
        "Preferences of many raters are aggregated by the minimax winner. Because the game is"
        " symmetric, one agent that plays itself with a no-regret learner reaches it: a"
        " trajectory's reward is its win rate against the agent's own trajectories."
    ),
    implements=(
        "prefsim.solvers.solve_nash",
        "prefsim.solvers.planning.tree_backup.soft_backup",
        "prefsim.loops.queue_win_rates",
        "prefsim.loops.queued_self_play",
        "prefsim.analysis.voting.borda_scores",
        "prefsim.analysis.voting.copeland_scores",
        "prefsim.analysis.voting.condorcet_margin",
        "prefsim.losses.mirror_descent",
    ),
)
