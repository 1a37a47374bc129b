"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="the gap to a covered policy is O(1/√N)",
        true=(
            "The bound holds and is loose. Bandits made hard for it (a thinly covered best "
            "response, whose lead is about what pessimism costs) use up to 5 % of it; on easy "
            "ones it exceeds every possible gap up to N = 6400. The mean gap has no general slope"
            " in log N (−.26 to −4)."
        ),
        known="`prefsim check rpo_overopt`",
    ),
)
