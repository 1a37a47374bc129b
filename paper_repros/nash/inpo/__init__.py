"""Mirror descent on a preference game by a pairwise loss, from labels alone."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="inpo",
    title=(
        "Iterative Nash Policy Optimization: Aligning LLMs with General Preferences via No-Regret"
        " Learning"
    ),
    arxiv="2407.00617",
    year=2024,
    summary=(
        "Mirror descent on the game of a preference model with a KL penalty. Its step needs win"
        " rates against the current policy, but the minimiser of a square loss on labelled pairs"
        " drawn from that policy is the very same step."
    ),
    implements=(
        "prefsim.losses.nash.inpo",
        "prefsim.solvers.games.updates.mirror_descent_update",
        "prefsim.data.drawn.labelled_pairs",
    ),
)
