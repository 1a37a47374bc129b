"""Strategies of policies that learn from pairs: their gradients by enumeration, their pairs."""

import functools

import numpy as np
from hypothesis import given

from prefsim import losses
from prefsim.gradients import loss_gradient
from prefsim.solvers.optimisers.policy_gradient import score_gradient
from prefsim.testing import contrasts, regularised_reward_gap, scored_pair_logps


def first_response(logps: losses.PairLogps):
    return -logps.chosen


@given(contrasts())
def test_gradient_of_the_value_by_summing_over_responses(contrast):
    # Both contexts are equally likely.
    expected = score_gradient(contrast.advantage(), contrast.log_policy) / 2
    np.testing.assert_allclose(contrast.value_gradient(), expected, atol=1e-14)


@given(contrasts())
def test_descent_of_a_loss_of_the_first_response_alone(contrast):
    # The gradient of −log π(y) for y ~ μ₁ is π − μ₁.
    found = contrast.descent(first_response)
    expected = (np.exp(contrast.log_first) - np.exp(contrast.log_policy)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-14)


@given(contrasts((1, 3)))
def test_descent_follows_the_pairs_that_it_is_given(contrast):
    fresh, loss = contrast.on_policy(), functools.partial(losses.copg, beta=contrast.beta)
    np.testing.assert_array_equal(contrast.descent(loss, fresh.pairs()), fresh.descent(loss))


@given(contrasts((3, 2), scale=1.0, spread=0.5, beta=(1.0, 1.5)))
def test_instances_are_as_asked_for(contrast):
    assert contrast.reward.shape == contrast.log_second.shape == (3, 2)
    assert np.abs(contrast.reward).max() <= 1.0
    assert 1.0 <= contrast.beta <= 1.5
    for law in contrast[1:5]:
        np.testing.assert_allclose(np.exp(law).sum(axis=-1), 1.0, atol=1e-14)
        assert np.ptp(law, axis=-1).max() <= 1.0 + 1e-12


@given(scored_pair_logps(3, lowest=-5.0, scale=2.0))
def test_the_gap_is_that_of_the_loss(logps):
    assert logps.chosen.shape == logps.chosen_score.shape == (3,)
    assert logps.chosen.min() >= -5.0
    assert np.abs(logps.rejected_score).max() <= 2.0
    gap = regularised_reward_gap(logps, beta=0.3)
    np.testing.assert_allclose(losses.copg(logps, beta=0.3), gap**2 / 0.6, atol=1e-12)


def test_the_gap_carries_a_gradient():
    gap = functools.partial(regularised_reward_gap, beta=0.3)
    slopes = loss_gradient(gap, losses.PairLogps.example())
    np.testing.assert_allclose(slopes.chosen, -0.3)
    np.testing.assert_allclose(slopes.rejected_score, -1.0)
