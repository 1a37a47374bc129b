"""What the paper says of its losses and pairs, each as a property of random instances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.p2c import written_out
from prefsim.containers import ClassPairs
from prefsim.data.class_pairs import (
    annealed_law,
    disagreement_law,
    inconsistency_law,
    random_partner_law,
)
from prefsim.gradients import gradient
from prefsim.losses import p2c
from prefsim.losses.paired_classes import (
    head_diversity,
    head_preference,
    preference_consistency,
    preference_probability,
    vote_consistency,
)
from prefsim.numerics import sigmoid
from prefsim.papers import Verdict, above, apart, claim, rises, worst
from prefsim.testing import tables

SEEDS = st.integers(0, 10**6)
PROBS = st.sampled_from([0.0, 0.5, 1.0])
MARGINS = st.integers(2, 5).flatmap(lambda heads: tables((heads,), low=-2.0, high=2.0))
END = 2.0  # the largest margin of two rewards in (−1, 1)

# --- the heads ---


@claim(
    "P1",
    "inequality",
    source="tanh at the end of a head",
    stated="derived",
    given={"raw": tables((2, 3), low=-8.0, high=8.0), "prob": PROBS, "reach": st.just(1.0)},
    breaks={
        "raw": st.just(np.asarray([[3.0] * 3, [-3.0] * 3])),
        "prob": st.just(1.0),
        "reach": st.floats(1.5, 3.0),
    },
)
def heads_are_never_sure(raw: np.ndarray, prob: float, reach: float) -> Verdict:
    """Rewards in (−1, 1) leave every probability in (σ(−2), σ(2)) = (.1192, .8808), and no pair
    costs a head less than log(1 + e⁻²) = .1269.
    """
    rewards = reach * np.tanh(raw)
    margins = rewards[0] - rewards[1]
    chances = sigmoid(margins)
    costs = head_preference(margins[:, None], np.full(3, prob))
    return worst(
        above(math.log1p(math.exp(-END)), costs),
        above(chances, sigmoid(np.asarray(END))),
        above(1 - chances, sigmoid(np.asarray(END))),
        apart(costs, written_out.soft_cost(chances, prob)),
    )


@claim(
    "P2",
    "identity",
    source="diversity loss; its derivative",
    stated="derived",
    tolerance=1e-11,
    given={"margins": MARGINS, "detached": st.just(True)},
    breaks={"margins": st.just(np.asarray([1.0, -0.5, 0.2])), "detached": st.just(False)},
)
def diversity_pulls_by_the_lead_over_the_other_heads(
    margins: np.ndarray, detached: bool
) -> Verdict:
    """With detached targets the derivative in the margin of head j is Σ_i (P_j − P_i) over T(T−1),
    that of the KL divergences; the values differ by the mean entropy of the heads.
    """
    slope = gradient(head_diversity if detached else written_out.attached_diversity, margins)
    found = written_out.divergence_of_heads(margins)
    return worst(
        apart(slope, found.slope),
        apart(head_diversity(margins), written_out.attached_diversity(margins)),
        apart(head_diversity(margins) - found.entropy, found.kl),
        detail=f"KL {found.kl:.5f}, entropy {found.entropy:.5f}",
    )


@claim(
    "P4",
    "minimiser",
    source="preference loss of one head",
    stated="derived",
    tolerance=1e-11,
    given={
        "first": st.floats(0.0, 1.0),
        "ties": st.floats(0.0, 0.9),
        "reach": st.just(END),
    },
    breaks={"first": st.floats(0.95, 0.99), "ties": st.just(0.0), "reach": st.floats(2.5, 4.0)},
)
def a_head_learns_the_win_rate(first: float, ties: float, reach: float) -> Verdict:
    """With ties counted half of either order, a free margin is best at the logit of the win rate,
    cut off at ±2, which is reached in the limit alone.
    """
    judged = (1 - ties) * np.asarray([first, 1 - first, 0.0]) + ties * np.asarray([0.0, 0.0, 1.0])
    probs = preference_probability([1, 0, 2])
    rate = np.clip(judged[0] + judged[2] / 2, 1e-12, 1 - 1e-12)
    best = np.clip(math.log(rate / (1 - rate)), -END, END)

    def cost(margin: Any) -> Any:
        each = [head_preference(margin[..., None], 0 * margin + prob) for prob in probs]
        return sum(weight * value for weight, value in zip(judged, each, strict=True))

    slope = float(gradient(cost, np.asarray([best]))[0])
    others = cost(np.linspace(-reach, reach, 81))
    inside = apart(slope, 0.0) if abs(best) < END else above(np.sign(best) * slope, 0.0)
    return worst(
        inside,
        above(cost(np.asarray([best])), others),
        detail=f"win rate {rate:.4f}, margin {best:.4f}",
    )


@claim(
    "P6",
    "monotone",
    source="a diversity term that is subtracted",
    stated="derived",
    given={"margins": MARGINS, "step": st.floats(0.1, 5.0), "reach": st.just(1.0)},
    breaks={
        "margins": st.just(np.asarray([2.0, -2.0])),
        "step": st.just(1.0),
        "reach": st.floats(1.5, 10.0),
    },
)
def heads_part_up_to_their_bound(margins: np.ndarray, step: float, reach: float) -> Verdict:
    """A step up the diversity widens the gap of any two heads. Within (−2, 2) it stays below its
    value with half of the heads at either end: 1.8885 for two heads, 1.3808 for three, both below
    log(1 + e²) = 2.1269.
    """
    there = reach * margins
    heads = there.size
    moved = there + step * gradient(head_diversity, there)
    order = np.argsort(there)
    ends = np.where(np.arange(heads) < heads // 2, -END, END)
    bound = head_diversity(ends)
    return worst(
        above(np.diff(there[order]), np.diff(moved[order])),
        above(head_diversity(there), bound),
        apart(bound, written_out.divergence_of_heads(ends).cross_entropy),
        above(bound, math.log1p(math.exp(END))),
    )


@claim(
    "P6-agree",
    "inequality",
    source="preference and diversity together",
    stated="derived",
    tolerance=1e-11,
    given={
        "margins": MARGINS,
        "rate": st.floats(0.15, 0.85),
        "share": st.floats(0.0, 1.0),
    },
    breaks={
        "margins": st.just(np.asarray([1.0, -1.0])),
        "rate": st.just(0.5),
        "share": st.floats(1.2, 3.0),
    },
)
def heads_agree_up_to_a_weight(margins: np.ndarray, rate: float, share: float) -> Verdict:
    """Up to λ_d = λ_p(T − 1)/T, descent on λ_p L_pref − λ_d L_div lowers the preference loss
    wherever the heads are, by (1 − λ_d T/(T − 1))/T² Σ(P_t − π)² at least: in population all heads
    end at the win rate π, and diversity changes nothing.
    """
    heads = margins.size
    weight = share * (heads - 1) / heads

    def preference(m: Any) -> Any:
        return head_preference(m, 0 * m[..., 0] + rate)

    pull = gradient(preference, margins)
    whole = pull - weight * gradient(head_diversity, margins)
    least = (1 - share) / heads**2 * np.sum((sigmoid(margins) - rate) ** 2)
    return worst(above(least, pull @ whole), above(0.0, pull @ whole))


# --- the whole loss ---


@claim(
    "P3",
    "invariance",
    source="the total loss",
    stated="derived",
    given={
        "pairs": SEEDS.map(written_out.drawn_pairs),
        "weights": tables((3,), low=0.0, high=2.0),
        "exchanged": st.just(True),
    },
    breaks={"exchanged": st.just(False)},
)
def exchanged_inputs_and_preferences_cost_the_same(
    pairs: ClassPairs[np.ndarray], weights: np.ndarray, exchanged: bool
) -> Verdict:
    """Exchanging the inputs of a pair with their preference changes nothing, and the total is the
    sum of its four terms, the diversity subtracted, with either form of consistency.
    """
    swapped = pairs.swapped()
    if not exchanged:
        swapped = swapped._replace(
            chosen_score=pairs.chosen_score, rejected_score=pairs.rejected_score
        )
    names = ("consistency_weight", "preference_weight", "diversity_weight")
    options = dict(zip(names, weights.tolist(), strict=True))
    value = p2c(pairs, **options)
    return worst(
        apart(p2c(swapped, **options), value),
        apart(value, written_out.total(pairs, **options)),
        apart(
            p2c(pairs, **options, consistency="votes"),
            written_out.total(pairs, **options, consistency="votes"),
        ),
    )


GAPS = tables((6, 2), low=-0.5, high=0.5).map(written_out.gaps_of)
ONE_TIE = np.asarray([[0.25, -0.25, 0.0]] * 6)
TWO_CLASSES = tables((6, 1), low=-1.0, high=1.0).map(written_out.gaps_of)


@claim(
    "P3-votes",
    "invariance",
    source="consistency with votes",
    stated="derived",
    given={"prob_gap": TWO_CLASSES, "vote_gap": TWO_CLASSES},
    breaks={"prob_gap": GAPS, "vote_gap": st.just(ONE_TIE)},
)
def two_classes_of_votes_have_no_order(prob_gap: np.ndarray, vote_gap: np.ndarray) -> Verdict:
    """With two classes the consistency with votes is that of the pair exchanged. With more it is
    not where votes tie for some class but not for all: a tie counts as a gap upwards.
    """
    return worst(
        apart(vote_consistency(-prob_gap, -vote_gap), vote_consistency(prob_gap, vote_gap))
    )


@claim(
    "P5",
    "equivalence",
    source="the two consistency losses",
    stated="derived",
    given={
        "gap": tables((9,), low=-1.0, high=1.0).map(lambda x: np.round(x * 4) / 4),
        "prob_gap": GAPS,
        "vote_gap": GAPS,
        "ties_are_equal": st.just(False),
    },
    breaks={
        "prob_gap": st.just(np.asarray([[0.25, -0.5, 0.25]] * 6)),
        "vote_gap": st.just(ONE_TIE),
        "ties_are_equal": st.just(True),
    },
)
def consistency_is_the_distance_from_agreement(
    gap: np.ndarray, prob_gap: np.ndarray, vote_gap: np.ndarray, ties_are_equal: bool
) -> Verdict:
    """The losses are the distance, in absolute values, of the gaps of probabilities from those that
    are ordered as preferred, or at least as wide as those of votes; a class of tied votes allows
    every gap upwards, and not equal probabilities alone.
    """
    probs = preference_probability(np.arange(9) % 3)
    low = np.where(probs == 0, -np.inf, 0.0)
    high = np.where(probs == 1, np.inf, 0.0)
    near = np.clip(gap, low, high)
    least = np.where(vote_gap >= 0, vote_gap, -np.inf)
    most = np.where(vote_gap < 0, vote_gap, np.inf)
    if ties_are_equal:
        most = np.where(vote_gap == 0, 0.0, most)
    found = vote_consistency(prob_gap, vote_gap)
    wide = np.abs(prob_gap - np.clip(prob_gap, least, most)).sum(axis=-1)
    return worst(apart(preference_consistency(gap, probs), np.abs(gap - near)), apart(found, wide))


# --- which pairs, and what they know ---


@claim(
    "S1",
    "identity",
    source="selection of pairs",
    stated="paper",
    examples=10,
    given={"seed": SEEDS, "within_class": st.just(True), "progress": st.floats(0.0, 1.0)},
    breaks={"within_class": st.just(False), "progress": st.floats(0.0, 1.0)},
)
def partners_follow_their_law(seed: int, within_class: bool, progress: float) -> Verdict:
    """Partners are of the anchor's class: all alike, those over which most pairs of heads differ,
    or as likely as they are inconsistent; annealed from the first to one of the others.
    """
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat([0, 1], 4))
    given = label if within_class else 0 * label
    rewards = rng.integers(0, 3, (8, 3)) * 0.25
    cost = vote_consistency(*(rng.uniform(-1, 1, (8, 8, 3)) for _ in range(2)))
    laws = written_out.laws_of_partners(label, rewards, cost)
    found = (
        random_partner_law(given),
        disagreement_law(rewards, given),
        inconsistency_law(cost, given),
    )
    mixed = annealed_law(found[1], given, progress=progress)
    return worst(
        *(apart(law, stated) for law, stated in zip(found, laws, strict=True)),
        apart(mixed, (1 - progress) * laws[0] + progress * laws[1]),
    )


CROWDS = (1, 3, 5, 9, 15)


@claim(
    "P7",
    "monotone",
    source="preferences from votes",
    stated="derived",
    given={
        "low": st.floats(0.02, 0.98),
        "lead": st.floats(0.0, 1.0),
        "label": st.sampled_from([0, 1]),
    },
    breaks={"low": st.floats(0.6, 0.9), "lead": st.floats(-0.9, -0.3)},
)
def votes_within_a_class_know_its_order(low: float, lead: float, label: int) -> Verdict:
    """Of two examples with one majority label the likelier one is preferred more often than not;
    by the more, the more annotators there are, and never by a single one, where every pair ties.
    """
    high = low + lead * (0.99 - low) if lead >= 0 else low * (1 + lead)
    leads = [written_out.lead_of_preference(high, low, m, label) for m in CROWDS]
    return worst(apart(leads[0], 0.0), rises(leads), detail=f"leads {np.round(leads, 4).tolist()}")
