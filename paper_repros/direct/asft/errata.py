"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="often stated: the chosen response stays likely, and above the rejected one",
        true=(
            "The first is true. The second is not: where the two share a feature, ASFT lifts the "
            "rejected response to .48, above the chosen one, as ORPO does."
        ),
        known="`prefsim repro asft`",
    ),
)
