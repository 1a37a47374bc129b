"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="released code",
        says="one regression loss on the score, with an optional margin",
        true=(
            "With a margin there are two: ½(s/τ − 5σ(margin))² for two-dimensional embeddings, "
            "½((s − margin)/τ)² above two. Without one both are ½(s/τ − m)²."
        ),
        known="`general_preference/models/loss.py` of the release",
    ),
    Erratum(
        kind="less sharp",
        says="2⌈n/2⌉ numbers represent any preference of n responses",
        true=(
            "A skew matrix has even rank ≤ 2⌊n/2⌋, and rank(S) numbers suffice (2 for n = 3). "
            "Cutting to rank − 2 leaves an error."
        ),
        known="`prefsim check gpm`",
    ),
)
