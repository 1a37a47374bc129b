"""What judges look at: their choices explained by how two responses compare on properties."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="preference_dissection",
    title="Dissecting Human and LLM Preferences",
    arxiv="2402.11296",
    year=2024,
    summary=(
        "Choices between two responses are explained by how these compare on named properties, in"
        " a Bayesian logistic regression without intercept. The weights of judges can be compared,"
        " and a judge can be won over by adding the properties that it likes most."
    ),
    implements=(
        "prefsim.solvers.likelihood.sparse_logistic.fit_sparse_logistic",
        "prefsim.solvers.likelihood.logistic_posterior.logistic_posterior",
        "prefsim.data.properties.compare_scores",
        "prefsim.data.properties.compare_lengths",
        "prefsim.raters.order_free_margin",
        "prefsim.analysis.judge_similarity",
        "prefsim.analysis.property_attribution",
    ),
)
