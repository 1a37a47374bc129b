"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="trainer",
        says="clip rewards to ±10 and divide by their running deviation",
        true=(
            "This breaks the paper's own invariance to a shift δ(x) of the reward, because both "
            "see δ(x). With δ ~ N(0, 10²) differences of scaled rewards move by more than .5."
        ),
        known="`prefsim check p3o`",
    ),
    Erratum(
        kind="wrong",
        about="trainer",
        says="q, the difference of rewards, may be divided by its deviation over the batch",
        true=(
            "Then the order of the two responses of a pair matters: a deviation about the mean "
            "depends on the signs of q. Without the division it does not."
        ),
        known="`prefsim check p3o`",
    ),
)
