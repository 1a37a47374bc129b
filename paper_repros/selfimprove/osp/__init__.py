"""A model judges pairs of its own responses and learns from how strongly it prefers."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="osp",
    title="Online Self-Preferring Language Models",
    arxiv="2405.14103",
    year=2024,
    summary=(
        "A model samples, judges its own pairs and learns from the strengths of its preferences by"
        " a cross-entropy with soft labels."
    ),
    implements=(
        "prefsim.losses.spce",
        "prefsim.data.ranked_pairs.ranked_pairs",
        "prefsim.raters.both_orders",
        "prefsim.loops.self_preferring.self_preferring",
    ),
)
