"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="EGPO contracts for steps up to min(1/(2β + 1), ½)",
        true=(
            "By the same argument for steps up to 2√(1 + β²) − 2β, which is larger than 1/(β + ½)."
        ),
        known="`prefsim check egpo`",
    ),
    Erratum(
        kind="less sharp",
        says="EGPO is ahead of online IPO in the sampled setting",
        true=(
            "At ten times the authors' step its final gap is .91 of that of online IPO 1 (one "
            "seed): a trial step matters where the step nears 2β/(β² + ω²) for the frequency ω of"
            " the game. There online IPO 1 ends 4.7 to 11 times as far from the equilibrium at "
            "equal noise."
        ),
        known="`prefsim repro egpo`",
    ),
)
