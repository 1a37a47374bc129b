"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says=(
            "PPO learns more from rewards of tokens than from one of the response (AlpacaEval 2: "
            "27.0 against 19.5 %)"
        ),
        true=(
            "Both have one optimum, and the difference is the critic's. On 120 drawn worlds of "
            "three tokens and five places, without a critic, the expected gradient has a cosine "
            "with the true one of .82 at λ = 0 (response: .15) and .93 (.66) at λ = .5; ascent "
            "ends at the optimum for every λ (total variation .01 and .02 after 400 steps, "
            "response .88 and .68). At the release's λ = .95 both have .999, at λ = 1 the two "
            "gradients are equal, and with exact critics so are all advantages. Near the "
            "reference the gradient of one response is noisier with rewards of tokens (deviation "
            "2.2 against 1.8, no critic); at the optimum it has no noise (1.7)."
        ),
        known="`prefsim check rto`, `prefsim repro rto`",
    ),
    Erratum(
        kind="less sharp",
        says="the theoretical algorithm, pessimistic rewards of tokens, is near-optimal",
        true=(
            "Its bound holds and is loose. What pessimism brings depends on what is compared: "
            "with a weight of every token and pairs mostly of the best policy's responses it "
            "lowers the mean loss from .36 to .27 (a quarter of the safe radius); with four "
            "features and pairs of the reference's responses it raises it from .41 to 1.34 (all "
            "of it)."
        ),
        known="`prefsim repro rto`",
    ),
    Erratum(
        kind="less sharp",
        about="released code",
        says="β₁ = .05 clipped at .05, β₂ = .01",
        true=(
            "Unclipped the optimum is π_ref (π_dpo/π_ref)⁵ of whole responses, times e^(100 R). "
            "The bound is one nat of each log-ratio: at β₁ = β₂ it alone leaves an optimum .51 "
            "(total variation) from π_dpo on the worlds above."
        ),
        known="`prefsim check rto`, `prefsim repro rto`",
    ),
    Erratum(
        kind="less sharp",
        says="A^min(ξ+1, H) instead of A^H evaluations, with a constant ξ of the problem",
        true=(
            "True of a definite ξ: where tokens are paid what they gain of the best that can "
            "follow, at most ξ places late, H A^min(ξ+1, H) continuations are enough, and a look "
            "ahead of ξ tokens is not. A reward of the response is ξ = H − 1."
        ),
        known="`prefsim check rto`",
    ),
)
