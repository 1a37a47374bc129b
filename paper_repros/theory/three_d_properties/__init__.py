"""Three failures of DPO: the rejected drops, the chosen stalls, and mass goes to the unseen."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="three_d_properties",
    title="3D-Properties: Identifying Challenges in DPO and Charting a Path Forward",
    arxiv="2406.07327",
    year=2024,
    summary=(
        "DPO drops the rejected likelihood drastically, which makes the gradient of the chosen one"
        " vanish and leaves mass to unseen responses; strengths of their own for the two responses"
        " or a likelihood term, and pairs on policy, mitigate it."
    ),
    implements=(
        "prefsim.analysis.pair_derivatives.pair_derivatives",
        "prefsim.losses.dpo",
        "prefsim.losses.flex_dpo",
        "prefsim.losses.rpo",
        "prefsim.losses.bradley_terry",
    ),
)
