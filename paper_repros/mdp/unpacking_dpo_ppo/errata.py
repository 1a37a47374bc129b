"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        about="released code",
        says="PPO on its own draws: sampled at temperature .7, log-probabilities at 1",
        true=(
            "The ratio is 1 and the draws are not the policy's: the expected gradient is not that"
            " of E R − κ KL. It still rests at the optimum, where every token has the advantage "
            "0, but draws are sharper than the policy: on token trees with κ = .5 one of eight "
            "lost a branch that the optimum needs (.66 in total variation, .03 with draws at 1)."
        ),
        known="`prefsim check unpacking_dpo_ppo`",
    ),
    Erratum(
        kind="less sharp",
        says=(
            "data matter most, then the algorithm (PPO over DPO by up to 2.5 points), then the "
            "reward model, then PPO's prompts"
        ),
        true=(
            "Where policies carry over to other prompts what the worse of two reward models does:"
            " in 400 small worlds .191 ± .015 of the possible gain, .022 ± .004, the same .022 by"
            " counting (DPO reads no reward model, and on the worse one PPO is DPO), .008 ± .002."
            " Policies that carry over what the better one does lose by PPO (−.079 ± .009): on "
            "the better model the two are one. Tables, which carry over nothing, gain most by the"
            " algorithm (.283 ± .010), then by prompts (.166) and data (.153), last by the reward"
            " model (.059). On the labelled prompts alone PPO is .20 ± .03 ahead of tables of DPO"
            " with 50 pairs, and with 3200 .14 ± .02 behind where the reward is not linear. On a "
            "tiny language model with generated reviews (three seeds, 95 % intervals) flipped "
            "labels cost .153 ± .055 of sentiment and a reward model of four times the pairs "
            "brings .090 ± .064; PPO less DPO is −.043 ± .095."
        ),
        known="`prefsim repro unpacking_dpo_ppo`, `make factors`",
    ),
)
