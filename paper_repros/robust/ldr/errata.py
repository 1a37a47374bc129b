"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="the adaptive temperature makes the loss robust to noisy labels",
        true=(
            "On a Gaussian mixture with 40 % flipped labels and on digits, ALDR-KL at λ₀ = 10 "
            "cannot be told from LDR-KL with λ fixed at 10: the robustness comes from the large "
            "λ. λ₀ = 1 separates flipped from clean labels best and is as weak as cross-entropy."
        ),
        known="`prefsim repro ldr`: 10 seeds; digits, 5 splits",
    ),
    Erratum(
        kind="less sharp",
        says="the adaptive loss is consistent for α > log K",
        true=(
            "Sufficient, not sharp: no violation was found at α = log K or .9 log K. The order "
            "provably fails once α ≤ log(K/(K − 1)) with a margin large against λ₀ and no class "
            "above one half; then equal scores are optimal."
        ),
        known="derivation; `prefsim check ldr`",
    ),
)
