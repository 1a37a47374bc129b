"""Scores predicted from counts of what people labelled, and routings by the prediction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.routing import feature_counts, route_above, route_top
from prefsim.solvers.performance_model import (
    PerformanceModel,
    fit_performance,
    learn_performance,
    route_greedily,
    route_simulated,
)

COUNTS = np.array([[0, 0], [2, 1], [1, 3], [3, 3], [4, 0]])
SCORES = np.array([60, 62, 61.5, 64, 63])
FEATURES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])


def test_known_fit():
    model = fit_performance(COUNTS, SCORES)
    assert model.intercept == pytest.approx(59.82173913, abs=1e-8)
    np.testing.assert_allclose(model.linear, [0.85, 0.4130434783], atol=1e-10)
    assert model.predict([2, 2]) == pytest.approx(62.347826087, abs=1e-9)
    misfit = model.predict(COUNTS) - SCORES
    assert np.sqrt(np.mean(misfit**2)) == pytest.approx(0.2847577155, abs=1e-10)
    gains = model.gains(FEATURES)
    np.testing.assert_allclose(gains, [0.85, 0.4130434783, 1.2630434783, 0.0], atol=1e-10)
    assert np.flatnonzero(route_top(gains, 2)).tolist() == [0, 2]
    assert np.flatnonzero(route_above(gains)).tolist() == [0, 1, 2]


def test_largest_gains_of_a_quadratic_model_miss_the_best():
    model = PerformanceModel(0.0, np.array([3.0, 2.5]), -np.eye(2))
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert model.gains(features).tolist() == [2.0, 2.0, 1.5]
    top, greedy = route_top(model.gains(features), 2), route_greedily(model, features, 2)
    assert model.predict(feature_counts(features, np.stack([top, greedy]))).tolist() == [2.0, 3.5]
    assert route_simulated(model, features, 2, candidates=50, seed=0).sum() == 2


@given(st.integers(0, 10**6))
def test_a_quadratic_truth_is_found_in_every_coefficient(seed):
    rng = np.random.default_rng(seed)
    half = rng.standard_normal((2, 2))
    truth = PerformanceModel(3.0, rng.standard_normal(2), half + half.T)
    counts = rng.integers(0, 6, (40, 2))
    found = fit_performance(counts, truth.predict(counts), degree=2)
    np.testing.assert_allclose(found.quadratic, truth.quadratic, atol=1e-8)
    np.testing.assert_allclose(found.linear, truth.linear, atol=1e-7)
    assert found.intercept == pytest.approx(3.0, abs=1e-7)


def test_least_norm_and_ridge():
    counts = np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0]])
    scores = 50 + 2 * counts[:, 0]
    found = fit_performance(counts, scores)
    # Only their difference is known.
    np.testing.assert_allclose(found.linear, [1.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(found.predict(counts), scores)
    shrunk = fit_performance(counts, scores, ridge=10.0)
    assert 0 < shrunk.linear[0] < 1
    gradient = counts - counts.mean(axis=0)
    left = gradient.T @ (shrunk.predict(counts) - scores) + 10.0 * shrunk.linear
    np.testing.assert_allclose(left, 0, atol=1e-10)
    assert fit_performance(counts[:2], scores[:2], ridge=1.0).linear.shape == (2,)


def test_routings_are_drawn_scored_and_held_out():
    features = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    seen = []

    def score(labels):
        seen.append(labels.shape)
        return labels @ features @ [1.0, 2.0, -1.0]

    found = learn_performance(
        features, np.ones(6), np.zeros(6), score, candidates=20, held_out=0.25, seed=0
    )
    assert seen == [(20, 6)]
    assert found.held_out == 5
    assert np.bincount(found.routed.sum(axis=1))[1:].min() >= 3
    # A budget is not among the features: only their sum would tell it.
    predicted = found.model.predict(feature_counts(features, found.routed))
    np.testing.assert_allclose(predicted, found.scores, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_performance(COUNTS[:3], SCORES[:3]), r"at least F \+ 2 = 4 routings"),
        (lambda: fit_performance(COUNTS, SCORES[:2]), "scores must"),
        (lambda: fit_performance(COUNTS, SCORES, degree=3), "degree must be"),
        (lambda: fit_performance(COUNTS, SCORES, ridge=-1.0), "ridge must be"),
        (lambda: fit_performance(COUNTS, SCORES).predict([1.0]), "counts must"),
        (lambda: fit_performance(COUNTS, SCORES).gains(np.ones((2, 3))), "features must"),
        (
            lambda: route_greedily(fit_performance(COUNTS, SCORES), FEATURES, 9),
            "budget must be",
        ),
        (
            lambda: route_simulated(fit_performance(COUNTS, SCORES), FEATURES, 2, candidates=0),
            "candidates must be",
        ),
        (
            lambda: learn_performance(FEATURES, np.ones(4), np.ones(4), 3),
            "score must be",
        ),
        (
            lambda: learn_performance(FEATURES, np.ones(4), np.ones(4), len, held_out=1.0),
            "held_out must be in",
        ),
        (
            lambda: learn_performance(
                FEATURES, np.ones(4), np.ones(4), lambda labels: np.ones(3), candidates=8
            ),
            "what score returns must",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
