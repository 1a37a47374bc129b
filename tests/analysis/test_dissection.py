"""How alike judges are, and what decided a judgement."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from prefsim.analysis import judge_similarity, property_attribution
from prefsim.analysis.dissection import SIMILARITIES
from prefsim.testing import tables

TWO = np.array([[0.1, 0.4, -0.2, 0.3], [0.2, 0.3, -0.1, 0.1]])


def test_known_similarities():
    found = {kind: float(judge_similarity(TWO, kind=kind)[0, 1]) for kind in SIMILARITIES}
    assert found["pearson"] == pytest.approx(0.115 / np.sqrt(0.21 * 0.0875), abs=1e-15)
    assert found["l1"] == pytest.approx(-0.125, abs=1e-15)
    assert found["l2"] == pytest.approx(-np.sqrt(0.07) / 4, abs=1e-15)
    assert found["spearman"] == pytest.approx(spearmanr(*TWO).statistic)


@given(st.lists(st.integers(-2, 2), min_size=6, max_size=6), st.permutations(range(6)))
def test_ranks_share_what_ties_share(values, other):
    if len(set(values)) > 1:
        found = judge_similarity(np.array([values, other], dtype=float), kind="spearman")[0, 1]
        assert found == pytest.approx(spearmanr(values, other).statistic, abs=1e-12)


@given(tables((2, 3, 5), low=-2.0, high=2.0), st.sampled_from(SIMILARITIES))
def test_scenarios_are_leading_axes_in_every_library(weights, kind):
    weights = weights + np.arange(5)
    expected = judge_similarity(weights, kind=kind)
    np.testing.assert_allclose(expected, expected.swapaxes(-1, -2))
    np.testing.assert_allclose(expected[1], judge_similarity(weights[1], kind=kind))
    for library in (torch.asarray, array_api_strict.asarray):
        found = judge_similarity(library(weights), kind=kind)
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-12)


@given(tables((4,), low=-2.0, high=2.0), tables((6, 4), low=-1.0, high=1.0))
def test_attributions_sum_to_the_log_odds_less_their_mean(weights, features):
    found = property_attribution(weights, features)
    log_odds = features @ weights
    np.testing.assert_allclose(found.sum(-1), log_odds - log_odds.mean(), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge_similarity(np.ones((2, 3))), "weights must differ between properties"),
        (lambda: judge_similarity(np.ones((2, 1))), "at least two properties"),
        (lambda: judge_similarity(np.ones(3)), "weights must"),
        (lambda: judge_similarity(TWO, kind="cosine"), "kind must be"),
        (lambda: property_attribution(TWO[0], np.ones((2, 3))), "features must"),
        (lambda: property_attribution(TWO[0], np.ones((0, 4))), "at least one pair"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
