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
            "With K = 4 samples it disturbs the rest as much as gradient ascent in all four "
            "worlds; K = 16 comes near the exact anchor in three of four. Even the exact anchor "
            "is no guarantee: it lost in 8 of 300 small worlds."
        ),
        known="`prefsim repro d2o`, `prefsim check d2o`",
    ),
)
