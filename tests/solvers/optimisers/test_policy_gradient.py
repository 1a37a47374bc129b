"""Exact policy gradients.

Against automatic differentiation, their limits off policy, and their variances by enumeration.
"""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.solvers import gibbs_log_policy
from prefsim.solvers.optimisers.policy_gradient import (
    contrastive_gradient,
    off_policy_limit,
    pairwise_variance,
    regularised_reward,
    score_gradient,
    score_variance,
)
from prefsim.testing import betas, tables

LAWS = tables((2, 5), low=-2.0, high=2.0).map(log_softmax)
REWARDS = tables((2, 5), low=-3.0, high=3.0)


@given(REWARDS, LAWS, LAWS, betas(0.1, 2.0))
def test_on_policy_it_is_the_gradient_of_the_regularised_value(
    reward, log_policy, log_reference, beta
):
    def regularised_value(theta):
        own = log_softmax(theta)
        penalised = torch.tensor(reward) - beta * (own - torch.tensor(log_reference))
        return torch.exp(own) * penalised

    expected = gradient(regularised_value, log_policy)
    advantage = regularised_reward(reward, log_policy, log_reference, beta=beta)
    np.testing.assert_allclose(score_gradient(advantage, log_policy), expected, atol=1e-13)
    np.testing.assert_allclose(score_gradient(advantage + 1e3, log_policy), expected, atol=1e-11)
    np.testing.assert_allclose(
        contrastive_gradient(advantage, log_policy) / 2, expected, atol=1e-13
    )


@given(REWARDS, LAWS, LAWS, LAWS)
def test_expectations_off_policy(advantage, log_policy, log_first, log_second):
    n = advantage.shape[-1]
    scores = np.eye(n) - np.exp(log_policy)[:, None, :]
    expected = np.einsum("xy,xy,xyk->xk", np.exp(log_first), advantage, scores)
    np.testing.assert_allclose(
        score_gradient(advantage, log_policy, log_first), expected, atol=1e-13
    )
    gap = advantage[:, :, None] - advantage[:, None, :]
    weight = np.exp(log_first[:, :, None] + log_second[:, None, :])
    expected = np.einsum("xij,xij,xijk->xk", weight, gap, scores[:, :, None] - scores[:, None])
    np.testing.assert_allclose(
        contrastive_gradient(advantage, log_first, log_second), expected, atol=1e-12
    )


@given(REWARDS, LAWS, LAWS, betas(0.05, 2.0), st.floats(1e-3, 5.0))
def test_the_limit_is_stationary_and_reached(reward, log_behaviour, log_reference, beta, below):
    optimum, log_z = gibbs_log_policy(reward, log_reference, beta=beta)
    baseline = beta * log_z - below
    found = off_policy_limit(reward, log_behaviour, log_reference, beta=beta, baseline=baseline)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, atol=1e-14)
    advantage = regularised_reward(reward, found, log_reference, beta=beta) - baseline[:, None]
    assert np.abs(score_gradient(advantage, found, log_behaviour)).max() < 1e-11
    at_value = off_policy_limit(
        reward, log_behaviour, log_reference, beta=beta, baseline=beta * log_z
    )
    np.testing.assert_allclose(np.exp(at_value), np.exp(optimum), atol=1e-12)
    far = off_policy_limit(reward, log_behaviour, log_reference, beta=beta, baseline=baseline - 1e7)
    np.testing.assert_allclose(
        np.exp(far), np.exp(log_behaviour), atol=1e-5
    )  # a large constant reward is imitation


def test_ascent_ends_at_the_limit():
    rng = np.random.default_rng(0)
    reward, (log_mu, log_ref) = rng.random(4), np.log(rng.dirichlet(np.ones(4), 2))
    expected = off_policy_limit(reward, log_mu, log_ref, beta=0.3, baseline=-0.2)
    log_policy = log_ref
    for _ in range(3000):
        advantage = regularised_reward(reward, log_policy, log_ref, beta=0.3) + 0.2
        log_policy = log_softmax(log_policy + score_gradient(advantage, log_policy, log_mu))
    np.testing.assert_allclose(log_policy, expected, atol=1e-10)


@given(REWARDS, LAWS)
def test_variances_by_enumeration(advantage, log_policy):
    policy, n = np.exp(log_policy), advantage.shape[-1]
    single = advantage[..., None] * (np.eye(n) - policy[:, None])
    second = np.einsum("xy,xyk->x", policy, single**2) - (
        score_gradient(advantage, log_policy) ** 2
    ).sum(axis=-1)
    np.testing.assert_allclose(score_variance(advantage, log_policy), second, atol=1e-12)
    gap = 0.5 * (advantage[:, :, None] - advantage[:, None, :])
    move = np.eye(n)[:, None] - np.eye(n)
    pairs = gap[..., None] * move
    weight = policy[:, :, None] * policy[:, None]
    mean = np.einsum("xij,xijk->xk", weight, pairs)
    expected = np.einsum("xij,xijk->x", weight, pairs**2) - (mean**2).sum(axis=-1)
    np.testing.assert_allclose(pairwise_variance(advantage, log_policy), expected, atol=1e-12)


def test_array_libraries_agree():
    rng = np.random.default_rng(1)
    advantage, first, second = rng.standard_normal((3, 2, 4))
    first, second = log_softmax(first), log_softmax(second)
    calls = (
        lambda a, p, q: score_gradient(a, p, q),
        lambda a, p, q: contrastive_gradient(a, p, q),
        lambda a, p, q: score_variance(a, p),
        lambda a, p, q: pairwise_variance(a, p),
        lambda a, p, q: regularised_reward(a, p, q, beta=0.3),
    )
    for call in calls:
        expected = call(advantage, first, second)
        np.testing.assert_allclose(
            call(*map(torch.tensor, (advantage, first, second))).numpy(), expected, atol=1e-14
        )
        strict = call(*map(array_api_strict.asarray, (advantage, first, second)))
        np.testing.assert_allclose(np.asarray(strict), expected, atol=1e-14)


R, MU, REF = np.asarray([1.0, 0.5, 0.0]), np.log([0.1, 0.2, 0.7]), np.log(np.full(3, 1 / 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regularised_reward(R, MU, REF, beta=-1.0), "beta must be a finite number >= 0"),
        (
            lambda: off_policy_limit(R, MU, REF, beta=0.0, baseline=0.0),
            "beta must be a finite number > 0",
        ),
        (
            lambda: off_policy_limit(R, MU, REF, beta=0.5, baseline=0.7),
            "baseline must be at most the value of the optimum, got 0.045",
        ),
        (
            lambda: off_policy_limit(R, MU, [0.0, -np.inf, -np.inf], beta=0.5, baseline=0.0),
            "log_reference must be finite",
        ),
        (
            lambda: off_policy_limit(R, MU, REF, beta=0.5, baseline=np.nan),
            "baseline must be finite",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["reward", "log_behaviour", "log_reference"])
def test_a_number_is_no_table_of_responses(name):
    table = np.log([0.2, 0.3, 0.5])
    tables = {"reward": table, "log_behaviour": table, "log_reference": table} | {name: -1.0}
    with pytest.raises(ValueError, match=f"^{name} must have at least 1 axes"):
        off_policy_limit(**tables, beta=0.5, baseline=-5.0)
