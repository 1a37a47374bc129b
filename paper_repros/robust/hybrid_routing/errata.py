"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="less sharp",
        says="routing by predicted gain beats random routing and either source alone",
        true=(
            "Where one source is biased on a kind that the features name: on drawn pools half of "
            "the labels, routed, score 97.3 (random 91.6, people alone 95.8, model alone 81.4). "
            "For 39 listeners, whose own labels are helped out by those of most others, no gain "
            "is seen: routed half less random half .003 ± .005 of their later judgements "
            "(standard error), own labels less others' .015 ± .009. The gain of a quadratic model"
            " at nothing is not the marginal one: the largest gains then miss the best routing in"
            " 127 of 200 drawn instances, marginal gains in 29."
        ),
        known=(
            "`prefsim check hybrid_routing`, `prefsim repro hybrid_routing` with listeners' "
            "judgements"
        ),
    ),
)
