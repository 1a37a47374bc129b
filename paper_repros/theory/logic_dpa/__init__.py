"""What preference losses say of two predictions, and which say more than others."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="logic_dpa",
    title="Understanding the Logic of Direct Preference Alignment through Logic",
    arxiv="2412.17696",
    year=2024,
    summary=(
        "A preference loss is a statement about what the model deems valid: two formulas whose"
        " weighted model counts it compares. The statements are finitely many and ordered by"
        " entailment, and the stronger has the larger loss."
    ),
    implements=(
        "prefsim.logic.structures.log_count_ratio",
        "prefsim.logic.many.log_count_ratios",
        "prefsim.logic.structures.covering_pairs",
        "prefsim.logic.decompile.decompile",
        "prefsim.losses.semantic",
    ),
)
