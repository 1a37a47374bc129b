"""Inverses of covariances: values, exact means, and the relative bound."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.bandit_feedback.covariance import (
    draws_for_relative_bound,
    empirical_inverse,
    expected_empirical_inverse,
    expected_resampled_inverse,
    feature_covariance,
    regularised_inverse,
    relative_spectrum,
    resampled_inverse,
)

ARMS, LAW = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), np.array([0.5, 0.2, 0.3])
INVERSE = [[1.6455696203, -0.3797468354], [-0.3797468354, 3.1645569620]]


def test_values_with_many_digits():
    found = regularised_inverse(feature_covariance(ARMS, LAW), gamma=0.05)
    np.testing.assert_allclose(found, INVERSE, atol=5e-11)


@given(st.integers(0, 10**6))
def test_leading_axes_are_separate_and_gamma_follows_them(seed):
    rng = np.random.default_rng(seed)
    features, law = rng.standard_normal((2, 3, 5, 4)), rng.dirichlet(np.ones(5), (2, 3))
    gamma = rng.uniform(0.01, 1, (2, 3))
    found = regularised_inverse(feature_covariance(features, law), gamma=gamma)
    for at in np.ndindex(2, 3):
        shifted = gamma[at] * np.eye(4) + (features[at].T * law[at]) @ features[at]
        np.testing.assert_allclose(found[at] @ shifted, np.eye(4), atol=1e-11)


def test_a_singular_covariance_needs_gamma():
    alone = feature_covariance(ARMS, np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(regularised_inverse(alone, gamma=0.5), np.diag([1 / 1.5, 2.0]))
    for gamma in (0.0, -0.1, np.nan, np.array([0.1, 0.0])):
        with pytest.raises(ValueError, match="gamma must be a finite number > 0"):
            regularised_inverse(alone, gamma=gamma)


def test_resampling_by_hand():
    rng = np.random.default_rng(0)
    draws, gamma, scale = rng.standard_normal((2, 3, 4, 2)), 0.1, 0.3
    total = np.zeros((2, 3, 2, 2))
    for at in np.ndindex(2, 3):
        power = np.eye(2)
        total[at] += power
        for feature in draws[at]:
            power = power @ (np.eye(2) - scale * (gamma * np.eye(2) + np.outer(feature, feature)))
            total[at] += power
    expected = scale * total.mean(axis=1)
    found = resampled_inverse(draws, gamma=gamma, scale=scale)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    on_torch = resampled_inverse(torch.as_tensor(draws), gamma=gamma, scale=scale)
    np.testing.assert_allclose(on_torch, expected, atol=1e-13)


def test_a_long_resampling_is_the_inverse():
    covariance = feature_covariance(ARMS, LAW)
    found = expected_resampled_inverse(covariance, gamma=0.05, scale=0.9, length=2000)
    np.testing.assert_allclose(found, INVERSE, atol=1e-9)
    none = expected_resampled_inverse(covariance, gamma=0.05, scale=0.9, length=0)
    np.testing.assert_allclose(none, 0.9 * np.eye(2), atol=1e-14)


def test_too_large_a_scale_diverges():
    covariance = feature_covariance(ARMS, LAW)
    sizes = [
        np.abs(expected_resampled_inverse(covariance, gamma=0.05, scale=5.0, length=n)).max()
        for n in (10, 20, 40)
    ]
    assert sizes[0] > 10 and sizes[1] > 10 * sizes[0] and sizes[2] > 100 * sizes[1]


def test_counts_in_proportion_to_the_law_give_the_exact_inverse():
    counts = np.array([[5, 2, 3], [50, 20, 30]])
    np.testing.assert_allclose(
        empirical_inverse(ARMS, counts, gamma=0.05), [INVERSE] * 2, atol=5e-11
    )


def test_the_mean_over_all_counts():
    draws, gamma = 2, 0.1
    mean = np.zeros((2, 2))
    for i in range(3):
        for j in range(3):
            counts = np.bincount([i, j], minlength=3)
            mean += LAW[i] * LAW[j] * empirical_inverse(ARMS, counts, gamma=gamma)
    found = expected_empirical_inverse(ARMS, LAW, gamma=gamma, draws=draws)
    np.testing.assert_allclose(found, mean, atol=1e-12)
    # With more draws it comes down to the inverse of the mean.
    exact = regularised_inverse(feature_covariance(ARMS, LAW), gamma=gamma)
    excess = [
        np.linalg.eigvalsh(expected_empirical_inverse(ARMS, LAW, gamma=gamma, draws=n) - exact)
        for n in (1, 4, 16, 64)
    ]
    assert all(each[0] > 0 for each in excess)
    assert all((b < a).all() for a, b in itertools.pairwise(excess))


def test_the_spectrum_is_relative():
    covariance = feature_covariance(ARMS, LAW)
    exact = regularised_inverse(covariance, gamma=0.05)
    np.testing.assert_allclose(relative_spectrum(exact, covariance, gamma=0.05), 1, atol=1e-12)
    other = np.diag([2.0, 3.0])
    np.testing.assert_allclose(
        relative_spectrum(other, covariance, gamma=0.05),
        np.sort(np.linalg.eigvals(other @ (0.05 * np.eye(2) + covariance)).real),
        atol=1e-12,
    )


@pytest.mark.parametrize(("gamma", "draws"), [(0.1, 6845), (0.05, 27379)])
def test_how_many_draws(gamma, draws):
    assert draws_for_relative_bound(3, gamma=gamma, failure=0.01) == draws


def test_bad_input():
    with pytest.raises(ValueError, match=r"law must have trailing shape \(3\)"):
        feature_covariance(ARMS, LAW[:2])
    with pytest.raises(ValueError, match="covariance must have trailing shape"):
        regularised_inverse(np.ones((2, 3)), gamma=0.1)
    with pytest.raises(ValueError, match="scale must be"):
        resampled_inverse(np.ones((1, 1, 1)), gamma=0.1, scale=0.0)
    with pytest.raises(ValueError, match="length must be an integer"):
        expected_resampled_inverse(np.eye(2), gamma=0.1, scale=0.5, length=-1)
    with pytest.raises(ValueError, match="counts must be >= 0"):
        empirical_inverse(ARMS, np.array([1, -1, 2]), gamma=0.1)
    with pytest.raises(ValueError, match="sum of counts must be > 0"):
        empirical_inverse(ARMS, np.zeros(3), gamma=0.1)
    with pytest.raises(ValueError, match="at most 100000 counts"):
        expected_empirical_inverse(ARMS, LAW, gamma=0.1, draws=1000)
    with pytest.raises(ValueError, match="law must sum to 1"):
        expected_empirical_inverse(ARMS, 2 * LAW, gamma=0.1, draws=2)
    with pytest.raises(ValueError, match="failure must lie in"):
        draws_for_relative_bound(3, gamma=0.1, failure=1.0)


@pytest.mark.parametrize("law", [[1.0 + 5e-10, 0.0], [0.0, 1.0 + 5e-10], [0.7, 0.2 + 0.1 - 1e-10]])
def test_laws_that_sum_to_one_but_for_rounding(law):
    found = expected_empirical_inverse(np.eye(2), law, gamma=0.5, draws=3)
    exact = np.divide(law, np.sum(law))
    expected = expected_empirical_inverse(np.eye(2), exact, gamma=0.5, draws=3)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("gamma", [1e-12, 0.3, 0.9, 1.6])
def test_resampling_of_small_and_of_large_eigenvalues(gamma):
    # c times a geometric sum of 1 - cγ.
    expected = 0.9 * sum((1.0 - 0.9 * gamma) ** n for n in range(10))
    found = expected_resampled_inverse(np.zeros((1, 1)), gamma=gamma, scale=0.9, length=9)
    np.testing.assert_allclose(found, [[expected]], rtol=1e-13)
