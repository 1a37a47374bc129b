"""Regions of highest density: of points, of mixtures on the line, and boxes."""

import itertools

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from prefsim.analysis import (
    central_box,
    highest_density_region,
    mixture_density_region,
    mixture_quantile,
)
from prefsim.testing import tables

FIVE = [0.05, 0.4, 0.1, 0.25, 0.2]
THREE = ([-1.0, 0.5, 2.0], [0.3, 0.5, 0.8], [0.5, 0.3, 0.2])
LEVELS = st.floats(0.01, 0.99)


@pytest.mark.parametrize(
    ("alpha", "places", "mass"),
    [(0.1, [1, 2, 3, 4], 0.95), (0.25, [1, 3, 4], 0.85), (0.01, [0, 1, 2, 3, 4], 1.0)],
)
def test_five_points(alpha, places, mass):
    found = highest_density_region(FIVE, level=1 - alpha)
    np.testing.assert_array_equal(found.inside.nonzero()[0], places)
    assert found.mass == pytest.approx(mass, abs=1e-15)
    assert found.threshold == min(np.take(FIVE, places))


@given(tables((5,), low=0.0, high=1.0), LEVELS)
def test_no_fewer_points_hold_as_much(table, level):
    probs = (table + 0.01) / (table + 0.01).sum()
    found = highest_density_region(probs, level=level)
    subsets = np.array(list(itertools.product([False, True], repeat=5)))
    enough = subsets @ probs >= level - 1e-14
    assert found.inside.sum() == subsets[enough].sum(axis=-1).min()
    assert found.mass == pytest.approx(probs[found.inside].sum(), abs=1e-15)
    assert probs[found.inside].min() == found.threshold
    assert probs[~found.inside].max(initial=0.0) <= found.threshold


@given(tables((3, 2, 6), low=0.01, high=1.0), LEVELS, LEVELS)
def test_regions_are_nested_and_leading_axes_are_separate(table, one, other):
    probs = table / table.sum(axis=-1, keepdims=True)
    small, large = (highest_density_region(probs, level=x) for x in sorted((one, other)))
    assert (small.inside <= large.inside).all()
    alone = highest_density_region(probs[2, 1], level=max(one, other))
    np.testing.assert_array_equal(large.inside[2, 1], alone.inside)
    assert large.mass[2, 1] == alone.mass


def test_equal_points_come_from_the_left_and_rounding_is_no_point():
    # In floating point .3 + .3 + .3 is below .9.
    found = highest_density_region([0.3, 0.3, 0.3, 0.1], level=0.9)
    np.testing.assert_array_equal(found.inside, [True, True, True, False])
    found = highest_density_region([0.25] * 4, level=0.5)
    np.testing.assert_array_equal(found.inside, [True, True, False, False])


@pytest.mark.parametrize(
    ("alpha", "intervals", "threshold"),
    [
        (0.1, [[-1.584672, 2.130906]], 0.0995807),
        (0.25, [[-1.526894, -0.408679], [-0.036701, 1.248075]], 0.1422835),
        (0.5, [[-1.420259, -0.556684], [0.410309, 0.684601]], 0.2494046),
    ],
)
def test_a_mixture_of_three(alpha, intervals, threshold):
    found = mixture_density_region(*THREE, level=1 - alpha)
    np.testing.assert_allclose(found.intervals, intervals, atol=1e-6)
    assert found.threshold == pytest.approx(threshold, abs=1e-7)
    assert found.mass == pytest.approx(1 - alpha, abs=1e-13)
    assert found.length == pytest.approx(np.diff(intervals).sum(), abs=4e-6)


def test_one_gaussian_has_its_central_interval():
    found = mixture_density_region([2.0, 2.0], [0.5, 0.5], [0.3, 0.7], level=0.9)
    np.testing.assert_allclose(found.intervals, [norm.interval(0.9, 2.0, 0.5)], atol=1e-10)


MIXTURES = {
    "mean": tables((3,), low=-4.0, high=4.0),
    "deviation": tables((3,), low=0.05, high=2.0),
    "share": tables((3,), low=0.05, high=1.0),
}


