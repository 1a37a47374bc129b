"""Robust DPO: labels that are flipped at a known rate, with the bias of the flips taken out."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="rdpo",
    title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
    arxiv="2403.00409",
    year=2024,
    summary=(
        "Where labels are flipped at a known rate, a loss with the flips' bias taken out recovers"
        " what clean labels would have taught; plain DPO is biased towards a flat policy and label"
        " smoothing makes that worse."
    ),
    implements=(
        "prefsim.losses.rdpo",
        "prefsim.losses.dpo",
        "prefsim.raters.noise.flip_labels",
        "prefsim.analysis.loglinear.estimate_covariance",
        "prefsim.analysis.loglinear.relative_condition_number",
        "prefsim.analysis.loglinear.estimation_bound",
    ),
)
