"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="revising five times makes answers better",
        true=(
            "Where preferences are nearly transitive. On random games with cycles five revisions "
            "lower the win rate against the reference on average (.593 to .543)."
        ),
        known="`prefsim repro srpo`",
    ),
)
