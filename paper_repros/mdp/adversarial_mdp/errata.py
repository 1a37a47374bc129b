"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        about="lemmas as in the authors' talk",
        says=(
            "a magnitude-reduced variable has at most four times the second moment, and reduced "
            "estimates are −O(H/√γ) at least"
        ),
        true=(
            "At most the second moment itself, because a positive part has no larger variance; "
            "and at least −H/(2√γ), which is reached: by a pair opposite to one of length √γ that"
            " is always played."
        ),
        known="derivation; `prefsim check adversarial_mdp`",
    ),
    Erratum(
        kind="less sharp",
        says=(
            "exponential weights need reduced estimates, and exploration a bonus, for a regret of"
            " √K"
        ),
        true=(
            "In proof. On random linear processes (three layers, d = 4) standard estimates as low"
            " as −691 cost nothing that is seen: in 8,000 episodes and eight worlds a regret of "
            "447 ± 35, and 437 ± 33 with reduced ones; no bonus gives 413. A bonus β = 3/√K more "
            "than doubles it. The exponent is .63 to .65 there, not yet ½."
        ),
        known="`prefsim repro adversarial_mdp`",
    ),
)
