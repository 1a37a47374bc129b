"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="the policy improves monotonically across iterations",
        true=(
            "Exact steps do. Fitted in three iterations (DNO-Prct) it did in 30 of 30 small "
            "networks with gentle steps, and in 11 to 14 of 30 with steps four times as long "
            "(seeds 0 to 2). It improves without the teacher as well: the gain is not the "
            "teacher's alone."
        ),
        known="`prefsim repro dno`",
    ),
)
