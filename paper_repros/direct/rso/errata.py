"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="pairs sampled from the optimal policy estimate it better",
        true=(
            "Not in general: in misspecified log-linear classes the fit to them has the higher "
            "reward in 31 % of 300 random worlds (19–31 % under four laws of worlds). In "
            "well-specified classes half of each source beats both alone in 78 % of 300; always "
            "true, by convexity of the inverse information, is that its gap is at most the mean "
            "of the two."
        ),
        known="derivation, and 300 worlds",
    ),
    Erratum(
        kind="wrong",
        says=(
            "sampling by rejection beats sampling from the initial policy, which beats given pairs"
        ),
        true=(
            "In the ranker's own reward yes, for every loss in 40 quick runs of three seeds and "
            "four full ones of ten. In true reward it is mixed on a small token world: of the "
            "four full runs with the sigmoid loss accepted samples led in one, samples of the "
            "initial policy in three (gains .64, .91, .75 in that of seed 0, .85, .91, 1.10 in "
            "that of seed 3)."
        ),
        known="`prefsim repro rso`",
    ),
)
