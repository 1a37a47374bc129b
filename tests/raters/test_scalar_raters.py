"""Bradley–Terry, Thurstone and Plackett–Luce raters."""

import functools
import itertools
import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.stats import norm

from prefsim import use_backend
from prefsim.raters.bradley_terry import LINKS, bradley_terry_gap, pairwise_preference
from prefsim.raters.plackett_luce import ranking_log_prob, sample_rankings
from prefsim.testing.data import rewards

LIBRARIES = [
    np.asarray,
    functools.partial(torch.as_tensor, dtype=torch.float64),
    array_api_strict.asarray,
]


@given(rewards())
def test_preferences_are_complementary_and_follow_the_reward(reward):
    for link, cdf in (("logistic", lambda x: 1 / (1 + np.exp(-x))), ("probit", norm.cdf)):
        preference = pairwise_preference(reward, link=link)
        np.testing.assert_allclose(preference + preference.T, 1.0, atol=1e-15)
        np.testing.assert_allclose(preference, cdf(reward[:, None] - reward[None, :]), rtol=1e-12)


def test_links_differ_and_an_unknown_one_raises():
    assert (
        np.abs(
            pairwise_preference(np.array([0.0, 1.0]))
            - pairwise_preference(np.array([0.0, 1.0]), link="probit")
        ).max()
        > 0.1
    )
    with pytest.raises(ValueError, match="link must be one of 'logistic', 'probit', got 'logit'"):
        pairwise_preference(np.zeros(2), link="logit")


@given(rewards(max_items=4))
def test_plackett_luce_sums_to_one_and_its_pairwise_marginals_are_bradley_terry(reward):
    n = reward.size
    rankings = np.array(list(itertools.permutations(range(n))))
    probability = np.exp(ranking_log_prob(reward, rankings))
    assert math.isclose(probability.sum(), 1.0, rel_tol=1e-12)
    place = np.argsort(rankings, axis=1)
    above = np.einsum("m,mij->ij", probability, place[:, :, None] < place[:, None, :])
    expected = pairwise_preference(reward)
    np.testing.assert_allclose(above, expected - 0.5 * np.eye(n), atol=1e-12)
    # The first k places of a ranking have the probability of all the rankings that begin with them.
    for k in range(1, n):
        begins = probability[(rankings[:, :k] == rankings[0, :k]).all(axis=1)].sum()
        assert math.isclose(
            np.exp(ranking_log_prob(reward, rankings[0, :k])), begins, rel_tol=1e-10
        )


def test_bradley_terry_gap_measures_the_misfit():
    reward = np.random.default_rng(0).standard_normal((3, 5))
    np.testing.assert_allclose(bradley_terry_gap(pairwise_preference(reward)), 0.0, atol=1e-13)
    assert bradley_terry_gap(pairwise_preference(np.array([0.0, 1.0, 3.0]), link="probit")) > 0.1
    assert bradley_terry_gap(np.array([[0.5, 1.0], [0.0, 0.5]])) == math.inf


def test_plackett_luce_at_extremes_and_its_gradient():
    reward = torch.tensor([1e4, 0.0, -1e4], dtype=torch.float64, requires_grad=True)
    value = ranking_log_prob(reward, np.array([[0, 1, 2], [2, 1, 0]]))
    torch.testing.assert_close(value, torch.tensor([0.0, -3e4], dtype=torch.float64))
    value.sum().backward()
    assert torch.isfinite(reward.grad).all()
    smooth = torch.randn(
        2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    ranking = np.array([[3, 1, 0], [2, 0, 1]])
    assert torch.autograd.gradcheck(lambda r: ranking_log_prob(r, ranking), (smooth,))


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_gives_the_same(library):
    reward = np.random.default_rng(0).standard_normal((2, 4))
    ranking = np.array([[3, 1, 0, 2], [0, 1, 2, 3]])
    given_reward = library(reward)
    for link in LINKS:
        np.testing.assert_allclose(
            np.asarray(pairwise_preference(given_reward, link=link)),
            pairwise_preference(reward, link=link),
            rtol=1e-14,
        )
    np.testing.assert_allclose(
        np.asarray(ranking_log_prob(given_reward, ranking)),
        ranking_log_prob(reward, ranking),
        rtol=1e-14,
    )
    drawn = np.random.default_rng(1).uniform(0.1, 0.9, (3, 4, 4))
    preference = 0.5 + 0.5 * (drawn - np.swapaxes(drawn, -1, -2))
    np.testing.assert_allclose(
        np.asarray(bradley_terry_gap(library(preference))),
        bradley_terry_gap(preference),
        rtol=1e-13,
    )
    np.testing.assert_array_equal(
        sample_rankings(given_reward, 5, seed=3), sample_rankings(reward, 5, seed=3)
    )


def test_sampled_rankings_follow_the_model():
    reward = np.array([0.7, 0.0, -0.4])
    n = 60_000
    drawn = sample_rankings(reward, n, seed=0)
    for ranking in itertools.permutations(range(3)):
        share = (drawn == ranking).all(axis=1).mean()
        chance = float(np.exp(ranking_log_prob(reward, np.array(ranking))))
        # 5 standard errors: a right sampler fails one of the six with chance 4e-6.
        assert abs(share - chance) < 5 * math.sqrt(chance * (1 - chance) / n)
    np.testing.assert_array_equal(
        sample_rankings(reward, 10, seed=1, k=2), sample_rankings(reward, 10, seed=1)[:, :2]
    )
    with use_backend("torch"):
        np.testing.assert_array_equal(
            sample_rankings(torch.as_tensor(reward), 10, seed=1).numpy(),
            sample_rankings(reward, 10, seed=1),
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: ranking_log_prob(r, np.array([0, 0])), "must not repeat an item"),
        (lambda r: ranking_log_prob(r, np.array([0, 3])), r"in \[0, 3\)"),
        (lambda r: ranking_log_prob(r, np.array([0, -1])), r"in \[0, 3\), got -1"),
        (lambda r: ranking_log_prob(r, np.array(0)), "got a scalar"),
        (lambda r: ranking_log_prob(r, np.array([0.0, 1.0])), "integers"),
        (lambda r: sample_rankings(r, -1, seed=0), "n must be an integer >= 0"),
        (lambda r: sample_rankings(r, 2, seed=0, k=4), "k must be at most the number of items 3"),
        (lambda r: sample_rankings(r, 2, seed=0, k=0), "k must be an integer >= 1"),
        (lambda r: sample_rankings(r, 2, seed=-1), "seed"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros(3))
