"""A worst case over labels, between cross-entropy, the SVM and a symmetric loss."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="ldr",
    title=(
        "Label Distributionally Robust Losses for Multi-class Classification: Consistency,"
        " Robustness and Adaptivity"
    ),
    arxiv="2112.14869",
    year=2021,
    summary=(
        "The worst distribution over labels, regularised towards uniform, gives one family of"
        " losses with cross-entropy, the Crammer–Singer SVM and a symmetric loss in it; its"
        " temperature trades consistency for robustness to flipped labels, and may be chosen for"
        " every example by the same worst case."
    ),
    implements=(
        "prefsim.losses.ldr_kl",
        "prefsim.losses.ldr_k_kl",
        "prefsim.losses.ldr_top_k",
        "prefsim.losses.crammer_singer",
        "prefsim.losses.linear_symmetric",
        "prefsim.losses.aldr_kl",
        "prefsim.losses.cross_entropy",
        "prefsim.losses.mae",
        "prefsim.losses.dro.kl_dro",
    ),
)
