"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="the behaviour-cloning term as a mean over the steps of a pair",
        true=(
            "It recovers the behaviour only where all segments have one length: where episodes "
            "end early, short pairs weigh more."
        ),
        known="`prefsim check cpl`",
    ),
)
