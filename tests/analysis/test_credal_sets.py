"""Mixtures of finitely many posteriors: what is kept, what a preference selects, what is sure."""

import array_api_strict
import numpy as np
import ot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import (
    CredalSet,
    expectation_bounds,
    extend_credal_set,
    gaussian_barycentre,
    gaussian_posterior,
    gaussian_wasserstein,
    mixture_moments,
    preference_weights,
)
from prefsim.testing import tables

LIBRARIES = (torch.asarray, array_api_strict.asarray)


def apart(extremes, one):
    """The distance of Gaussians given as rows of means and deviations."""
    return gaussian_wasserstein(extremes[:, 0], extremes[:, 1], one[0], one[1])


def points(extremes, one):
    return np.linalg.norm(extremes - one, axis=-1)


def two_tasks(threshold):
    """Conjugate posteriors of two tasks under three priors, the second from the stand-ins."""
    data = (np.array([[0.8], [1.2], [1.0]]), np.array([[-0.5], [-0.9]]))
    priors = np.array([[[0.0], [0.5]], [[0.0], [1.0]], [[0.0], [2.0]]])
    credal = None
    for observed in data:
        found = gaussian_posterior(priors[:, 0], priors[:, 1], observed)
        new = np.stack([found.mean, found.deviation], axis=1)
        credal = extend_credal_set(credal, new, apart, threshold=threshold)
        priors = credal.of_task()
    return credal


def test_distances_of_two_tasks():
    extremes = two_tasks(0.0).extremes
    expected = [
        [0.254734, 0.596000, 0.777479],
        [0.164713, 0.491965, 0.672549],
        [0.136922, 0.449753, 0.629524],
    ]
    found = [apart(extremes[:3], one) for one in extremes[3:]]
    np.testing.assert_allclose(found, expected, atol=5e-7)


