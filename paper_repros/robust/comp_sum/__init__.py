"""Cross-entropy and its relatives: what a small risk in each of them says of the errors made."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="comp_sum",
    title="Cross-Entropy Loss Functions: Theoretical Analysis and Applications",
    arxiv="2304.07288",
    year=2023,
    summary=(
        "Sum-exponential loss, cross-entropy, generalised cross-entropy and mean absolute error are"
        " concave functions of one sum. For any given set of scorers the excess error is bounded by"
        " the excess risk in each, up to minimisability gaps; a local variation makes adversarial"
        " versions with the same kind of bound."
    ),
    implements=(
        "prefsim.losses.comp_sum",
        "prefsim.losses.ramp_comp_sum",
        "prefsim.losses.comp_sum.comp_sum_link",
        "prefsim.losses.adversarial_classification.linear_local_variation",
        "prefsim.losses.adversarial_classification.linear_robust_lead",
        "prefsim.losses.adversarial_classification.local_variation",
        "prefsim.losses.adversarial_classification.smooth_adversarial_comp_sum",
        "prefsim.analysis.constant_minimisability_gap",
        "prefsim.analysis.h_consistency_bound",
        "prefsim.analysis.h_consistency_transformation",
        "prefsim.analysis.least_comp_sum_risk",
        "prefsim.analysis.minimisability_gap_bound",
        "prefsim.analysis.simple_h_consistency_bound",
    ),
)
