"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="sparse token weights give a better trade-off of reward and KL divergence than TDPO",
        true=(
            "They find the tokens, or with masks of the prefix the positions, that carry reward, "
            "and with a penalty all other weights are exactly zero. But weights rescale β (a "
            "learned mask goes from a KL of .13 to 2.2 at β = 3 as the penalty grows to 1e-2), "
            "and at equal KL every mask earned less than TDPO1: by .014 to .31 in 23 drawn worlds"
            " of texts with exact preferences, MaPO by .12 to .43. A penalty that comes before "
            "the policy has moved can turn all weights off for ever, in tables as in a small "
            "transformer."
        ),
        known="`prefsim repro sparsepo`",
    ),
    Erratum(
        kind="less sharp",
        about="released code",
        says="activations are standardised, then rescaled to [0, 1] over the response",
        true=(
            "The first step changes nothing. Where they are constant, as over a response of one "
            "token, the rescaling is 0/0: only the standard deviation has an ε."
        ),
        known="claim `standardising`; `src/masks/mask_models.py` of the release",
    ),
)
