"""Which pairs people should label and which a model may: routed by a predicted score."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="hybrid_routing",
    title="Hybrid Preferences: Learning to Route Instances for Human vs. AI Feedback",
    arxiv="2410.19133",
    year=2024,
    summary=(
        "The score of a reward model is regressed on how many instances of each kind people"
        " labelled; the budget of labels by people then goes to the instances with the largest"
        " predicted gain."
    ),
    implements=(
        "prefsim.data.routing.feature_counts",
        "prefsim.data.routing.route_top",
        "prefsim.data.routing.route_above",
        "prefsim.data.routing.routed_labels",
        "prefsim.solvers.performance_model.fit_performance",
        "prefsim.solvers.performance_model.learn_performance",
        "prefsim.solvers.performance_model.route_greedily",
        "prefsim.solvers.performance_model.route_simulated",
    ),
)
