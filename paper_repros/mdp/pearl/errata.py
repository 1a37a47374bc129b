"""What the paper or its code says wrongly, or less sharply than it could."""

from prefsim.papers import Erratum

ERRATA = (
    Erratum(
        kind="wrong",
        says=(
            "a reward with a spread, kept by a floor on its entropy, learns better from noisy "
            "labels"
        ),
        true=(
            "Not in expectation of the loss over draws, as we read it: that loss rises with the "
            "spread whatever the label says, and its derivative in the spread is the same for a "
            "label and its opposite, so that the spread cannot learn which labels are noisy. "
            "Against Bradley–Terry the rank correlation with the true return changes by at most "
            ".0006 in each of eight worlds (0 to 40 % flips; noise that grows with a feature; "
            "labels at random in one region; a reward that is not linear), 10 and 20 seeds. The "
            "likelihood of a rater whose log-odds are drawn anew does tell: .054 ± .014 and .037 "
            "± .008 (two draws of 20 worlds, standard errors) where labels are random in one "
            "region, .012 ± .005 and .008 ± .004 where noise grows with a feature, .001 ± .003 "
            "and −.009 ± .006 where the reward is not linear."
        ),
        known="derivation; `prefsim check pearl`, `prefsim repro pearl`",
    ),
    Erratum(
        kind="less sharp",
        says=(
            "matched by distances, labels of another task come close to labels of the task "
            "itself, and beat few of them"
        ),
        true=(
            "While the solver finds the coupling and trajectories correspond. Of clouds of eight "
            "points the cheapest coupling brings .990 of the labels at a mismatch of .2 of their "
            "spread, conditional gradients from one start .716 and from 21 starts .778: what is "
            "lost there is lost in the search. On turned tabular tasks with the same walks the "
            "return is that of the task's own labels (.92 and .91 of the optimum). With 20 walks "
            "of each task's own it is near chance (−.01 and .14 on two draws of 20 tasks, "
            "standard errors up to .18), with 100 it is .71 and .72, no more than 5 labels of its"
            " own earn (.69 and .86)."
        ),
        known="`prefsim repro pearl`",
    ),
)
