"""Where each direct-alignment loss stands in the survey's taxonomy.

A loss stands by the part of DPO that it changes.

References
----------
Liu et al. 2025, "A Survey of Direct Preference Optimization", sections 3–6, arXiv:2503.11701.
"""

from __future__ import annotations

from typing import NamedTuple

from prefsim.checks import check_choice

PARTS = ("data", "framework", "constraint", "property")

__all__ = ["PARTS", "TAXONOMY", "Place", "by_part"]


class Place(NamedTuple):
    """Part of the DPO recipe and the topic within it."""

    part: str
    topic: str


_TOPICS = {
    (
        "data",
        "pair feedback",
    ): "dpo ipo hinge probit npo npo_rt npo_kl gradient_ascent ga_rt ga_kl d2o",
    (
        "data",
        "point feedback",
    ): "kto apo_zero apo_down nca_pair bco_pair bco bco_unpaired aot aot_unpaired nca infonca",
    ("data", "list feedback"): "rrhf pl_dpo",
    ("data", "noise"): "soft rdpo robust_ipo robust_hinge robust_probit drdpo",
    ("data", "distinguishability"): "odpo beta_dpo spce spo_degree",
    ("data", "token granularity"): "tdpo1 tdpo2 sparse_po",
    (
        "framework",
        "self-play",
    ): "sppo sppo_hard dno inpo mirror_descent online_ipo gpo srpo",
    ("framework", "policy gradient"): "copg copg_group grpo p3o ppo reinforce rloo",
    ("constraint", "reference-free"): "slic orpo asft cpo simpo simnpo sft semantic",
    ("constraint", "divergence"): "f_dpo chipo exo_pair exo_rw discopop",
    ("property", "length bias"): "rdpo_length sigmoid_norm ld_dpo",
    ("property", "likelihood collapse"): "dpop flex_dpo cal_dpo rpo vpo",
    ("property", "distribution shift"): "wpo",
}

TAXONOMY: dict[str, Place] = {
    name: Place(*place) for place, names in _TOPICS.items() for name in names.split()
}


def by_part(part: str) -> dict[str, list[str]]:
    """Return the losses of one part of the taxonomy, by topic.

    Raises
    ------
    ValueError
        If ``part`` is not one of :data:`PARTS`.

    Examples
    --------
    >>> by_part("framework")["policy gradient"]
    ['copg', 'copg_group', 'grpo', 'p3o', 'ppo', 'reinforce', 'rloo']
    """
    check_choice(PARTS, part=part)
    return {topic: names.split() for (owner, topic), names in _TOPICS.items() if owner == part}
