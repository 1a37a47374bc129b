"""Posteriors of tasks in sequence, of which preferences over tasks select mixtures untrained."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="ibcl",
    title="IBCL: Zero-shot Model Generation for Task Trade-offs in Continual Learning",
    arxiv="2305.14782",
    year=2023,
    summary=(
        "Each task of a sequence adds a few posteriors to a credal set. A preference over tasks"
        " selects one of its mixtures, and the smallest region that holds so much of that has the"
        " models for the preference: none is trained for it."
    ),
    implements=(
        "prefsim.analysis.grid_posterior",
        "prefsim.analysis.posterior_weights",
        "prefsim.analysis.mixture_log_prob",
        "prefsim.analysis.gaussian_posterior",
        "prefsim.analysis.mixture_moments",
        "prefsim.analysis.extend_credal_set",
        "prefsim.analysis.preference_weights",
        "prefsim.analysis.expectation_bounds",
        "prefsim.analysis.gaussian_wasserstein",
        "prefsim.analysis.gaussian_barycentre",
        "prefsim.analysis.highest_density_region",
        "prefsim.analysis.mixture_density_region",
        "prefsim.analysis.mixture_quantile",
        "prefsim.analysis.central_box",
        "prefsim.solvers.likelihood.logistic_laplace.logistic_laplace",
    ),
)
