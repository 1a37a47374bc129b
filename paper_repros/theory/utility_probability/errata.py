"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says=(
            "utilities made a sharper probability decide better (abstract; how is not known to "
            "us, and ours is a softmax at a temperature)"
        ),
        true=(
            "Sharper raises the expected quality at a temperature exactly where quality and "
            "utility are positively correlated there. Outputs of six tokens learned from noisy "
            "references gain: τ = .2 has an exact match .33 to .84 above that of τ = 1, by the "
            "number of references. Of 20 000 qualities unrelated to the utility half lose (.502 ±"
            " .007 from τ = 1 to ½)."
        ),
        known="`prefsim check utility_probability`, `prefsim repro utility_probability`",
    ),
)
