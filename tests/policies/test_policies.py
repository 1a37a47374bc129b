"""Policies: constructors, sampling, parameters and batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy, TokenTreePolicy
from prefsim.worlds import TokenTree


def policies():
    features = np.random.default_rng(0).standard_normal((3, 4, 2))
    tree = TokenTree(2, 2, end_token=0, context_probs=[0.3, 0.7])
    return {
        "tabular": TabularPolicy.random(3, 4, seed=0),
        "loglinear": LogLinearPolicy.from_features(
            features, weights=[0.5, -1.0], base=TabularPolicy.random(3, 4, seed=1)
        ),
        "tokens": TokenTreePolicy.random(tree, seed=0),
        "network": NetworkPolicy.mlp(np.eye(3), 4, hidden=(5,), seed=0),
    }


@pytest.mark.parametrize("name", list(policies()))
def test_the_contract(name):
    policy = policies()[name]
    probs = np.asarray(policy.probs)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-12)
    again = policy.with_parameters(policy.parameters)
    np.testing.assert_array_equal(np.asarray(again.probs), probs)
    prompt, response = np.asarray([0, 1, 1]), np.asarray([2, 0, 1])
    np.testing.assert_allclose(
        np.exp(np.asarray(policy.log_prob(prompt, response))), probs[prompt, response], rtol=1e-12
    )
    batch = policy.with_parameters(
        torch.as_tensor(np.asarray(policy.parameters)).expand(2, -1).clone()
    )
    assert tuple(batch.probs.shape) == (2, *probs.shape) and tuple(
        batch.log_prob(prompt, response).shape
    ) == (2, 3)
    draws = np.asarray(policy.sample(np.asarray([1, 1]), 4000, seed=0))
    np.testing.assert_allclose(
        np.bincount(draws.ravel(), minlength=probs.shape[1]) / 8000,
        probs[1],
        atol=5 * 0.5 / np.sqrt(8000),
    )
    np.testing.assert_array_equal(
        draws, np.asarray(policy.sample(np.asarray([1, 1]), 4000, seed=0))
    )


@given(st.integers(0, 1000))
def test_from_probs_round_trip(seed):
    probs = np.random.default_rng(seed).dirichlet(np.full(5, 0.3), size=(2, 3))
    np.testing.assert_allclose(TabularPolicy.from_probs(probs).probs, probs, atol=1e-15)


def test_zero_probability_is_never_drawn():
    policy = TabularPolicy.from_probs([[0.0, 1.0, 0.0]])
    assert set(np.unique(policy.sample(np.asarray([0]), 1000, seed=0))) == {1}
    np.testing.assert_array_equal(policy.probs, [[0.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TabularPolicy.from_probs([[0.5, 0.6]]), "probs must sum to 1 within 1e-09"),
        (
            lambda: TabularPolicy.from_probs([[-0.5, 1.5]]),
            r"probs must be >= 0, got -0.5 at index \(0, 0\)",
        ),
        (lambda: TabularPolicy.from_probs([0.5, 0.5]), "at least 2 axes"),
        (lambda: TabularPolicy.from_probs([[np.nan, 1.0]]), "probs must be finite"),
        (lambda: TabularPolicy.from_logits([[np.inf, 1.0]]), "logits must be finite"),
        (lambda: TabularPolicy(np.zeros(3)), "logits must have shape"),
        (lambda: LogLinearPolicy.from_features(np.zeros((2, 3))), "features must have 3 axes"),
        (
            lambda: LogLinearPolicy.from_features(np.zeros((2, 3, 4)), weights=[1.0]),
            "weights must have trailing shape",
        ),
        (
            lambda: LogLinearPolicy.from_features(
                np.zeros((2, 3, 4)), base=TabularPolicy.uniform(1, 3)
            ),
            "base.log_probs",
        ),
        (lambda: NetworkPolicy.mlp([1.0], 2, seed=0), "inputs must have 2 axes"),
        (
            lambda: TokenTreePolicy(TokenTree(2, 2), np.zeros((1, 2, 2))),
            "logits must have trailing shape",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
