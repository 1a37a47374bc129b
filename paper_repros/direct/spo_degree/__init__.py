"""Responses are degraded step by step, and a head on the policy's states must tell the degree."""

from prefsim.papers import Paper

PAPER = Paper(
    slug="spo_degree",
    title=(
        "Self-supervised Preference Optimization: Enhance Your Language Model with Preference"
        " Degree Awareness"
    ),
    arxiv="2409.17791",
    year=2024,
    summary=(
        "Remove key phrases step by step and let the policy's representation tell how much is gone,"
        " beside any loss on pairs."
    ),
    implements=(
        "prefsim.losses.spo_degree",
        "prefsim.losses.preference_degree",
        "prefsim.losses.ordinal_logits",
        "prefsim.data.degradation.degrade",
    ),
)
