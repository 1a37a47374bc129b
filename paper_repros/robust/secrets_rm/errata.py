"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "the pairs of least strength carry incorrect labels, for models of them alone rank "
            "far below one half"
        ),
        true=(
            "They do so without any wrong label: a decile of least strength is of labels against "
            "the ensemble, and teaches its opposite. Where each label is a fair draw of a linear "
            "Bradley–Terry reward and none is flipped, the weakest decile ranks .055 ± .003 of "
            "new pairs rightly (twenty worlds). On 2,307 pairs that people chose for "
            "harmlessness, read by eight properties, the weakest four deciles rank .40 and the "
            "others .60; labels drawn by a Bradley–Terry rater with the reward fitted to these "
            "pairs give the same to .01."
        ),
        known="`prefsim repro secrets_rm`; claim R6-clean",
    ),
    Erratum(
        kind="wrong",
        says=(
            "flips, smoothing and margins by strength make the model better; margins almost "
            "everywhere"
        ),
        true=(
            "Where the model could follow wrong labels. A linear reward gains nothing (flip −.004"
            " ± .002, margin .000 ± .001), and on people's pairs neither (−.001 to .000 ± .001). "
            "With 120 weights for 240 pairs and next to no ridge the four treatments gain .020 to"
            " .030 ± .006; a larger ridge and the labels as they are gain .124 ± .007."
        ),
        known="`prefsim repro secrets_rm`",
    ),
    Erratum(
        kind="wrong",
        about="MetaRM (its formula as known to us)",
        says="looking ahead up the differences of rewards keeps them large on new responses",
        true=(
            "For linear rewards it makes them smaller: where training ends, a step up from θ is "
            "where plain training ends, and θ lies below that. After 300 steps J is .492, .476 "
            "and .433 at η = 0, 2 and 8; the accuracy on new responses changes by .006 ± .002 at "
            "η = 2 and .013 ± .013 at 8."
        ),
        known="claim R7-end; `prefsim repro secrets_rm`",
    ),
)
