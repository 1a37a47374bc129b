"""Losses on pairs of one class: reference values, gradients, what a swap does, bad input."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefsim.containers import ClassPairs
from prefsim.gradients import gradient
from prefsim.losses import p2c
from prefsim.losses.links import soft_logistic
from prefsim.losses.paired_classes import (
    head_diversity,
    head_preference,
    preference_consistency,
    preference_probability,
    vote_consistency,
)
from prefsim.numerics import sigmoid

# Two heads on three pairs before their tanh.
FIRST = np.asarray([[0.5, -1.0, 2.0], [0.0, 0.3, 1.0]])
SECOND = np.asarray([[0.0, 0.2, -2.0], [0.4, 0.3, -1.0]])
MARGINS = (np.tanh(FIRST) - np.tanh(SECOND)).T
PROB = np.asarray([1.0, 0.0, 0.5])
FREE = st.integers(2, 5).flatmap(lambda t: arrays(np.float64, (3, t), elements=st.floats(-6, 6)))


def pairs_of(**changed):
    zero, half = np.zeros((3, 2)), np.full(3, 0.5)
    given_ = {
        "chosen_logits": zero,
        "rejected_logits": zero,
        "chosen_rewards": np.tanh(FIRST.T),
        "rejected_rewards": np.tanh(SECOND.T),
        "label": np.asarray([0, 1, 0]),
        "chosen_score": np.asarray([1.0, 0.2, 0.5]),
        "rejected_score": half,
    }
    return ClassPairs(**(given_ | changed))


def test_reference_values():
    np.testing.assert_allclose(
        sigmoid(MARGINS.T),
        [[0.6135163, 0.27708457, 0.873034], [0.40613921, 0.5, 0.8210075]],
        atol=5e-9,
    )
    assert head_preference(MARGINS, PROB).mean() == pytest.approx(0.744307252167206, abs=1e-15)
    assert head_diversity(MARGINS).mean() == pytest.approx(0.6476327078134219, abs=1e-15)
    gap = np.asarray([0.7, 0.4, 0.6]) - np.asarray([0.8, 0.5, 0.5])
    assert preference_consistency(gap, PROB).mean() == pytest.approx(0.2 / 3, abs=1e-16)
    prob_gap = np.asarray([[0.1, -0.1], [-0.3, 0.3]])
    vote_gap = np.asarray([[0.2, -0.2], [0.1, -0.1]])
    assert vote_consistency(prob_gap, vote_gap).mean() == pytest.approx(0.5, abs=1e-15)


def test_the_total_is_its_parts():
    pairs = pairs_of()
    expected = (
        math.log(2)
        + 0.7 * head_preference(MARGINS, PROB)
        - 0.3 * head_diversity(MARGINS)
        + 2.0 * preference_consistency(np.zeros(3), PROB)
    )
    weights = {"consistency_weight": 2.0, "preference_weight": 0.7, "diversity_weight": 0.3}
    np.testing.assert_allclose(p2c(pairs, **weights), expected, rtol=1e-15)
    logits = np.asarray([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    own = np.asarray([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2)), 0.5])
    alone = {"preference_weight": 0.0, "diversity_weight": 0.0}
    moved = p2c(pairs._replace(chosen_logits=logits), consistency_weight=2.0, **alone)
    np.testing.assert_allclose(
        moved,
        (math.log(2) - np.log(own)) / 2 + 2.0 * preference_consistency(own - 0.5, PROB),
        rtol=1e-14,
    )
    # The second is wrong: the first input was judged less typical and is more probable.
    assert moved[1] == pytest.approx((math.log(2) - math.log(own[1])) / 2 + 2 * (own[1] - 0.5))


def test_the_total_with_votes():
    votes = {
        "chosen_votes": np.asarray([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]]),
        "rejected_votes": np.asarray([[0.6, 0.4], [0.2, 0.8], [0.6, 0.4]]),
    }
    alone = {"preference_weight": 0.0, "diversity_weight": 0.0, "consistency": "votes"}
    found = p2c(pairs_of(**votes), **alone)
    np.testing.assert_allclose(found - math.log(2), [0.6, 0.6, 0.0], atol=1e-15)


@given(FREE)
def test_gradient_of_diversity_is_the_mean_lead_over_the_others(margins):
    heads = margins.shape[-1]
    probs = sigmoid(margins)
    expected = np.sum(probs[..., :, None] - probs[..., None, :], axis=-1) / heads / (heads - 1)
    np.testing.assert_allclose(gradient(head_diversity, margins), expected, atol=1e-14)


@given(FREE)
def test_diversity_is_at_least_the_mean_entropy(margins):
    probs = sigmoid(margins)
    entropy = soft_logistic(margins, probs).mean(axis=-1)
    assert (head_diversity(margins) >= entropy - 1e-12).all()
    same = np.repeat(margins[:, :1], 3, axis=-1)
    np.testing.assert_allclose(
        head_diversity(same), soft_logistic(same, sigmoid(same))[:, 0], atol=1e-14
    )


@given(FREE, arrays(np.float64, 3, elements=st.sampled_from([0.0, 0.5, 1.0])))
def test_swapped_inputs_and_judgements_cost_the_same(margins, prob):
    np.testing.assert_allclose(
        head_preference(-margins, 1 - prob), head_preference(margins, prob), rtol=1e-14
    )
    np.testing.assert_allclose(head_diversity(-margins), head_diversity(margins), atol=1e-13)
    gap = sigmoid(margins[:, 0]) - 0.5
    np.testing.assert_array_equal(
        preference_consistency(-gap, 1 - prob), preference_consistency(gap, prob)
    )


def test_equal_votes_for_a_class_make_the_order_of_a_pair_matter():
    prob_gap, vote_gap = np.asarray([0.3, -0.4, 0.1]), np.asarray([0.3, -0.3, 0.0])
    assert vote_consistency(prob_gap, vote_gap) == 0.0
    assert vote_consistency(-prob_gap, -vote_gap) == pytest.approx(0.1, abs=1e-16)
    # Not where all are equal: gaps sum to zero.
    none = np.zeros(3)
    assert vote_consistency(prob_gap, none) == pytest.approx(vote_consistency(-prob_gap, none))


def test_far_margins_stay_finite():
    far = np.asarray([[1e4, -1e4], [1e4, 1e4]])
    np.testing.assert_allclose(head_preference(far, np.asarray([0.5, 0.0])), [5e3, 1e4])
    np.testing.assert_allclose(head_diversity(far), [1e4, 0.0], atol=1e-12)
    assert np.isfinite(gradient(head_diversity, far)).all()


def test_arrays_of_another_library():
    strict = array_api_strict.asarray
    found = head_diversity(strict(MARGINS)), head_preference(strict(MARGINS), strict(PROB))
    np.testing.assert_allclose(np.asarray(found[0]), head_diversity(MARGINS))
    np.testing.assert_allclose(np.asarray(found[1]), head_preference(MARGINS, PROB))
    gaps = torch.tensor([0.1, -0.2, 0.3])
    assert preference_consistency(gaps, torch.tensor(PROB)).tolist() == pytest.approx([0, 0, 0.3])
    assert vote_consistency(gaps, -gaps).item() == pytest.approx(1.2)
    assert preference_probability(torch.tensor([2, 1])).tolist() == [0.5, 1.0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"judgement must be 1 for the first.*got 3.0 at index 1"):
        preference_probability([1, 3])
    with pytest.raises(ValueError, match="at least two heads to disagree, got 1"):
        head_diversity(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="at least two heads"):
        p2c(pairs_of(chosen_rewards=np.zeros((3, 1)), rejected_rewards=np.zeros((3, 1))))
    one_head = pairs_of(chosen_rewards=np.zeros((3, 1)), rejected_rewards=np.zeros((3, 1)))
    assert p2c(one_head, diversity_weight=0.0) == pytest.approx(2 * math.log(2))
    with pytest.raises(ValueError, match="prob must be a probability"):
        head_preference(MARGINS, np.asarray([1.0, 0.0, 2.0]))
    with pytest.raises(ValueError, match="chosen_votes is needed by this loss"):
        p2c(pairs_of(), consistency="votes")
    with pytest.raises(ValueError, match="consistency must be one of"):
        p2c(pairs_of(), consistency="order")
    with pytest.raises(ValueError, match="chosen_score must hold no NaN"):
        p2c(pairs_of(chosen_score=np.asarray([1.0, math.nan, 0.5])))
    with pytest.raises(ValueError, match="one shape, got label"):
        p2c(pairs_of(chosen_rewards=np.zeros((2, 2)), rejected_rewards=np.zeros((2, 2))))
    with pytest.raises(ValueError, match="shapes must fit each other, got prob_gap"):
        vote_consistency(np.zeros((2, 3)), np.zeros((2, 4)))
