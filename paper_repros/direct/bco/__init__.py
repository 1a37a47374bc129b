"""Thumbs up and down as classes, and the implicit reward as the logit of their classifier."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="bco",
    title="Binary Classifier Optimization for Large Language Model Alignment",
    arxiv="2404.04656",
    year=2024,
    summary=(
        "Thumbs up and down train a classifier whose logit is the implicit reward: an upper bound"
        " of DPO, tightened by a reward shift."
    ),
    implements=(
        "prefsim.losses.bco_unpaired",
        "prefsim.losses.bco_pair",
        "prefsim.losses.bco",
        "prefsim.losses.density_ratio_weights",
    ),
)
