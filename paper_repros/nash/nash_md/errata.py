"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="TRL",
        says="the KL penalty token by token",
        true=(
            "A biased gradient: on trees of nine sequences with τ = .5 descent ends .008 to .016 "
            "(largest of eight games) in total variation from the stationary point, with the "
            "penalty of sequences within 1e-4 of it."
        ),
        known="`prefsim repro nash_md`",
    ),
    Erratum(
        kind="less sharp",
        says="small mixtures beat the best response to the reference",
        true=(
            "Against every mixture κ from .125 on, the best response (κ = 1) lost on all of 260 "
            "draws of twenty games. Against self-play (κ = 0) it wins more than half of the plain"
            " comparisons on 13 to 17 % of the draws (mean .496, at most .509): it may go further"
            " from the reference. What always holds counts both penalties: self-play leads by τ "
            "KL(π‖π*). The exploitability of κ = 0 exceeds that of .125 on 1 % of such draws; "
            "from κ = .25 on never."
        ),
        known="`prefsim repro nash_md`",
    ),
    Erratum(
        kind="less sharp",
        says="the last iterate has KL(π*‖π_T) = O(log T/(τ²T))",
        true=(
            "True and loose (a 400th of the bound is used at best). With the theorem's step the "
            "distance falls between T⁻², what is left of the start, and (log T/T)², the bias of a"
            " constant step: slopes −1.61 to −1.81 over T = 30 … 1000 for τ = .1 and 1 on thirty "
            "draws of games. At τ = .1 the last distance is .98 to 1.29 times that bias. At τ = "
            ".01 these T are too short for a law (slopes −1.1 to −1.95)."
        ),
        known="`prefsim repro nash_md`",
    ),
)
