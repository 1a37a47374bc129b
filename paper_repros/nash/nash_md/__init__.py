"""A preference model in place of a reward model, and the equilibrium of its game."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="nash_md",
    title="Nash Learning from Human Feedback",
    arxiv="2312.00886",
    year=2023,
    summary=(
        "In place of a reward model, a preference model and the Nash equilibrium of its game,"
        " regularised towards a reference. Mirror descent against a geometric mixture with the"
        " reference converges in its last iterate; Nash-MD-PG is the policy gradient of that idea."
    ),
    implements=(
        "prefsim.solvers.solve_nash",
        "prefsim.solvers.games.updates.nash_md_update",
        "prefsim.solvers.games.policy_gradient.nash_md_pg_gradient",
        "prefsim.solvers.games.policy_gradient.sampled_policy_gradient",
        "prefsim.solvers.games.policy_gradient.moving_average",
        "prefsim.losses.nash_md_pg",
        "prefsim.solvers.games.certificates.regularised_gap",
    ),
)
