"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="released code",
        says="models for a preference are drawn from the region of the selected mixture",
        true=(
            "The code puts one Gaussian in the place of the mixture, the barycentre of its parts."
            " Its box of 90 % holds .773 ± .013 of the mixture on 300 drawn lines (95 % "
            "interval), and of d weights the box of a kept mass a holds a^d; its `alpha` is the "
            "mass that is kept, where the paper's is that left out. One random number moves all "
            "weights of a layer: on the last layer of twenty splits of digits models drawn so "
            "fall from .861 of the answers, weighted as preferred, to .566 as the kept mass grows"
            " from .01 to .9, and to .807 where each weight has its own number."
        ),
        known="derivation; `prefsim check ibcl`, `prefsim repro ibcl`",
    ),
    Erratum(
        kind="wrong",
        about="released code",
        says="the mean of the parameters of tasks is a trade-off between them",
        true=(
            "Where two tasks are steep in different directions it has a larger loss on both than "
            "another point: with ½(θ₁² + 4θ₂²) and ½(4(θ₁ − 1)² + (θ₂ − 1)²) the mean of the "
            "minima has (.625, .625), and (.8, .2) has (.4, .4)."
        ),
        known="derivation; `prefsim check ibcl`",
    ),
    Erratum(
        kind="less sharp",
        says="the preferred parameter is in the region with probability 1 − α",
        true=(
            "Of a parameter drawn from the mixture. The posteriors of a task hold all tasks "
            "before it, so that it says little of the task itself: of 300 worlds of three tasks "
            "the region of 90 % holds the true parameter of the preferred task in .91, .26 and "
            ".01, and the second task loses .074 ± .007 nats an example with all weight on it, "
            ".034 ± .004 with all on the third (its own data alone: .024)."
        ),
        known="`prefsim repro ibcl`",
    ),
    Erratum(
        kind="less sharp",
        says=(
            "+23 % average and +15 % peak accuracy over baselines, near-zero or positive backward"
            " transfer"
        ),
        true=(
            "It depends on the baseline. On digits two at a time (last layer, five tasks, twenty "
            "splits, 95 % intervals) accuracy weighted as preferred is .229 ± .018 above that of "
            "the last task alone, .010 ± .008 above the last posterior (.012 ± .007 below it in "
            "the plain mean over tasks), and .067 ± .006 below a refit on all data for each "
            "preference. With diagonal Gaussians the last posterior forgets (backward transfer "
            "−.149 ± .008); what does not is that posteriors of before are kept."
        ),
        known="`prefsim repro ibcl`",
    ),
    Erratum(
        kind="less sharp",
        says="the buffer grows sublinearly, with a threshold",
        true=(
            "No two that are kept are within the threshold of each other, and the count is at "
            "most that of all. It need not fall as the threshold grows: of N(0, 1), N(1, 1), "
            "N(1.9, 1), N(1, 1.9²), in this order, two are kept at .95 and three at 1."
        ),
        known="derivation; `prefsim check ibcl`",
    ),
)
