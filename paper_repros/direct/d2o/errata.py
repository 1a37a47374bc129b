"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "often stated: a few samples of the model anchor it, and the rest is disturbed less "
            "than by unlearning"
        ),
        true=(
            "In twelve worlds (three full runs, medians of twenty paths down to a hundredth): "
            "with one sample it disturbs the rest more than gradient ascent in eleven, with K = 4"
            " .82 to 1.10 times as much (more in four), and K = 16 is within a tenth of the exact"
            " anchor in all. Even the exact anchor is no guarantee: it lost in 8 of 300 small "
            "worlds."
        ),
        known="`prefsim repro d2o`, `prefsim check d2o`",
    ),
)
