"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="CHES tells which samples displace",
        true=(
            "Where hidden states are parameters it orders drawn pairs by the rate of the chosen "
            "response (rank correlation −.57 to −.87 at equal lengths). Where lengths differ, "
            "much of what it orders by is the length (−.70 to −.87, and CHES per token −.50 to "
            ".01). A sample displaces mostly in company: of the 24 pairs of highest CHES among "
            "96, DPO displaces 96 % to 100 % when trained together (log π(chosen) changes by −52 "
            "to −21) and 0 to 75 % each alone (by −2.9 to 4.9)."
        ),
        known="`prefsim repro likelihood_displacement`, 30 seeds",
    ),
)
