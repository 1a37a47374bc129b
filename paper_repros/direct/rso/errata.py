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
            "In the ranker's own reward yes: in the mean of the three losses in 40 short runs of "
            "three worlds each and four full ones of ten, no two of which share a world, and for "
            "every loss alone in all but one of the short ones. In true reward it is mixed on a "
            "small token world: of the four full runs with the sigmoid loss accepted samples led "
            "in one, samples of the initial policy in two, given pairs in one (gains of given "
            "pairs, samples of the initial policy, accepted samples: .66, .45, .94 in that of "
            "seed 0, .57, .33, .39 in that of seed 3)."
        ),
        known="`prefsim repro rso`",
    ),
)
