"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="with decreasing steps the last policy converges at the rate 1/(τ²T)",
        true=(
            "The bound holds and is very loose: the distance of the last policy falls as t⁻⁴, "
            "because steps 2/(τt) shrink it by 1 − 4/t."
        ),
        known="`prefsim repro inpo`",
    ),
)