@given(**MIXTURES, level=LEVELS)
def test_the_density_is_the_same_at_all_ends(mean, deviation, share, level):
    weight = share / share.sum()
    found = mixture_density_region(mean, deviation, weight, level=level)
    ends = found.intervals.ravel()
    assert (np.diff(ends) > 0).all()
    density = (weight * norm.pdf(ends[:, None], mean, deviation)).sum(axis=-1)
    np.testing.assert_allclose(density, found.threshold, rtol=1e-8)
    below = (weight * norm.cdf(ends[:, None], mean, deviation)).sum(axis=-1)
    assert np.diff(below.reshape(-1, 2)).sum() == pytest.approx(level, abs=1e-11)
    # Inside it is higher and outside lower, wherever one looks.
    at = np.linspace(-12.0, 12.0, 2001)
    height = (weight * norm.pdf(at[:, None], mean, deviation)).sum(axis=-1)
    inside = np.searchsorted(ends, at) % 2 == 1
    assert (height[inside] >= found.threshold * (1 - 1e-9)).all()
    assert (height[~inside] <= found.threshold * (1 + 1e-9)).all()


@given(**MIXTURES, level=LEVELS)
def test_quantiles_invert_the_distribution(mean, deviation, share, level):
    weight = share / share.sum()
    at = mixture_quantile(mean, deviation, weight, [level, 0.5])
    below = (weight * norm.cdf(at[:, None], mean, deviation)).sum(axis=-1)
    np.testing.assert_allclose(below, [level, 0.5], atol=1e-12)


def test_equal_tails_are_longer():
    low, high = mixture_quantile(*THREE, [0.05, 0.95])
    assert low == pytest.approx(-1.3845574674, abs=1e-10)
    assert high == pytest.approx(2.5396770726, abs=1e-10)
    assert high - low == pytest.approx(3.924, abs=5e-4)


def test_two_far_peaks_and_a_needle():
    far = mixture_density_region([0.0, 100.0], [1.0, 1.0], [0.5, 0.5], level=0.6)
    np.testing.assert_allclose(np.diff(far.intervals)[:, 0], 2 * norm.ppf(0.8), atol=1e-10)
    needle = mixture_density_region([0.0, 3.0], [1.0, 1e-4], [0.5, 0.5], level=0.4)
    assert needle.length == pytest.approx(2 * 1e-4 * norm.ppf(0.9), rel=1e-3)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_a_box_of_the_barycentre(level):
    found = central_box([0.05], [0.46], level=level)
    edge = {0.1: 0.107804219553, 0.9: 0.806632668398}[level]
    assert found.upper[0] == pytest.approx(edge, abs=1e-12)
    assert found.lower[0] == pytest.approx(0.1 - edge, abs=1e-12)


@given(tables((2, 3), low=-1.0, high=1.0), tables((2, 3), low=0.1, high=2.0), LEVELS)
def test_coordinates_multiply(mean, deviation, level):
    found = central_box(mean, deviation, level=level)
    each = norm.cdf(found.upper, mean, deviation) - norm.cdf(found.lower, mean, deviation)
    np.testing.assert_allclose(each, level, atol=1e-12)
    np.testing.assert_allclose(each.prod(axis=-1), found.mass, atol=1e-12)
    for library in (torch.asarray, array_api_strict.asarray):
        other = central_box(library(mean), library(deviation), level=level)
        np.testing.assert_allclose(np.asarray(other.lower), found.lower, atol=1e-14)


def test_a_box_of_the_mass_that_is_wanted():
    assert central_box(np.zeros(2), np.ones(2), level=0.1).mass == pytest.approx(0.01)
    assert central_box(np.zeros(7), np.ones(7), level=0.9 ** (1 / 7)).mass == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: highest_density_region(FIVE, level=1.0), "level must"),
        (lambda: highest_density_region(FIVE, level=0.0), "level must"),
        (lambda: highest_density_region([0.5, 0.6], level=0.5), "probs must sum to 1"),
        (lambda: highest_density_region([], level=0.5), "probs must"),
        (lambda: mixture_density_region([0.0], [0.0], [1.0], level=0.5), "deviation must"),
        (lambda: mixture_density_region([0.0], [1.0, 1.0], [1.0], level=0.5), "deviation must"),
        (lambda: mixture_density_region([0.0], [1.0], [0.9], level=0.5), "weight must sum to 1"),
        (lambda: mixture_density_region([0.0], [1.0], [1.0], level=-0.5), "level must"),
        (lambda: mixture_density_region([[0.0]], [[1.0]], [[1.0]], level=0.5), "of one mixture"),
        (lambda: mixture_quantile([0.0], [1.0], [1.0], 1.5), "level must lie in"),
        (lambda: central_box([0.0], [1.0], level=1.0), "level must"),
        (lambda: central_box([0.0], [-1.0], level=0.5), "deviation must"),
        (lambda: central_box([], [], level=0.5), "mean must be of at least one"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
