"""Rejected responses alone, held against the distribution of the model's own samples."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="d2o",
    title=(
        "Negating Negatives: Alignment without Human Positive Samples via Distributional"
        " Dispreference Optimization"
    ),
    arxiv="2403.03419",
    year=2024,
    summary=(
        "Rejected responses go down against the mean log-ratio of the model's own samples, which"
        " anchors the policy to its reference."
    ),
    implements=("prefsim.losses.d2o", "prefsim.data.Negatives"),
)
