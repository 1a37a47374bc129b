"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="the gap is at most (√C_π̂ + √C_π*)√(ε_r/2)",
        true="With C − 1 in the place of C it still holds, and is attained.",
        known="`prefsim check hypo_coverage`",
    ),
)
