"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "often stated: the smaller the temperature, the more uniform the embeddings; hard "
            "negatives keep them so at large ones"
        ),
        true=(
            "Down to a point: below the positive the loss of the hardest negative vanishes, and "
            "embeddings stay uneven. On clusters the uniformity (lower is better) is −2.21, "
            "−2.25, −2.11 and −2.02 at τ = .05, .3, 3 and 10. Hard negatives do keep it: the "
            "hardest quarter gives −2.20 to −2.21 at τ = 3, 10 and in the linear loss, where all "
            "negatives give −1.24. Where training is long all negatives come as far at τ = 3 "
            "(−2.21 and the hardest quarter −2.19; digits −1.85 and −1.78), not at 10 (−2.17 and "
            "−2.20; digits −1.69 and −1.79)."
        ),
        known=(
            "`prefsim check contrastive_behaviour`, `prefsim repro contrastive_behaviour`; 6 seeds"
        ),
    ),
)
