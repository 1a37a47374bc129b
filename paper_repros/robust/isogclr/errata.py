"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="often stated: anchors of frequent semantics get larger temperatures",
        true=(
            "For radii that are small against log(1/q), where a share q of the negatives is as "
            "near as the positive and the others are farther by 1: at ρ = .1 the temperature "
            "rises up to q ≈ .35, at ρ = 1 it is largest near q = .11 and the lowest there is "
            "from q = .37 on. Linear encoders of clusters of 2 to 40 points show it weakly: mean "
            "temperatures of 1.06 to 1.08, rank correlation with the size .35 ± .10 (ten seeds, "
            "standard error). On digits with a long tail it is .12 ± .09 (five splits), and "
            "learned temperatures do not pay: the balanced accuracy of neighbours is .088 ± .005 "
            "(ρ = .1) and .045 ± .004 (ρ = .3) below that of InfoNCE at τ = .1."
        ),
        known="`prefsim check isogclr`, `prefsim repro isogclr`",
    ),
)
