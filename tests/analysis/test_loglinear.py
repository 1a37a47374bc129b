"""Covariances of features, relative condition numbers and the law of robust estimates."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import eigh

from prefsim.analysis.loglinear import (
    difference_covariance,
    estimate_covariance,
    estimation_bound,
    feature_differences,
    policy_covariance,
    relative_condition_number,
)
from prefsim.data import Comparisons
from prefsim.numerics import logsumexp
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.testing.bandits import tables
from prefsim.worlds import ContextualBandit

FEATURES = np.random.default_rng(0).standard_normal((3, 4, 2))
POPULATION = Comparisons.population(
    ContextualBandit(reward=FEATURES @ [1.0, -0.5]), TabularPolicy.uniform(3, 4), distinct=True
)


def test_differences_and_their_covariance_against_a_loop():
    rows = feature_differences(POPULATION, FEATURES)
    total = np.zeros((2, 2))
    for i, (x, w, loser) in enumerate(
        zip(POPULATION.prompt, POPULATION.chosen, POPULATION.rejected, strict=True)
    ):
        np.testing.assert_array_equal(rows[i], FEATURES[x, w] - FEATURES[x, loser])
        total += POPULATION.weight[i] * np.outer(rows[i], rows[i])
    np.testing.assert_allclose(difference_covariance(POPULATION, FEATURES), total, atol=1e-14)


def test_pairs_drawn_from_a_policy_vary_twice_as_much_as_the_policy():
    """E (φ − φ')(φ − φ')ᵀ = 2 Cov φ for independent draws."""
    policy = TabularPolicy.random(3, 4, seed=1)
    data = Comparisons.population(ContextualBandit(reward=np.zeros((3, 4))), policy)
    np.testing.assert_allclose(
        difference_covariance(data, FEATURES),
        2 * policy_covariance(policy.log_probs, FEATURES),
        atol=1e-14,
    )


def test_a_batch_of_weights_gives_a_batch_of_covariances():
    weight = np.random.default_rng(2).dirichlet(np.ones(len(POPULATION)), 5)
    batch = Comparisons(
        POPULATION.prompt, POPULATION.chosen, POPULATION.rejected, POPULATION.prob, weight
    )
    found = difference_covariance(batch, FEATURES)
    assert found.shape == (5, 2, 2)
    for i in range(5):
        one = Comparisons(
            POPULATION.prompt, POPULATION.chosen, POPULATION.rejected, POPULATION.prob, weight[i]
        )
        np.testing.assert_allclose(found[i], difference_covariance(one, FEATURES), atol=1e-14)


def test_the_policy_covariance_is_the_hessian_of_the_log_partition():
    features = torch.as_tensor(FEATURES)
    weights = torch.tensor([0.3, -1.2], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda w: logsumexp(features @ w).mean(), weights)
    policy = LogLinearPolicy.from_features(FEATURES, weights=weights.numpy())
    np.testing.assert_allclose(
        policy_covariance(policy.log_probs, FEATURES), hessian.numpy(), atol=1e-14
    )


@given(tables((3, 3), low=-2, high=2), tables((3, 3), low=-2, high=2))
def test_the_condition_number_is_the_largest_generalised_eigenvalue(a, b):
    target, covering = a @ a.T, b @ b.T + 0.1 * np.eye(3)
    found = relative_condition_number(target, covering)
    assert found == pytest.approx(
        eigh(target, covering, eigvals_only=True)[-1], rel=1e-9, abs=1e-12
    )
    for direction in np.eye(3):
        assert (
            direction @ target @ direction
            <= found * (direction @ covering @ direction) * (1 + 1e-9) + 1e-12
        )


def test_directions_that_are_not_covered():
    covering = np.diag([2.0, 0.0])
    assert relative_condition_number(np.diag([1.0, 1e-3]), covering) == np.inf
    assert relative_condition_number(np.diag([1.0, 0.0]), covering) == pytest.approx(0.5)
    batch = relative_condition_number(np.stack([np.eye(2), np.diag([4.0, 0.0])]), covering)
    np.testing.assert_allclose(batch, [np.inf, 2.0], rtol=1e-14)


def test_namespaces_agree():
    for convert in (torch.as_tensor, array_api_strict.asarray):
        features = convert(FEATURES.copy())
        covariance = difference_covariance(POPULATION, features)
        np.testing.assert_allclose(
            np.asarray(covariance), difference_covariance(POPULATION, FEATURES), atol=1e-14
        )
        for function in (lambda f: estimate_covariance(POPULATION, f, beta=0.5, flip_rate=0.2),):
            np.testing.assert_allclose(
                np.asarray(function(features)), function(FEATURES), rtol=1e-12
            )
    kappa = relative_condition_number(
        torch.eye(2, dtype=torch.float64), torch.diag(torch.tensor([2.0, 0.5], dtype=torch.float64))
    )
    assert float(kappa) == pytest.approx(2.0)


def test_the_clean_estimate_has_the_inverse_fisher_information():
    x = feature_differences(POPULATION, FEATURES)
    fisher = 0.25 * np.einsum(
        "n,ni,nj->ij", POPULATION.weight * POPULATION.prob * (1 - POPULATION.prob), x, x
    )
    np.testing.assert_allclose(
        estimate_covariance(POPULATION, FEATURES, beta=0.5), np.linalg.inv(fisher), rtol=1e-12
    )


@given(st.floats(0.0, 0.45), st.floats(0.05, 5.0))
def test_noise_only_widens(rate, beta):
    wider = estimate_covariance(
        POPULATION, FEATURES, beta=beta, flip_rate=rate
    ) - estimate_covariance(POPULATION, FEATURES, beta=beta)
    assert np.linalg.eigvalsh(wider).min() >= -1e-9 / beta**2


def test_the_bound_shrinks_with_data_and_grows_with_noise_and_ridge():
    base = {
        "beta": 0.5,
        "flip_rate": 0.2,
        "curvature": 0.1,
        "radius": 2.0,
        "ridge": 0.0,
        "chance": 0.05,
    }
    assert estimation_bound(400, 3, **base) == pytest.approx(2 * estimation_bound(1600, 3, **base))
    assert estimation_bound(400, 3, **{**base, "flip_rate": 0.0}) == pytest.approx(
        0.6 * estimation_bound(400, 3, **base)
    )
    assert estimation_bound(400, 3, **{**base, "ridge": 0.01}) == pytest.approx(
        estimation_bound(400, 3, **base) + 0.4
    )
    # Once by hand: d = 4, log 1/δ = 1, √((4 + 4 + 2)/1000) / (2 · ¼ · 1 · ½).
    by_hand = estimation_bound(
        1000, 4, beta=1.0, flip_rate=0.25, curvature=0.25, radius=1.0, ridge=0.0, chance=np.exp(-1)
    )
    assert by_hand == pytest.approx(0.4, rel=1e-14)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="features must have trailing shape"):
        feature_differences(POPULATION, FEATURES[0])
    with pytest.raises(
        ValueError, match=r"log_policy must have trailing shape \(3, 4\), got \(3, 5\)"
    ):
        policy_covariance(np.zeros((3, 5)), FEATURES)
    with pytest.raises(ValueError, match=r"target must have trailing shape \(2, 2\)"):
        relative_condition_number(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="flip_rate must lie in"):
        estimate_covariance(POPULATION, FEATURES, beta=0.5, flip_rate=0.5)
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        estimate_covariance(POPULATION, FEATURES, beta=0.0)
    with pytest.raises(ValueError, match=r"chance must lie in \(0.0, 1.0\), got 0"):
        estimation_bound(
            10, 2, beta=1.0, flip_rate=0.0, curvature=0.1, radius=1.0, ridge=0.0, chance=0.0
        )
