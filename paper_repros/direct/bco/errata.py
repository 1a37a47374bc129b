"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="the reward shift tightens the bound on the DPO loss",
        true=(
            "For a fixed policy. Along training the gap to the DPO loss ends higher with the "
            "shift (.86) than without (.78), because the policies differ."
        ),
        known="`prefsim repro bco`",
    ),
)