@pytest.mark.parametrize(
    ("threshold", "stand_in"),
    [
        (0.0, [[0, 1, 2], [3, 4, 5]]),
        # The third posterior of the first task is .182 from the second.
        (0.19, [[0, 1, 1], [2, 2, 2]]),
        (0.3, [[0, 1, 1], [0, 0, 0]]),
        (np.inf, [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_what_is_kept(threshold, stand_in):
    credal = two_tasks(min(threshold, 1e9))
    np.testing.assert_array_equal(credal.stand_in, stand_in)
    assert len(credal.extremes) == np.max(stand_in) + 1


def test_a_stand_in_is_the_next_prior():
    """The second posterior of the second task then starts where the stand-in does."""
    credal = two_tasks(0.3)
    np.testing.assert_array_equal(credal.of_task(0)[2], credal.extremes[1])
    np.testing.assert_array_equal(credal.of_task(), credal.extremes[[0, 0, 0]])


@given(tables((3, 4, 2), low=-1.0, high=1.0), st.floats(0.0, 2.0))
def test_kept_ones_are_farther_apart_than_the_threshold(means, threshold):
    credal = None
    for task in means:
        credal = extend_credal_set(credal, task, points, threshold=threshold)
    kept = credal.extremes
    away = np.linalg.norm(kept[:, None] - kept, axis=-1) + 9 * np.eye(len(kept))
    assert away.min() > threshold
    assert (np.linalg.norm(kept[credal.stand_in] - means, axis=-1) <= threshold).all()
    assert set(credal.stand_in.ravel()) == set(range(len(kept)))


def test_a_larger_threshold_can_keep_more():
    """One that is no longer kept no longer stands in for two others, which are far from the first.

    In the plane of means and deviations these are four Gaussians on the line.
    """
    gaussians = np.array([[0.0, 1.0], [1.0, 1.0], [1.9, 1.0], [1.0, 1.9]])[..., None]
    sizes = [
        len(extend_credal_set(None, gaussians, apart, threshold=threshold).extremes)
        for threshold in (0.95, 1.0)
    ]
    assert sizes == [2, 3]


def test_weights_of_a_preference():
    places = np.array([[0, 1, 2], [3, 4, 5]])
    np.testing.assert_allclose(
        preference_weights([0.25, 0.75], places), [1 / 12] * 3 + [0.25] * 3, rtol=1e-14
    )
    shared = preference_weights([[0.25, 0.75], [1.0, 0.0]], np.array([[0, 1, 1], [2, 0, 0]]))
    np.testing.assert_allclose(shared, [[7 / 12, 1 / 6, 0.25], [1 / 3, 2 / 3, 0.0]], rtol=1e-14)


@given(tables((4, 3, 6), low=0.05, high=1.0), tables((6,), low=-2.0, high=2.0))
def test_bounds_hold_for_all_mixtures(table, values):
    laws = table / table.sum(axis=-1, keepdims=True)
    low, high = expectation_bounds(laws, values)
    weights = np.random.default_rng(0).dirichlet(np.ones(3), size=(50, 4))
    mixed = ((weights[..., None] * laws).sum(axis=-2) * values).sum(axis=-1)
    assert (mixed >= low - 1e-12).all()
    assert (mixed <= high + 1e-12).all()
    for library in LIBRARIES:
        other = expectation_bounds(library(laws), library(values))
        np.testing.assert_allclose(np.asarray(other.low), low, atol=1e-12)
        np.testing.assert_allclose(np.asarray(other.high), high, atol=1e-12)


@given(tables((2, 3), low=-2.0, high=2.0), tables((2, 3), low=0.1, high=2.0))
def test_distances_as_optimal_transport_has_them(mean, deviation):
    expected = ot.gaussian.bures_wasserstein_distance(
        mean[0], mean[1], np.diag(deviation[0] ** 2), np.diag(deviation[1] ** 2)
    )
    found = gaussian_wasserstein(mean[0], deviation[0], mean[1], deviation[1])
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_the_barycentre_as_optimal_transport_has_it():
    rng = np.random.default_rng(0)
    mean, deviation = rng.standard_normal((4, 2)), 0.2 + rng.random((4, 2))
    weight = np.array([0.4, 0.3, 0.2, 0.1])
    centre, covariance = ot.gaussian.bures_wasserstein_barycenter(
        mean, np.stack([np.diag(s**2) for s in deviation]), weights=weight
    )
    found = gaussian_barycentre(mean, deviation, weight)
    np.testing.assert_allclose(found.mean, centre, atol=1e-10)
    np.testing.assert_allclose(np.diag(found.deviation**2), covariance, atol=1e-6)


@given(tables((2, 3, 2), low=-2.0, high=2.0), tables((2, 3, 2), low=0.1, high=2.0))
def test_the_barycentre_is_narrower_than_the_mixture(mean, deviation):
    weight = np.array([0.5, 0.3, 0.2])
    found, mixture = (f(mean, deviation, weight) for f in (gaussian_barycentre, mixture_moments))
    each = weight[:, None]
    gap = (each * (mean - found.mean[:, None]) ** 2).sum(1)
    gap += (each * (deviation - found.deviation[:, None]) ** 2).sum(1)
    np.testing.assert_allclose(mixture.deviation**2 - found.deviation**2, gap, atol=1e-12)
    for library in LIBRARIES:
        other = gaussian_barycentre(library(mean), library(deviation), library(weight))
        np.testing.assert_allclose(np.asarray(other.deviation), found.deviation, atol=1e-12)


ONE = np.zeros((2, 1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: extend_credal_set(None, ONE[:0], points, threshold=0.1), "posteriors must hold"),
        (lambda: extend_credal_set(None, ONE, points, threshold=-0.1), "threshold must be"),
        (lambda: extend_credal_set(None, ONE, "W2", threshold=0.1), "distance must"),
        (lambda: extend_credal_set(None, ONE, lambda e, o: -np.ones(1), threshold=0), "distance"),
        (lambda: extend_credal_set(None, ONE, lambda e, o: np.ones(2), threshold=0), "distance"),
        (
            lambda: extend_credal_set(
                CredalSet(ONE, np.array([[0, 1]])), np.zeros((2, 3)), points, threshold=0.1
            ),
            "posteriors must have the shape",
        ),
        (
            lambda: extend_credal_set(
                CredalSet(ONE, np.array([[0, 1]])), np.zeros((3, 1)), points, threshold=0.1
            ),
            "posteriors must be as many",
        ),
        (lambda: preference_weights([1.2, -0.2], [[0], [1]]), "preference must be >= 0"),
        (lambda: preference_weights([0.5, 0.4], [[0], [1]]), "preference must sum to 1"),
        (lambda: preference_weights([1.0], [[0], [1]]), "preference must have trailing shape"),
        (lambda: preference_weights([1.0], np.zeros((1, 0), dtype=int)), "stand_in must be"),
        (lambda: expectation_bounds(np.zeros((0, 2)), np.zeros(2)), "probs must hold at least"),
        (lambda: expectation_bounds([[0.5, 0.5]], np.zeros(3)), "values must have"),
        (lambda: gaussian_wasserstein([0.0], [0.0], [0.0], [1.0]), "deviation must be"),
        (lambda: gaussian_wasserstein([0.0], [1.0], [0.0, 1.0], [1.0]), "other_mean must have"),
        (lambda: gaussian_barycentre([[0.0]], [[1.0]], [0.9]), "weight must sum to 1"),
        (lambda: gaussian_barycentre(np.zeros((0, 1)), np.zeros((0, 1)), []), "mean must hold"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
