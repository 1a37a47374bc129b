"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "optimism ends with less regret than maximum likelihood where the policy gathers its "
            "data (figure of ten runs)"
        ),
        true=(
            "Not reproduced. In the paper's bandit (β is not printed; β = 1 gives the figure's "
            "scale) only the worse start is seen: over 1000 rounds and 80 worlds maximum "
            "likelihood has a regret of 38.7, and optimism costs 3.6 ± 2.2 (α = .1) and 3.4 ± 2.0"
            " (α = 1; two standard errors). With both responses from the policy, as in the "
            "algorithm, and β a tenth of the rewards' bound, a fit to the end stops learning: the"
            " policy compares responses with themselves (late regret over early 1.00 at α = 5, "
            ".25 with one response from the reference). Pessimism on given data is reproduced."
        ),
        known="`prefsim repro vpo`",
    ),
)
