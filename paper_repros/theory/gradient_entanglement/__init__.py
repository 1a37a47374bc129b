"""A loss of the margin ties two log-probabilities together through their gradients."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="gradient_entanglement",
    title=("A Common Pitfall of Margin-based Language Model Alignment: Gradient Entanglement"),
    arxiv="2410.13828",
    year=2024,
    summary=(
        "A step on a margin loss changes each log-probability by a term with the inner product of"
        " both gradients, so that both may rise or both may fall; how hard the loss pulls either"
        " response decides when."
    ),
    implements=(
        "prefsim.analysis.pair_derivatives.pair_derivatives",
        "prefsim.analysis.pair_derivatives.both_fall_above",
        "prefsim.analysis.pair_derivatives.pulls_of_losses",
        "prefsim.analysis.displacement.entanglement",
        "prefsim.losses.dpo",
        "prefsim.losses.rdpo_length",
        "prefsim.losses.simpo",
        "prefsim.losses.ipo",
        "prefsim.losses.rrhf",
        "prefsim.losses.slic",
        "prefsim.losses.cpo",
        "prefsim.losses.dpop",
        "prefsim.losses.kto",
        "prefsim.losses.sppo_hard",
    ),
)
