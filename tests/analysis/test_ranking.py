"""The idealised ranking, the largest penalty that has it, and the loss that turns a pair."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import (
    exact_ranking_accuracy,
    idealised_log_ratio,
    idealised_ranking_accuracy,
    largest_ranking_beta,
    ranking_accuracy,
    ranking_loss,
)
from prefsim.testing.bandits import tables

CHOSEN, REJECTED = np.log([0.2]), np.log([0.5])
LOG_PROBS = tables((2, 3, 5), low=-20.0, high=-0.1)


def test_values():
    ratios = [np.exp(idealised_log_ratio(CHOSEN, REJECTED, 0.75, beta=b)[0]) for b in (0.1, 1, 5)]
    assert ratios == pytest.approx([23619.6, 1.2, 0.498292375846], rel=1e-11)
    largest = largest_ranking_beta(CHOSEN, REJECTED, 0.75)[0]
    assert largest == pytest.approx(1.198977846716, abs=1e-12)
    losses = [ranking_loss(CHOSEN, REJECTED, beta=b)[0] for b in (0.1, 1, 5)]
    assert losses == pytest.approx([0.648381762913, 0.336472236621, 0.010187926387], abs=1e-12)


def test_a_unanimous_vote_counts_as_nearly_one():
    found = idealised_log_ratio(CHOSEN, REJECTED, 1.0, beta=0.5)
    assert found[0] == pytest.approx(np.log(1000) / 0.5 + CHOSEN[0] - REJECTED[0])
    more = idealised_log_ratio(CHOSEN, REJECTED, 1.0, beta=0.5, unanimous=1e-6)
    assert more[0] == pytest.approx(np.log(1e6) / 0.5 + CHOSEN[0] - REJECTED[0])


def test_ties_do_not_count_for_the_optimum_and_do_for_a_policy():
    tie = np.log([0.3])
    assert idealised_ranking_accuracy(tie, tie, 0.5, beta=1.0) == 0
    assert ranking_accuracy(tie, tie) == 1


@given(LOG_PROBS, st.floats(0.51, 0.999), st.floats(0.01, 10.0))
def test_batches_are_means_over_the_last_axis(log_probs, share, beta):
    found = idealised_ranking_accuracy(*log_probs, share, beta=beta)
    each = idealised_log_ratio(*log_probs, share, beta=beta) > 0
    np.testing.assert_allclose(found, each.mean(axis=-1), atol=1e-15)
    below = beta < largest_ranking_beta(*log_probs, share)
    sure = np.abs(idealised_log_ratio(*log_probs, share, beta=beta)) > 1e-9
    np.testing.assert_array_equal(each[sure], below[sure])


def test_a_grid_of_betas_in_one_call():
    log_probs, betas = np.log([[0.2, 0.4, 0.3], [0.5, 0.1, 0.4]]), np.array([0.1, 1.0, 5.0])
    found = idealised_ranking_accuracy(*(x[None] for x in log_probs), 0.7, beta=betas[:, None])
    each = [idealised_ranking_accuracy(*log_probs, 0.7, beta=float(beta)) for beta in betas]
    np.testing.assert_array_equal(found, each)
    limits = ranking_loss(*(x[None] for x in log_probs), beta=betas[:, None])
    np.testing.assert_array_equal(limits[1], ranking_loss(*log_probs, beta=1.0))


def test_exact_rankings():
    lists = np.array([[-1.0, -2.0, -2.0], [-1.0, -3.0, -2.0], [-2.0, -1.0, -3.0]])
    assert exact_ranking_accuracy(lists) == pytest.approx(1 / 3)
    assert exact_ranking_accuracy(np.stack([lists, lists[:, ::-1]])) == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_other_libraries(library):
    chosen, rejected = np.log([0.2, 0.4, 0.3]), np.log([0.5, 0.1, 0.3])
    ours = library.asarray(chosen), library.asarray(rejected)
    for function in (idealised_log_ratio, idealised_ranking_accuracy):
        found = function(*ours, 0.7, beta=0.5)
        expected = function(chosen, rejected, 0.7, beta=0.5)
        np.testing.assert_allclose(np.asarray(found), expected)
    found = largest_ranking_beta(*ours, [0.6, 0.7, 1.0])
    np.testing.assert_allclose(
        np.asarray(found), largest_ranking_beta(chosen, rejected, [0.6, 0.7, 1.0])
    )
    np.testing.assert_allclose(
        np.asarray(ranking_loss(*ours, beta=2.0)), ranking_loss(chosen, rejected, beta=2.0)
    )


@pytest.mark.parametrize("share", [0.4, 1.2, np.nan, -1.0])
@pytest.mark.parametrize("function", [idealised_log_ratio, largest_ranking_beta])
def test_votes_that_were_lost_or_are_none(function, share):
    options = {"beta": 1.0} if function is idealised_log_ratio else {}
    with pytest.raises(ValueError, match="vote_share must be"):
        function(CHOSEN, REJECTED, share, **options)


def test_bad_options():
    with pytest.raises(ValueError, match="beta must be"):
        idealised_log_ratio(CHOSEN, REJECTED, 0.7, beta=0.0)
    with pytest.raises(ValueError, match="unanimous must be"):
        largest_ranking_beta(CHOSEN, REJECTED, 0.7, unanimous=0.0)
    with pytest.raises(ValueError, match="arrays must have one shape"):
        ranking_loss(CHOSEN, np.log([0.5, 0.2]), beta=1.0)
