"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "reward models that learn from preferences rank long off-topic above short on-topic "
            "answers"
        ),
        true=(
            "That length goes with quality in the answers compared is not enough: a model that "
            "reads relevance exactly gives length no weight (−.01, where relevance has 1.02, at a"
            " correlation of .8). It takes an error in reading relevance: with its deviation σ "
            "and the correlation ρ the weights have the ratio σ²ρ/(1 − ρ²), 2.2 at ρ = .8 and σ ="
            " 1, where answers that are as long as they are off topic win."
        ),
        known="`prefsim check r3`, `prefsim repro r3`; derivation for normal features",
    ),
    Erratum(
        kind="wrong",
        says="R³ improves what people prefer",
        true=(
            "What they ask for matters. Of 2,307 pairs chosen for harmlessness R³ (relevance by "
            "TF–IDF) is higher for the chosen answer in 44.3 % ± 1.9 %; that answer is the longer"
            " one in 44.6 % ± 2.0 %."
        ),
        known="`prefsim repro r3` with people's pairs",
    ),
    Erratum(
        kind="wrong",
        says=(
            "a proxy is judged by the rank correlation of its mean with that of a gold reward "
            "along training"
        ),
        true=(
            "It depends on where training stops, and on signs. On all responses of six tokens, "
            "with a gold of our own that likes the same things, QR, LI·QR and R³ have 1, .97 and "
            "1 up to β = .05 (LI .83), and .25, −.49 and 1 up to β = .01, where LI·QR has lost "
            ".16 again of a gold of .71. Where all relevances are negative, which a dot product "
            "allows, the factors of R³ punish length and variety: .51 in the mean of 500 worlds, "
            "−1 in the worst."
        ),
        known="`prefsim repro r3`",
    ),
    Erratum(
        kind="wrong",
        about="released example",
        says="Spearman .9545 with p = .0016",
        true=(
            "No number of checkpoints gives both: without ties .9545 needs eleven, and has p = "
            "5e-6."
        ),
        known="README of `naver-ai/rethinking-proxy-reward`",
    ),
)
