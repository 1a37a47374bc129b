"""Estimates of action values and bonuses: values, and what holds of all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.bandit_feedback.bonuses import dilated_bonus, exploration_bonus
from prefsim.solvers.bandit_feedback.covariance import feature_covariance, regularised_inverse
from prefsim.solvers.bandit_feedback.estimates import (
    estimate_moments,
    estimate_weights,
    expected_negative_part,
    magnitude_reduced,
    reduced_estimate,
    standard_estimate,
)

ARMS, LAW = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), np.array([0.5, 0.2, 0.3])
WEIGHTS = estimate_weights(ARMS, regularised_inverse(feature_covariance(ARMS, LAW), gamma=0.05))
FIRST, LOSS = np.array(0), np.array(1.5)


def test_values_with_many_digits():
    norms = [1.6455696203, 3.1645569620, 1.0126582278]
    np.testing.assert_allclose(np.diagonal(WEIGHTS), norms, atol=5e-11)
    np.testing.assert_allclose(
        WEIGHTS[:, 0], [1.6455696203, -0.3797468354, 0.6329113924], atol=5e-11
    )
    np.testing.assert_allclose(
        standard_estimate(WEIGHTS, FIRST, LOSS),
        [2.4683544304, -0.5696202532, 0.9493670886],
        atol=5e-11,
    )
    np.testing.assert_allclose(
        2 * expected_negative_part(WEIGHTS, LAW), [-0.1518987342, -0.3797468354, 0], atol=5e-11
    )
    np.testing.assert_allclose(
        reduced_estimate(WEIGHTS, LAW, FIRST, LOSS, bound=2.0),
        [2.3164556962, -0.1898734177, 0.9493670886],
        atol=5e-11,
    )
    np.testing.assert_allclose(
        exploration_bonus(WEIGHTS, LAW[None], strength=0.1),
        [[0.3405063291, 0.4924050633, 0.2772151899]],
        atol=5e-11,
    )


def test_means_in_a_table():
    law, values = np.array([0.5, 0.3, 0.2]), np.array([1.0, 2.0, 0.5])
    weights = estimate_weights(np.eye(3), regularised_inverse(np.diag(law), gamma=0.1))
    estimates = standard_estimate(weights, np.arange(3), values)
    found = estimate_moments(estimates, law)
    np.testing.assert_allclose(found.mean, [0.8333333333, 1.5, 0.3333333333], atol=5e-11)
    np.testing.assert_allclose(found.square, law * (values / (law + 0.1)) ** 2, rtol=1e-12)
    np.testing.assert_array_equal(found.smallest, 0.0)


def test_the_bonus_of_two_layers():
    bonus = np.array([[[0.3, 0.5], [0.3, 0.5]], [[0.2, 0.4], [0.1, 0.6]]])
    policy = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.75]]])
    moves = np.array([[[[0.7, 0.3], [0.2, 0.8]]] * 2])
    found = dilated_bonus(moves, bonus, policy)
    np.testing.assert_allclose(found[0, 0], [0.82875, 1.16], rtol=1e-14)
    np.testing.assert_array_equal(found[1], bonus[1])
    # The policy of the first layer does not matter.
    assert (dilated_bonus(moves, bonus, policy[[1, 1]])[0] == found[0]).all()


def test_what_cannot_happen_does_not_count_as_the_smallest():
    estimates = np.array([[5.0], [-9.0], [2.0]])
    assert estimate_moments(estimates, np.array([0.5, 0.0, 0.5])).smallest == 2.0


@given(st.integers(0, 10**6))
def test_rows_of_a_batch_are_separate(seed):
    rng = np.random.default_rng(seed)
    weights, law = rng.standard_normal((2, 3, 4, 4)), rng.dirichlet(np.ones(4), (2, 3))
    played, loss = rng.integers(4, size=(2, 3)), rng.random((2, 3))
    bound = np.array([1.0, 2.0, 3.0])
    standard = standard_estimate(weights, played, loss)
    reduced = reduced_estimate(weights, law, played, loss, bound=bound)
    for at in np.ndindex(2, 3):
        x = weights[at][:, played[at]]
        np.testing.assert_allclose(standard[at], x * loss[at], rtol=1e-13)
        below = np.minimum(x, 0)
        m = bound[at[1]] * (law[at] * np.minimum(weights[at], 0)).sum(axis=1)
        expected = x * loss[at] - bound[at[1]] * below + m
        np.testing.assert_allclose(reduced[at], expected, atol=1e-12)
        assert (reduced[at] >= m - 1e-12).all()


@given(st.integers(0, 10**6))
def test_reduction_keeps_the_mean_and_cuts_the_negative_part(seed):
    rng = np.random.default_rng(seed)
    values, law = 10 * rng.standard_normal((3, 5)), rng.dirichlet(np.ones(5), 3)
    found = magnitude_reduced(values, law)
    np.testing.assert_allclose((law * found).sum(-1), (law * values).sum(-1), atol=1e-12)
    least = (law * np.minimum(values, 0)).sum(axis=-1)
    np.testing.assert_allclose(found[values <= 0], np.repeat(least, (values <= 0).sum(axis=1)))
    assert (found >= least[:, None]).all()


def test_on_torch():
    weights, law = torch.as_tensor(WEIGHTS), torch.as_tensor(LAW)
    played, loss = torch.tensor([0, 2]), torch.tensor([1.5, 0.5], dtype=torch.float64)
    found = reduced_estimate(weights, law, played, loss, bound=2.0)
    expected = reduced_estimate(WEIGHTS, LAW, played.numpy(), loss.numpy(), bound=2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    bonus = exploration_bonus(weights, law[None], strength=torch.tensor(0.1))
    np.testing.assert_allclose(bonus, exploration_bonus(WEIGHTS, LAW[None], strength=0.1))


def test_bad_input():
    for played in (np.array(3), np.array([-1, 0])):
        with pytest.raises(ValueError, match="played must be >= 0 and < 3"):
            standard_estimate(WEIGHTS, played, LOSS)
    with pytest.raises(ValueError, match="played must hold integers"):
        standard_estimate(WEIGHTS, np.array(0.5), LOSS)
    with pytest.raises(ValueError, match="bound must be a finite number > 0"):
        reduced_estimate(WEIGHTS, LAW, FIRST, LOSS, bound=0.0)
    with pytest.raises(ValueError, match="inverse must have trailing shape"):
        estimate_weights(ARMS, np.eye(3))
    with pytest.raises(ValueError, match="law must have trailing shape"):
        magnitude_reduced(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="prob must have trailing shape"):
        estimate_moments(np.ones((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match="strength must be"):
        exploration_bonus(WEIGHTS, LAW[None], strength=-1.0)
    with pytest.raises(ValueError, match="weights must have trailing shape"):
        exploration_bonus(WEIGHTS, np.full((2, 2), 0.5), strength=1.0)
