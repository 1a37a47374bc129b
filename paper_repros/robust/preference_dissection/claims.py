"""What the paper says of judges and their weights, each as a property of random instances."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paper_repros.robust.preference_dissection.judges import (
    PAIRS,
    PROPERTIES,
    choices,
    drawn_features,
    drawn_weights,
    left_at,
    shapley_values,
    win_rate,
)
from prefsim.analysis import judge_similarity, property_attribution
from prefsim.data.properties import compare_lengths, compare_scores
from prefsim.numerics import sigmoid
from prefsim.papers import Verdict, above, apart, claim, outside, worst
from prefsim.raters import order_free_margin
from prefsim.solvers.likelihood.logistic_posterior import logistic_posterior
from prefsim.solvers.likelihood.sparse_logistic import fit_sparse_logistic
from prefsim.testing import tables

UNSEEN = {
    ("prefsim.raters.order_free_margin", "half"): "the reproduction reads the sign of the margin"
    " alone, as judges are read",
    ("prefsim.raters.order_free_margin", "double"): "the reproduction reads the sign of the margin"
    " alone, as judges are read",
}

SEEDS = st.integers(0, 10**6)
SCALES = st.floats(0.05, 1.0)


# --- how responses compare ---


@claim(
    "A1-features",
    "identity",
    source="section on the preference model; the authors' rule for lengths",
    stated="derived",
    tolerance=0.0,
    given={
        "words": st.tuples(st.integers(0, 119), st.integers(0, 119)),
        "ratings": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "unseen_words": st.just(0),
    },
    breaks={"unseen_words": st.integers(20, 40)},
)
def properties_compare_the_same_from_both_sides(
    words: tuple[int, int], ratings: tuple[int, int], unseen_words: int
) -> Verdict:
    """Exchanging the responses negates how they compare: the better rated and the clearly longer
    one has +1.
    """
    lengths = compare_lengths(words[0] + unseen_words, words[1])
    exchanged = compare_lengths(words[1] + unseen_words, words[0])
    rated = compare_scores(*map(float, ratings))
    # The shorter one has at most nine tenths of the words of one that is clearly longer.
    clear = min(words) <= 11 or min(words) <= 0.9 * max(words)
    return worst(
        apart(exchanged, -lengths),
        apart(rated, np.sign(ratings[0] - ratings[1])),
        above(0.0, lengths * np.sign(words[0] - words[1])),
        apart(lengths, np.sign(lengths)),
        above(np.abs(lengths), float(clear)),
        detail=f"{words[0]} and {words[1]} words: {float(lengths):+.0f}",
    )


# --- the posterior ---


@claim(
    "A1",
    "invariance",
    source="model without intercept",
    stated="derived",
    tolerance=1e-9,
    examples=4,
    given={
        "features": tables((12, 2), low=-1.0, high=1.0),
        "seed": SEEDS,
        "scale": SCALES,
        "intercept": st.just(False),
    },
    breaks={"intercept": st.just(True)},
)
def nobody_is_the_first(features: np.ndarray, seed: int, scale: float, intercept: bool) -> Verdict:
    """Exchanging the responses of any pairs changes neither the posterior nor its mode."""
    rng = np.random.default_rng(seed)
    prob, turned = rng.integers(0, 2, 12) * 1.0, rng.random(12) < 0.5
    sign = np.where(turned, -1.0, 1.0)[:, None]
    columns = [features, sign * features]
    if intercept:
        columns = [np.concatenate([x[:, :1], np.ones((12, 1))], axis=1) for x in columns]
    found = [
        logistic_posterior(x, y, scale=scale)
        for x, y in zip(columns, (prob, np.where(turned, 1 - prob, prob)), strict=True)
    ]
    modes = [
        fit_sparse_logistic(x, y, scale=scale).weights
        for x, y in zip(columns, (prob, np.where(turned, 1 - prob, prob)), strict=True)
    ]
    return worst(
        apart(found[0].mean, found[1].mean),
        apart(found[0].log_evidence, found[1].log_evidence),
        apart(modes[0], modes[1], relative=True),
        detail=f"mean {found[0].mean.round(5).tolist()}",
    )


def counts(wins: int, losses: int) -> tuple[list[list[float]], list[float], list[int]]:
    """Return choices for and against a response that has one property more, with their numbers."""
    return [[1.0], [1.0]], [1.0, 0.0], [wins, losses]


@claim(
    "A2",
    "limit",
    source="section on the preference model; Bernstein–von Mises",
    stated="derived",
    tolerance=0.02,
    given={"wins": st.integers(1, 8), "losses": st.integers(1, 8), "scale": st.floats(0.3, 2.0)},
    # The likelihood of choices that are all alike has no maximum.
    breaks={"losses": st.just(0)},
)
def mean_goes_to_the_maximum_likelihood(wins: int, losses: int, scale: float) -> Verdict:
    """When data repeat k times the posterior mean tends to the maximum of the likelihood, from
    which it is c/k away with the c of its curvature, skewness and prior, and its deviation to that
    of the curvature.
    """
    x, y, times = counts(wins, losses)
    posterior = logistic_posterior(x, y, scale=scale, weight=np.multiply(times, 4000.0))
    found = posterior.mean[0]
    best = math.log(wins) - math.log(losses) if losses else math.inf
    q = float(sigmoid(np.asarray(best)))
    # Of one repetition: minus the second derivative, and the third.
    curvature, third = (wins + losses) * q * (1 - q), -(wins + losses) * q * (1 - q) * (1 - 2 * q)
    # A maximum at the kink: the prior pulls both ways.
    pull = -np.sign(best) / scale if wins != losses else 0.0
    shift = (pull + third / (2 * curvature)) / curvature if curvature > 0 else 0.0
    width = posterior.deviation[0] * math.sqrt(4000 * curvature)
    return worst(
        apart(4000 * (found - best), shift, relative=True),
        # At the kink itself the prior narrows it by a share of 1/b.
        outside(width, 0.99 if wins != losses else 0.8, 1.01),
        detail=f"mean {found:.6f}, limit {best:.6f}, deviation {width:.4f} of the curvature's",
    )


@claim(
    "A3",
    "identity",
    source="Laplace prior; posterior means are reported",
    stated="derived",
    tolerance=1e-12,
    given={
        "wins": st.integers(0, 9),
        "losses": st.integers(0, 9),
        # Half of wins less losses is what the data pull; the prior holds up to 1/b.
        "holds": st.floats(1.05, 20.0),
    },
    breaks={"holds": st.floats(0.05, 0.8), "wins": st.integers(3, 9), "losses": st.just(0)},
)
def mode_is_sparse_and_mean_is_not(wins: int, losses: int, holds: float) -> Verdict:
    """The mode is exactly 0 where the data pull at zero by less than 1/b; the mean is 0 only where
    they pull neither way, and else has the sign of the pull.
    """
    pull = 0.5 * (wins - losses)
    scale = 1 / (holds * max(abs(pull), 0.5))
    x, y, times = counts(wins, losses)
    mode = fit_sparse_logistic(x, y, scale=scale, weight=times).weights[0]
    mean = logistic_posterior(x, y, scale=scale, weight=times).mean[0]
    return worst(
        apart(mode, 0.0),
        max(0.0, -mean * np.sign(pull)),
        float(pull != 0 and abs(mean) < 1e-6),
        float(pull == 0 and abs(mean) > 1e-12),
        detail=f"mode {mode:.4g}, mean {mean:.4g}, pull {pull}",
    )


@claim(
    "mode",
    "minimiser",
    source="posterior under a Laplace prior",
    stated="derived",
    # The fit may leave 1e-9 of the terms of a pull, which sum to as much as 61 of these units.
    tolerance=1e-7,
    given={"seed": SEEDS, "scale": SCALES, "fitted_scale": st.just(1.0)},
    breaks={"fitted_scale": st.floats(1.5, 3.0)},
)
def nothing_is_left_at_the_mode(seed: int, scale: float, fitted_scale: float) -> Verdict:
    """At the mode the data pull every weight that is not 0 by exactly 1/b, against its sign, and
    every other by no more.
    """
    rng = np.random.default_rng(seed)
    features, prob = drawn_features((60,), rng)[:, -6:], rng.integers(0, 2, 60) * 1.0
    # A property that decides alone, so that not all weights are 0.
    features[:, 0] = np.where(rng.random(60) < 0.9, 2 * prob - 1, 0.0)
    weights = fit_sparse_logistic(features, prob, scale=scale * fitted_scale).weights
    return apart(
        left_at(weights, features, prob, scale), 0.0, detail=f"{weights.round(4).tolist()}"
    )


@claim(
    "A4",
    "identity",
    source="derivation",
    stated="derived",
    tolerance=1e-10,
    examples=4,
    given={"seed": SEEDS, "scale": SCALES, "difference": st.just(0.0)},
    breaks={"difference": st.floats(0.5, 1.0)},
)
def unused_properties_have_no_weight_and_equal_ones_share(
    seed: int, scale: float, difference: float
) -> Verdict:
    """A property in which no pair differs has weight 0, and two that always agree have one mean;
    the mode does the same.
    """
    rng = np.random.default_rng(seed)
    x, y = rng.integers(-1, 2, 20) * 1.0, (rng.random(20) < 0.7) * 1.0
    other = difference * (rng.random(20) < 0.5)
    unused, doubled = (np.stack([x, column], axis=1) for column in (other, x + other))
    found = [logistic_posterior(features, y, scale=scale) for features in (unused, doubled)]
    modes = [
        fit_sparse_logistic(features, y, scale=scale).weights for features in (unused, doubled)
    ]
    return worst(
        apart(found[0].mean[1], 0.0),
        apart(modes[0][1], 0.0),
        apart(*found[1].mean),
        apart(*modes[1]),
        detail=f"alone {found[0].mean[0]:.5f}, shared {found[1].mean[0]:.5f}",
    )


@claim(
    "A5",
    "statistical",
    source="section on the preference model; recovery",
    stated="chosen",
    tolerance=0.0,
    examples=4,
    given={"seed": SEEDS, "pairs": st.just(PAIRS)},
    breaks={"pairs": st.just(200)},
)
def weights_are_recovered(seed: int, pairs: int) -> Verdict:
    """From 500 choices the mode correlates with the 29 weights, two in five of them active, by
    0.88 or more in the mean of twenty judges.
    """
    rng = np.random.default_rng(seed)
    weights = drawn_weights((20, PROPERTIES), rng, active=0.4)
    features = drawn_features((20, pairs), rng)
    prob = choices((features @ weights[..., None])[..., 0], rng)
    found = fit_sparse_logistic(features, prob).weights
    alike = [
        float(np.corrcoef(one, other)[0, 1]) for one, other in zip(found, weights, strict=True)
    ]
    return above(0.88, np.mean(alike), detail=f"mean {np.mean(alike):.4f}, least {min(alike):.4f}")


# --- judges ---


@claim(
    "A6",
    "identity",
    source="section on collecting preferences of models",
    stated="paper",
    given={
        "likings": st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
        "bias": st.floats(-1.0, 1.0),
        "factor": st.just(1.0),
    },
    breaks={"factor": st.floats(1.5, 3.0), "likings": st.tuples(st.floats(0.5, 1.0), st.just(0.1))},
)
def both_orders_take_a_constant_bias_out(
    likings: tuple[float, float], bias: float, factor: float
) -> Verdict:
    """A constant added to the probability of whatever stands first leaves the margin of the two
    responses at the sum of what it is in each order.
    """
    shown, swapped = (np.array([p, 1 - p]) for p in likings)
    first, second = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    margin = order_free_margin(
        shown * (1 + (factor - 1) * first) + bias * first,
        swapped * (1 + (factor - 1) * second) + bias * second,
    )
    return apart(margin, 2 * sum(likings) - 2, detail=f"bias {bias:.3f}: {float(margin):.5f}")


@claim(
    "A7",
    "inequality",
    source="section on manipulating evaluation",
    stated="derived",
    given={
        "weights": tables((6,), low=-3.0, high=3.0),
        "k": st.integers(0, 5),
        "slope": st.just(1.0),
    },
    breaks={"slope": st.floats(5.0, 9.0)},
)
def a_property_moves_the_win_rate_by_a_quarter_of_its_weight(
    weights: np.ndarray, k: int, slope: float
) -> Verdict:
    """Adding a property to a response moves its chance to win the way of its weight's sign, by at
    most an eighth of it on responses that have it half of the time.
    """
    none, one = np.zeros(6, dtype=bool), np.arange(6) == k
    moved = win_rate(slope * weights, one) - win_rate(slope * weights, none)
    return worst(
        above(np.abs(moved), np.abs(weights[k]) / 8),
        above(0.0, moved * np.sign(weights[k])),
        detail=f"weight {weights[k]:.4f}, moves {moved:.4f}",
    )


@claim(
    "A8",
    "invariance",
    source="section on the similarity of preferences",
    stated="derived",
    tolerance=1e-9,
    given={
        "weights": tables((2, 6), low=-1.0, high=1.0),
        "factor": st.floats(0.2, 5.0),
        "kind": st.sampled_from(["pearson", "spearman"]),
    },
    breaks=({"kind": st.sampled_from(["l1", "l2"])}, {"factor": st.floats(-5.0, -0.2)}),
)
def correlations_do_not_see_how_decided_a_judge_is(
    weights: np.ndarray, factor: float, kind: str
) -> Verdict:
    """The correlation of two judges does not change when all weights of one are multiplied by a
    positive number; a judge is like itself by 1. Distances change.
    """
    # Apart by more than rounding, so that ranks are what they are.
    spread = np.round(weights, 3) + np.arange(6) * np.array([[0.01], [-0.01]])
    stronger = spread * np.array([[factor], [1.0]])
    before, after = (judge_similarity(table, kind=kind) for table in (spread, stronger))
    with_itself = 1.0 if kind in ("pearson", "spearman") else 0.0
    return worst(
        apart(after, before),
        apart(np.diagonal(before), with_itself),
        detail=f"{before[0, 1]:.5f}, {after[0, 1]:.5f}",
    )


@claim(
    "shapley",
    "identity",
    source="attribution of a sample",
    stated="derived",
    tolerance=1e-11,
    given={
        "weights": tables((4,), low=-2.0, high=2.0),
        "features": tables((5, 4), low=-1.0, high=1.0),
        "scale": st.just("log-odds"),
    },
    breaks={"scale": st.just("probability")},
)
def attributions_are_shapley_values(
    weights: np.ndarray, features: np.ndarray, scale: str
) -> Verdict:
    """What a property adds to a judgement is its Shapley value: the mean over all orders of what
    knowing it changes, with properties not yet known as in the other pairs.
    """
    known = np.array(list(itertools.product([0, 1], repeat=4)), dtype=bool)
    mixed = np.where(known[:, None, :], features[0], features)
    value: Any = mixed @ weights
    if scale == "probability":
        value = 4 * sigmoid(value)
    found = property_attribution(weights, features)[0]
    expected = shapley_values(value.mean(axis=1).reshape((2,) * 4))
    return apart(found, expected, detail=f"{found.round(4).tolist()}")
