"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="the chosen probability rises and then falls while mass goes to unseen responses",
        true=(
            "The mass does go there where the chosen response is off policy: on a small network "
            "with four prompts it ends at .34 to .81 in each of 100 seeds (mean .63 and .66). The"
            " chosen one stalls there rather than falls: after 1000 steps of DPO it is below its "
            "peak by .012 (median, at most .18) where the rejected response is on policy, and by "
            "nothing in most seeds (at most .16) where both are off. On a table, without shared "
            "weights, all of it comes back."
        ),
        known="`prefsim repro three_d_properties`; 100 seeds",
    ),
)
