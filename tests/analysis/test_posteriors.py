"""Bayes' rule on a grid and for normal means, and mixtures of what it gives."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from prefsim.analysis import (
    gaussian_posterior,
    grid_posterior,
    mixture_log_prob,
    mixture_moments,
    posterior_weights,
)
from prefsim.numerics import log_softmax
from prefsim.testing import tables

LIBRARIES = (torch.asarray, array_api_strict.asarray)
FIRST, SECOND = np.array([[0.8], [1.2], [1.0]]), np.array([[-0.5], [-0.9]])


def test_a_posterior_by_hand():
    found = grid_posterior(np.log([0.2, 0.8]), np.log([0.5, 0.25]))
    np.testing.assert_allclose(np.exp(found.log_prob), [1 / 3, 2 / 3], rtol=1e-15)
    assert np.exp(found.log_evidence) == pytest.approx(0.3, rel=1e-15)


def test_far_likelihoods_do_not_underflow():
    found = grid_posterior(np.log([0.5, 0.5]), np.array([-1e4, -1e4 - 1.0]))
    np.testing.assert_allclose(np.exp(found.log_prob), [0.7310585786300049, 0.2689414213699951])
    assert found.log_evidence == pytest.approx(-1e4 + np.log(0.5 * (1 + np.exp(-1))))


def test_impossible_points_stay_impossible():
    log_prior = np.array([-np.inf, np.log(0.5), np.log(0.5)])
    found = grid_posterior(log_prior, np.array([0.0, -np.inf, -2.0]))
    np.testing.assert_array_equal(np.exp(found.log_prob), [0.0, 0.0, 1.0])


@given(tables((2, 3, 5), low=-3.0, high=3.0), tables((2, 5), low=-8.0, high=0.0))
def test_a_mixture_of_priors_becomes_the_mixture_of_posteriors(logits, log_likelihood):
    log_prior, weight = log_softmax(logits), np.array([[0.2, 0.0, 0.8], [0.5, 0.25, 0.25]])
    each = grid_posterior(log_prior, log_likelihood[:, None])
    moved = posterior_weights(weight, each.log_evidence)
    whole = grid_posterior(mixture_log_prob(log_prior, weight), log_likelihood)
    np.testing.assert_allclose(
        mixture_log_prob(each.log_prob, moved), whole.log_prob, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(moved.sum(axis=-1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(
        whole.log_evidence, np.log((weight * np.exp(each.log_evidence)).sum(axis=-1)), atol=1e-12
    )
    for library in LIBRARIES:
        other = grid_posterior(library(log_prior), library(log_likelihood[:, None]))
        np.testing.assert_allclose(np.asarray(other.log_prob), each.log_prob, atol=1e-12)
        np.testing.assert_allclose(
            np.asarray(posterior_weights(library(weight), other.log_evidence)), moved, atol=1e-12
        )


@pytest.mark.parametrize(
    ("deviation", "after_one", "after_two"),
    [
        (0.5, (0.4285714286, 0.1428571429), (0.1777777778, 0.1111111111)),
        (1.0, (0.75, 0.25), (0.2666666667, 0.1666666667)),
        (2.0, (0.9230769231, 0.3076923077), (0.3047619048, 0.1904761905)),
    ],
)
def test_normal_means_after_one_task_and_two(deviation, after_one, after_two):
    one = gaussian_posterior([0.0], [deviation], FIRST)
    two = gaussian_posterior(one.mean, one.deviation, SECOND)
    for found, (mean, variance) in ((one, after_one), (two, after_two)):
        assert found.mean[0] == pytest.approx(mean, abs=1e-10)
        assert found.deviation[0] ** 2 == pytest.approx(variance, abs=1e-10)
    together = gaussian_posterior([0.0], [deviation], np.concatenate([FIRST, SECOND]))
    np.testing.assert_allclose(together.mean, two.mean, rtol=1e-13)


def test_a_normal_mean_on_a_fine_grid():
    points = np.linspace(-6.0, 6.0, 4001)
    observed = np.array([0.3, -0.8, 1.9])
    prior = norm.logpdf(points, 0.4, 1.5)
    found = grid_posterior(
        log_softmax(prior), norm.logpdf(observed[:, None], points, 0.7).sum(axis=0)
    )
    exact = gaussian_posterior([0.4], [1.5], observed[:, None], noise=0.7)
    probs = np.exp(found.log_prob)
    assert probs @ points == pytest.approx(exact.mean[0], abs=1e-10)
    variance = probs @ (points - probs @ points) ** 2
    assert variance == pytest.approx(exact.deviation[0] ** 2, abs=1e-10)


def test_gaussian_posteriors_broadcast_in_every_library():
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((4, 1, 6, 2))
    deviation = np.array([[0.5, 1.0], [2.0, 0.1], [1.0, 1.0]])
    found = gaussian_posterior(np.zeros(2), deviation, observations)
    assert found.mean.shape == found.deviation.shape == (4, 3, 2)
    one = gaussian_posterior(np.zeros(2), deviation[1], observations[2, 0])
    np.testing.assert_allclose(found.mean[2, 1], one.mean)
    np.testing.assert_allclose(found.deviation[2, 1], one.deviation)
    for library in LIBRARIES:
        other = gaussian_posterior(*(library(x) for x in (np.zeros(2), deviation, observations)))
        np.testing.assert_allclose(np.asarray(other.mean), found.mean, atol=1e-14)


@given(
    tables((3, 2), low=-3.0, high=3.0),
    tables((3, 2), low=0.1, high=2.0),
    st.integers(0, 10**6),
)
def test_moments_of_draws(mean, deviation, seed):
    rng, weight = np.random.default_rng(seed), np.array([0.5, 0.3, 0.2])
    found = mixture_moments(mean, deviation, weight)
    which = rng.choice(3, 20_000, p=weight)
    draws = mean[which] + deviation[which] * rng.standard_normal((20_000, 2))
    np.testing.assert_allclose(draws.mean(axis=0), found.mean, atol=0.15)
    np.testing.assert_allclose(draws.std(axis=0), found.deviation, rtol=0.1)


def test_the_deviation_of_a_mixture():
    found = mixture_moments([[-1.0], [0.5], [2.0]], [[0.3], [0.5], [0.8]], [0.5, 0.3, 0.2])
    assert found.mean[0] == pytest.approx(0.05, abs=1e-15)
    assert found.deviation[0] == pytest.approx(1.2729886095327012, rel=1e-14)


HALVES = np.log([0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid_posterior([0.5, 0.5], HALVES), "log_prior must hold the logarithms"),
        (lambda: grid_posterior(HALVES, np.zeros(3)), "log_likelihood must have trailing shape"),
        (lambda: grid_posterior(HALVES, [-np.inf, -np.inf]), "log_likelihood must be above -inf"),
        (lambda: grid_posterior(HALVES, [np.inf, 0.0]), "log_likelihood must be below infinity"),
        (lambda: mixture_log_prob(HALVES[None], [0.5, 0.5]), "weight must have trailing shape"),
        (lambda: mixture_log_prob(np.stack([HALVES] * 2), [0.5, 0.6]), "weight must sum to 1"),
        (lambda: mixture_log_prob(np.stack([HALVES] * 2), [1.5, -0.5]), "weight must be >= 0"),
        (lambda: mixture_log_prob(np.zeros((0, 2)), np.zeros(0)), "weight must hold at least one"),
        (lambda: posterior_weights([0.5, 0.5], [0.0]), "weight must have trailing shape"),
        (lambda: posterior_weights([1.0, 0.0], [-np.inf, 0.0]), "log_evidence must be above"),
        (lambda: gaussian_posterior([0.0], [0.0], FIRST), "deviation must be a finite number > 0"),
        (lambda: gaussian_posterior([0.0], [1.0], FIRST[:0]), "observations must hold at least"),
        (lambda: gaussian_posterior([0.0, 0.0], [1.0, 1.0], FIRST), "observations must have"),
        (lambda: gaussian_posterior([0.0], [1.0], FIRST, noise=-1.0), "noise must be"),
        (lambda: mixture_moments([[0.0]], [[1.0]], [0.5]), "weight must sum to 1"),
        (lambda: mixture_moments([[0.0]], [[-1.0]], [1.0]), "deviation must be a finite"),
        (lambda: mixture_moments([0.0], [1.0], [1.0]), "mean must have trailing shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
