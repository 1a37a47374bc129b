"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="momentum accelerates iterative DPO and self-play (SPPO)",
        true=(
            "Where a reward decides, yes, exactly. In a game where one response beats all others "
            "it can slow down if the margins are tiny: with P = "
            "[[.5,.66,.51],[.34,.5,1],[.49,0,.5]] and five rounds of step .5 the exploitability "
            "is .0673, .0692, .0718 for α = 0, .3, .6. With margins of .1 and more it helped on "
            "every random game tried; found, not proved. On a cycle the distance of the last "
            "policy from the equilibrium grows with the momentum."
        ),
        known="`prefsim check apo`",
    ),
    Erratum(
        kind="wrong",
        says="momentum α divides the rounds by 1/(1 − α)",
        true=(
            "In the limit of many rounds. The transient α/(1 − α)² is 90 rounds at α = .9, so "
            "that it saves less where plain rounds number less than about 900. The exact "
            "coefficient c_T predicts the count. Counts never rise with the momentum; where plain"
            " rounds are few they need not fall (3, 3, 3, 2)."
        ),
        known="`prefsim repro apo`",
    ),
)
