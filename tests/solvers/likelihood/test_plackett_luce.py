"""Plackett–Luce maximum likelihood.

Finite differences, an independent peer, pairs, ballots, and failure without a maximum.
"""

import math

import numpy as np
import pytest
from hypothesis import given

from prefsim.raters.plackett_luce import ranking_log_prob, sample_rankings
from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.likelihood.bradley_terry import count_matrix, fit_bradley_terry
from prefsim.solvers.likelihood.plackett_luce import fit_plackett_luce
from prefsim.testing.data import ranking_tables


@given(ranking_tables())
def test_the_rewards_maximise_the_raters_own_likelihood(rankings):
    n = rankings.shape[1]
    result = fit_plackett_luce(rankings, n)

    def value(reward):
        return ranking_log_prob(reward, rankings).sum()

    assert result.converged
    assert abs(result.reward.sum()) < 1e-12
    assert math.isclose(result.log_likelihood, value(result.reward), rel_tol=1e-12)
    step = 1e-6
    slopes = [
        (value(result.reward + step * e) - value(result.reward - step * e)) / (2 * step)
        for e in np.eye(n)
    ]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-7)


def test_the_same_rewards_as_choix():
    choix = pytest.importorskip("choix")
    rng = np.random.default_rng(0)
    rankings = np.argsort(rng.random((200, 8)) + 0.05 * np.arange(8), axis=1)[:, :5]
    expected = choix.ilsr_rankings(8, rankings.tolist(), tol=1e-12)
    np.testing.assert_allclose(fit_plackett_luce(rankings, 8).reward, expected, atol=1e-9)


def test_pairs_are_bradley_terry():
    rng = np.random.default_rng(1)
    first = rng.integers(0, 6, 150)
    second = (first + rng.integers(1, 6, 150)) % 6
    weight = rng.random(150)
    ranked = fit_plackett_luce(np.stack([first, second], axis=1), 6, weight=weight)
    paired = fit_bradley_terry(count_matrix(first, second, 6, weight))
    np.testing.assert_allclose(ranked.reward, paired.reward, atol=1e-10)
    assert math.isclose(ranked.log_likelihood, paired.log_likelihood, rel_tol=1e-10)


def test_items_left_out_either_did_not_compete_or_lost():
    # One choice among three, thrice 0, twice 1, once 2: with the others below, shares are the
    # probabilities.
    first = np.array([[0], [0], [0], [1], [1], [2]])
    below = fit_plackett_luce(first, 3, unranked="below").reward
    np.testing.assert_allclose(
        np.exp(below) / np.exp(below).sum(), [1 / 2, 1 / 3, 1 / 6], atol=1e-10
    )
    with pytest.raises(ValueError, match="fall into 3 components"):
        fit_plackett_luce(first, 3)
    padded = np.array([[0, 1, -1], [1, 2, -1], [2, 0, -1], [2, 1, 0]])
    absent, lost = (
        fit_plackett_luce(padded, 3, unranked=rule).reward for rule in ("absent", "below")
    )
    assert np.abs(absent - lost).max() > 0.1


def test_rankings_of_a_known_rater_are_consistent():
    # 20,000 full rankings of five items: each reward within 5 standard errors (about 0.01 each).
    reward = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    rankings = sample_rankings(reward, 20_000, seed=0)
    np.testing.assert_allclose(fit_plackett_luce(rankings, 5).reward, reward, atol=0.05)


def test_a_weight_repeats_a_ranking():
    rankings = np.array([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
    repeated = fit_plackett_luce(np.repeat(rankings, [3, 1, 2], axis=0), 3)
    np.testing.assert_allclose(
        fit_plackett_luce(rankings, 3, weight=[3, 1, 2]).reward, repeated.reward, atol=1e-12
    )


def test_no_maximum_and_its_remedy():
    with pytest.raises(
        ValueError, match=r"items \{0\} never lose to the others and items \{2\} never win"
    ):
        fit_plackett_luce([[0, 1, 2]], 3)
    with pytest.raises(ValueError, match="never lose"):
        fit_plackett_luce([[0, 1, 2], [2, 1, 0]], 3, weight=[1.0, 0.0])
    result = fit_plackett_luce([[0, 1, 2]], 3, ridge=0.5)
    assert result.converged
    assert result.reward[0] > result.reward[1] > result.reward[2]


@pytest.mark.parametrize(
    ("rankings", "options", "message"),
    [
        ([[0, 1], [1, 1]], {}, "must not repeat an item, got item 1 twice in row 1"),
        ([[0, 3], [1, 0]], {}, r"items in \[0, 2\) or -1, got 3"),
        ([[-1, 0], [1, 0]], {}, "an item after -1 in row 0"),
        ([[0.0, 1.0]], {}, "integers"),
        ([0, 1], {}, r"shape \(m, K\)"),
        ([[0, 1], [1, 0]], {"weight": [1.0]}, r"weight must have trailing shape \(2\)"),
        ([[0, 1], [1, 0]], {"weight": [1.0, -1.0]}, "weight must be >= 0, got -1.0 at"),
        ([[0, 1], [1, 0]], {"unranked": "last"}, "unranked"),
        ([[0, 1], [1, 0]], {"ridge": -0.1}, "ridge"),
        ([[0, 1], [1, 0]], {"tolerance": 0.0}, "tolerance"),
    ],
)
def test_bad_rankings(rankings, options, message):
    with pytest.raises(ValueError, match=message):
        fit_plackett_luce(rankings, 2, **options)


def test_stopping_early_warns():
    with pytest.warns(ConvergenceWarning, match="fit_plackett_luce stopped after 1 steps"):
        assert not fit_plackett_luce(
            [[0, 1, 2], [0, 1, 2], [1, 0, 2], [2, 1, 0]], 3, max_iterations=1
        ).converged


@pytest.mark.parametrize("unranked", ["absent", "below"])
def test_items_that_no_ranking_lists_are_items(unranked):
    found = fit_plackett_luce([[0, 1], [1, 0]], 4, ridge=0.1, unranked=unranked)
    assert found.converged and found.reward.shape == (4,)
    # What took no part is what the prior says; what was left out lost.
    np.testing.assert_allclose(found.reward[0], found.reward[1], atol=1e-9)
    np.testing.assert_allclose(found.reward[2], found.reward[3], atol=1e-9)
    assert (found.reward[2] < -1) == (unranked == "below")
    np.testing.assert_allclose(found.reward.sum(), 0.0, atol=1e-9)
