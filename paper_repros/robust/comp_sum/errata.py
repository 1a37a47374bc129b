"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "cross-entropy and generalised cross-entropy are more accurate than the mean absolute"
            " error (tables of images)"
        ),
        true=(
            "A matter of how long and by what they are trained, on scikit-learn's sets. Small "
            "networks, ten splits, Adam: no difference on clean labels (digits −.001 ± .004, wine"
            " .001 ± .003, breast cancer .003 ± .006); with 30 % to 40 % of the training labels "
            "flipped uniformly, by class or by input the MAE is ahead by .15 to .26 on all three."
            " After 30 plain gradient steps on clean digits it is behind by .31 ± .04: its "
            "gradient is smaller by the probability of the label, which Adam makes up for."
        ),
        known="`prefsim repro comp_sum`",
    ),
    Erratum(
        kind="wrong",
        says="often stated: a smooth adversarial term makes a scorer more robust",
        true=(
            "Where there is a fragile feature to give up. On isotropic classes the robust error "
            "changes by −.001 ± .001 (γ = .1) and rises by .023 ± .006 (γ = .3; standard errors, "
            "ten seeds); and from γ = R 3^(−τ) on three symmetric classes at radius R collapse to"
            " the zero scorer."
        ),
        known="`prefsim repro comp_sum`, `prefsim check comp_sum`",
    ),
    Erratum(
        kind="less sharp",
        says="the bounds are tight",
        true=(
            "Up to τ = 1 for any number of classes, for two classes up to τ = 2, and at τ = 2 for"
            " β <= 1/(n − 1). In between, for n > 2, a certain label that is not decided for "
            "costs (n/2)^(τ−1) times what the bound says (τ = 1.5, n = 3: .5858 against .4783)."
        ),
        known="derivation; `prefsim check comp_sum`",
    ),
)
