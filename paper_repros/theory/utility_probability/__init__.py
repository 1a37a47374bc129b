"""Scores read as utilities: order first, and probabilities again only where a decision needs them.

The paper's own conversion of utilities into probabilities is not known to us: no text of it could
be read but the abstract. The one that stands here is a candidate of ours.
"""

from prefsim.papers import Paper

PAPER = Paper(
    slug="utility_probability",
    title="Utility-Probability Duality of Neural Networks",
    arxiv="2305.14859",
    year=2023,
    summary=(
        "Maximum likelihood lifts the utility of what was observed over what the model would pick;"
        " the scores are an order of preference first, and are made a probability, a sharper one,"
        " before decisions need it. Read from the abstract alone: the paper's own conversion is not"
        " known to us, and ours, a softmax at a temperature, is a candidate."
    ),
    implements=(
        "prefsim.analysis.utilities.utility_probability",
        "prefsim.analysis.utilities.sharpening_slope",
        "prefsim.analysis.utilities.revealed_margin",
        "prefsim.analysis.utilities.improvement_direction",
        "prefsim.analysis.decisions.map_decision",
        "prefsim.analysis.decisions.mbr_decision",
        "prefsim.analysis.decisions.length_normalised_utility",
        "prefsim.analysis.decisions.noisy_token_accuracy",
        "prefsim.solvers.likelihood.hard_margin.hard_margin",
        "prefsim.losses.cross_entropy",
        "prefsim.losses.bradley_terry",
    ),
)
