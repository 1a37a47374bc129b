"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says="a diversity term keeps the ensemble of preference heads diverse (weights 1 and .1)",
        true=(
            "Only from λ_d = λ_p(T − 1)/T on, ⅔ for three heads. Below it, descent lowers the "
            "preference loss wherever the heads are, and in population all end at the win rate, "
            "as without the term; above it they are driven to the ends of their range."
        ),
        known="derivation; `prefsim check p2c`, `prefsim repro p2c`",
    ),
    Erratum(
        kind="wrong",
        about="released code",
        says="a consistency loss of votes, for each class, whichever of a pair comes first",
        true=(
            "With more than two classes, where votes tie for some class and not for all, the pair"
            " exchanged costs another amount: Δv = (.3, −.3, 0), Δp = (.3, −.4, .1) cost 0 one "
            "way and .1 the other. A tie counts as a gap upwards."
        ),
        known="`prefsim check p2c`",
    ),
    Erratum(
        kind="less sharp",
        says="preferences from votes bring what majority labels lack",
        true=(
            "On forty examples with 15 drawn annotators each, small networks gain .040 ± .012 in "
            "rank correlation with the true chances (60 sets, 95 % interval): as much without "
            "heads, .009 ± .006 without consistency, .000 ± .003 on pairs with neither. What "
            "helps is that votes enter: cross-entropy on vote shares has a squared error of .016 "
            "(P2C .074, majority labels .104), though it ranks worse than P2C for 3 to 15 "
            "annotators. With one annotator, where all pairs of a class tie, P2C ranks worse by "
            ".034 ± .016. On listeners' judgements of recordings its squared error is lower by "
            ".033 ± .006 and .021 ± .008 (two runs of 30 splits of the same 112 examples); on "
            "breast cancer, digits and wine, with annotators who mistake inputs that look alike, "
            "by .003 ± .023, .003 ± .002 and .015 ± .013 (ten splits)."
        ),
        known="`prefsim check p2c`, `prefsim repro p2c` with listeners' judgements",
    ),
)
