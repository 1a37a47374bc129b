"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="often stated: at equal forgetting NPO retains more than gradient ascent",
        true=(
            "With one example to forget the two follow one path at different speeds, and in the "
            "paper's random-feature model they nearly do. In forty drawn worlds, read at a "
            "quarter, half and three quarters of the way that both come, its distance from the "
            "retrained model on retain inputs is .91 to 1.12 times that of ascent at α = 1 "
            "(nearer in 4, 9 and 25 of the forty) and the same within .1 % at α = 0. What holds "
            "in all is that ascent *ends* 10.9 to 25.3 times as far away at α = 1, and 5.7 to 7.5"
            " times at α = 0. Another world (8002, full mode) shows ascent turning away at once: "
            "it comes .1 % nearer on forget inputs, where NPO comes 40 % nearer, and ends 6.7 "
            "times as far away."
        ),
        known="`prefsim check npo`, `prefsim repro npo`",
    ),
)
