"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="own samples and a negative gradient both help",
        true=(
            "Each does. Together, with the push unbounded, some worlds are lost for good: on own "
            "samples of 60 drawn worlds, imitating the best of 10 ends at a reward of .91 or "
            "more, and pushing the worst down too at .0005 in one of them (mean .875 against "
            ".992)."
        ),
        known="`prefsim repro suboptimal_on_policy`",
    ),
)
