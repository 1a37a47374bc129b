"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="from people's labels, the regret model leads to better policies than partial return",
        true=(
            "From few. With all 1,793 labels both are near the optimum once they are fitted to "
            "the end (scaled return .998 and .992), and at 358 labels they are equal; at 89 "
            "labels, 95 % and 70 % of the policies are near-optimal. Stopping Adam early makes "
            "partial return look worse (50 % at 89 labels): the weight of one feature has no "
            "finite optimum. The regret loss has kinks and local minima: 35–60 % from one start "
            "at zero, 80–95 % from the best of several."
        ),
        known="`prefsim repro regret_preference`; six random splits",
    ),
)
