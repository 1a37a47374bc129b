"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="the weights of people as one human preference (length .48 where they ask for advice)",
        true=(
            "They depend on what people are asked for. Of 2,307 pairs chosen for harmlessness "
            "length has −.43 (95 % interval −.55 to −.31), apologies .60 (.33 to .88); whether a "
            "response asks, hedges or sounds pleasant is not seen to matter. Weights of two "
            "halves correlate by .91."
        ),
        known="`prefsim repro preference_dissection` with people's pairs",
    ),
)
