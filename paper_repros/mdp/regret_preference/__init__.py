"""People compare pieces of behaviour by regret: what follows for learning rewards from them."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="regret_preference",
    title="Models of human preference for learning reward functions",
    arxiv="2206.02231",
    year=2022,
    summary=(
        "People who compare two trajectory segments judge how far each falls short of optimal"
        " behaviour, not only what it collects. Modelled so, their preferences identify the reward"
        " up to its optimal policies and teach better policies from few labels."
    ),
    implements=(
        "prefsim.raters.regret.segment_regret",
        "prefsim.raters.regret.regret_preference",
        "prefsim.losses.segments.regret",
        "prefsim.solvers.likelihood.reward_learning.fit_regret_reward",
        "prefsim.solvers.likelihood.reward_learning.fit_regret_reward_library",
        "prefsim.solvers.likelihood.reward_learning.fit_partial_return_reward",
        "prefsim.worlds.delivery.delivery_task",
        "prefsim.data.delivery.read_delivery",
    ),
)
