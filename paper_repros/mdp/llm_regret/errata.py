"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="two tests on the regret of a run, trend and regression, validate no-regret",
        true=(
            "They err both ways. Against losses of 1 on the most likely of two actions noise of "
            "one scale τ regrets exactly (T/2)(σ(1/τ) − ½), linear in T (23.3 of 100 rounds at τ "
            "= .3), and passes the regression in every run; Hedge regrets 2.9, within its bound "
            "of 5.9, and fails the trend test, which it passes in 16 % of runs on uniform losses:"
            " where the average regret is near zero its trend is noise."
        ),
        known="derivation; `prefsim check llm_regret`, `prefsim repro llm_regret`",
    ),
    Erratum(
        kind="less sharp",
        says=(
            "minimising the regret-loss with one layer of linear attention leads to a known "
            "no-regret algorithm"
        ),
        true=(
            "For N = 1, h(x) = x² and independent losses of one symmetric law, that of BL with B "
            "= −Σ⁻¹E[‖L_T‖ℓ₁ℓ₂ᵀ]Σ⁻¹, which no sum of quadratic tokens beats; a multiple of L "
            "where coordinates are alike. Its decisions leave the ball (length 1.56 for signs, T "
            "= 4); on the ball another step is better (6.300 against 6.340), and for laws that "
            "are not symmetric tokens of second order are. What is learned is as careful as the "
            "losses were large: a layer taught on fair coins keeps Hedge's bound on alternating "
            "and adaptive losses at T = 25 (2.3 to 2.6 against 2.94), one taught on uniform "
            "losses does not (3.9 to 4.1; seeds 0 and 1)."
        ),
        known="derivation; `prefsim check llm_regret`, `prefsim repro llm_regret`",
    ),
)
