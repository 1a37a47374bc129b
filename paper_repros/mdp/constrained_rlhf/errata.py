"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="the release",
        says=(
            "every advantage is normalised before they are mixed; the KL penalty has a "
            "coefficient of .2"
        ),
        true=(
            "The coefficient cancels, and so does the unit of every reward. On the path of one "
            "reward's optima the mixture is then (2s − 1) times its own advantage whatever the "
            "strength: a weight of ½ rests at every one, no other at any, so that multipliers "
            "steer the speed and not the place. Two rewards that correlate by .96 do not settle: "
            "after 3000 steps the first still moves by 1.98 around its threshold (.14 to .16 with"
            " advantages as they are). With less correlation they do."
        ),
        known="derivation; `prefsim check constrained_rlhf`, `prefsim repro constrained_rlhf`",
    ),
    Erratum(
        kind="wrong",
        about="the release",
        says="squashed multipliers s weigh the m rewards, m − Σs the penalty",
        true=(
            "They have only ratios with mλ_i < 1 + Σλ: of two rewards none may have a multiplier "
            "larger by one than the other's. Thresholds whose multipliers are 3 and ½ are missed "
            "by 1.66, 1.04 and .04 (ρ = 0, .5, .9), and met without a squash, or with a smaller "
            "β, which makes all multipliers smaller."
        ),
        known="derivation; `prefsim check constrained_rlhf`, `prefsim repro constrained_rlhf`",
    ),
    Erratum(
        kind="wrong",
        about="the release",
        says="without a squash the advantages of the rewards are weighed by `lagrange[1:]`",
        true=(
            "The first multiplier is left out: of two rewards the second's weighs both, of three "
            "the shapes do not fit."
        ),
        known="its `constrained_ppo.py`",
    ),
    Erratum(
        kind="wrong",
        says="constrained methods beat rewards that saturate (PPO-SAT)",
        true=(
            "Not where each response's reward saturates at the joint proxy point (what the paper "
            "does exactly is not known to us): it had more gold than ξ-PPO in all of 200 drawn "
            "worlds, by .15 or more, .28 in the mean. Thresholds at each reward's own proxy point"
            " were better than joint ones too (gold −.05, −.07, −.34 against −.32, −.57, −.78)."
        ),
        known="`prefsim repro constrained_rlhf`",
    ),
    Erratum(
        kind="wrong",
        says="thresholds a tenth larger or smaller hurt",
        true=(
            "Smaller ones did in all of 200 drawn worlds. Larger ones gained gold in nine of ten:"
            " the path's fixed direction is not the best mixture."
        ),
        known="`prefsim repro constrained_rlhf`",
    ),
)
