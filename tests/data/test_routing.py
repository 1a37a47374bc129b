"""Which instances people label: counts, labels, candidates and routings by gain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.routing import (
    feature_counts,
    route_above,
    route_candidates,
    route_top,
    routed_labels,
)

FEATURES = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
GAINS = np.array([0.85, 0.4130434783, 1.2630434783, 0.0])


def test_known_routings():
    assert np.flatnonzero(route_top(GAINS, 2)).tolist() == [0, 2]
    assert np.flatnonzero(route_above(GAINS)).tolist() == [0, 1, 2]
    assert route_above(GAINS, 0.5).tolist() == [True, False, True, False]
    assert feature_counts(FEATURES, route_top(GAINS, 2)).tolist() == [2, 1]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.data())
def test_the_largest_gains_are_taken_and_the_first_of_equal_ones(values, data):
    gains = np.array(values, dtype=float)
    budget = data.draw(st.integers(0, gains.size))
    routed = route_top(gains, budget)
    assert routed.sum() == budget
    if 0 < budget < gains.size:
        assert gains[routed].min() >= gains[~routed].max()
        last = gains[routed].min()
        tied = np.flatnonzero(gains == last)
        assert (np.diff(routed[tied].astype(int)) <= 0).all()
    both = np.stack([gains, -gains])
    np.testing.assert_array_equal(route_top(both, budget)[0], routed)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_candidates_are_made_of_one_feature_after_the_other(seed, budget):
    rng = np.random.default_rng(seed)
    features = (rng.random((12, 3)) < 0.5).astype(float)
    routed = route_candidates(features, [budget] * 6, seed=seed)
    assert (routed.sum(axis=1) == budget).all()
    for row in routed:
        # All but one of the features that are begun are used up, in some order of them.
        left = [features[~row, k].sum() for k in range(3)]
        used = [features[row, k].sum() for k in range(3)]
        if 0 < budget < 12 and features[~row].any():
            assert min(left) == 0 or max(used) == budget
    np.testing.assert_array_equal(routed, route_candidates(features, [budget] * 6, seed=seed))


def test_labels_follow_the_routing():
    routed = np.array([[True, False], [False, True]])
    assert routed_labels([1.0, 1.0], [0.0, 0.5], routed).tolist() == [[1, 0.5], [0, 1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: feature_counts([[0.5]], [True]), "features must be 0 or 1, got 0.5"),
        (lambda: feature_counts(np.ones((0, 2)), []), "at least one instance"),
        (lambda: feature_counts(FEATURES, [True]), "routed must"),
        (lambda: feature_counts(FEATURES, [[True]]), "routed must"),
        (lambda: feature_counts(FEATURES, [[1, 0, 0, 0]]), "routed must hold booleans"),
        (lambda: routed_labels([1.0], [1.0, 0.0], [True]), "model must"),
        (lambda: route_candidates(FEATURES, [5], seed=0), r"budgets must be integers \(T,\) in"),
        (lambda: route_candidates(FEATURES, 2, seed=0), "budgets must be integers"),
        (lambda: route_top(GAINS, 5), "budget must be"),
        (lambda: route_top([np.nan], 1), "gains must be finite"),
        (lambda: route_above(GAINS, np.inf), "threshold must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
