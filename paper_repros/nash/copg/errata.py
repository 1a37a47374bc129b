"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says=(
            "policy gradient on samples of another policy, with the wrong baseline, ends elsewhere"
        ),
        true=(
            "Where is known in closed form: μ(R_β − b) = cπ, with c > 0 exactly when b is below "
            "the optimal value."
        ),
        known="`off_policy_limit`, checked against integration",
    ),
)
