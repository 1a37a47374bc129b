"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "often stated: forward KL keeps the most diversity, reverse KL the least, the others "
            "lie between"
        ),
        true=(
            "Not at equal reward: on bandits of fifty responses forward KL keeps more entropy in "
            "about a quarter (94 of 400). At equal β, entropy is monotone in α on 1 % to 49 % of "
            "bandits, over β in [.05, 5]."
        ),
        known="`prefsim check f_dpo`, `prefsim repro f_dpo`",
    ),
)
