"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="with λ(K − 1) < 1 curated samples on a real one the loop stays near the real data",
        true=(
            "For every λ the law keeps each probability above that of the real data over 1 + λ, "
            "so that KL(real‖law) ≤ log(1 + λ). On the eight Gaussians (K = 4) the loop settles "
            "at λ = 1 too, where λ(K − 1) = 3: KL(law‖real) .48, the far modes at half their "
            "mass."
        ),
        known="`prefsim check self_consuming`, `prefsim repro self_consuming`",
    ),
)
