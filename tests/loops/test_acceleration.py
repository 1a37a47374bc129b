"""Momentum between rounds.

Coefficients, extrapolation of every in-memory policy, and what is refused.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.backend import to_numpy
from prefsim.loops import accelerate, extrapolate_policy, momentum_coefficients
from prefsim.numerics import log_softmax
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy, TokenTreePolicy
from prefsim.solvers.games.updates import extrapolated
from prefsim.worlds import TokenTree


@given(st.integers(0, 40), st.floats(0.0, 0.95))
def test_coefficients_follow_the_recursion(rounds, momentum):
    fitted = before = played = 0.0
    for _ in range(rounds):
        before, fitted = fitted, played + 1.0
        played = fitted + momentum * (fitted - before)
    np.testing.assert_allclose(
        momentum_coefficients(rounds, momentum=momentum), (fitted, played), rtol=1e-9, atol=1e-9
    )


def test_no_momentum_counts_rounds():
    assert momentum_coefficients(7, momentum=0.0) == (7.0, 7.0)
    assert momentum_coefficients(0, momentum=0.5) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["tabular", "loglinear"])
def test_linear_policies_extrapolate_their_log_probabilities(kind):
    rng = np.random.default_rng(0)
    if kind == "tabular":
        policy, before = (TabularPolicy(rng.standard_normal((2, 4, 3))) for _ in range(2))
    else:
        features = rng.standard_normal((4, 3, 2))
        policy, before = (
            LogLinearPolicy.from_features(features, weights=rng.standard_normal(2))
            for _ in range(2)
        )
    found = extrapolate_policy(policy, before, momentum=0.7)
    np.testing.assert_allclose(
        found.log_probs, extrapolated(policy.log_probs, before.log_probs, momentum=0.7), atol=1e-13
    )


def test_a_tree_extrapolates_token_by_token():
    tree = TokenTree(2, 2)
    policy, before = (TokenTreePolicy.random(tree, seed=seed) for seed in (0, 1))
    found = extrapolate_policy(policy, before, momentum=0.5)
    tokens = log_softmax(
        log_softmax(policy.logits) + 0.5 * (log_softmax(policy.logits) - log_softmax(before.logits))
    )
    np.testing.assert_allclose(log_softmax(found.logits), tokens, atol=1e-14)
    # The tilt of whole sequences is another policy: prefixes are not normalised one by one.
    assert (
        np.abs(
            found.log_probs - extrapolated(policy.log_probs, before.log_probs, momentum=0.5)
        ).max()
        > 1e-3
    )


def test_a_network_extrapolates_its_weights_only():
    policy, before = (NetworkPolicy.mlp(np.eye(2), 3, hidden=(4,), seed=seed) for seed in (0, 1))
    found = extrapolate_policy(policy, before, momentum=0.5)
    np.testing.assert_allclose(
        to_numpy(found.parameters),
        to_numpy(1.5 * policy.parameters - 0.5 * before.parameters),
        rtol=1e-12,
    )
    assert (
        np.abs(
            to_numpy(
                found.log_probs - extrapolated(policy.log_probs, before.log_probs, momentum=0.5)
            )
        ).max()
        > 1e-3
    )


def test_torch_policies_and_the_first_round():
    step = np.array([[0.0, 1.0]])
    start = TabularPolicy(torch.zeros(1, 2, dtype=torch.float64))
    path = accelerate(
        lambda policy, t: TabularPolicy(policy.logits + (t + 1) * torch.as_tensor(step)),
        start,
        momentum=0.5,
        rounds=2,
    )
    # The first round is extrapolated too: 1, then 1.5; then 1.5 + 2, extrapolated by half of 3.5 −
    # 1.
    np.testing.assert_allclose([r.fitted.logits[0, 1] for r in path], [1.0, 3.5])
    np.testing.assert_allclose([r.extrapolated.logits[0, 1] for r in path], [1.5, 4.75])


UNIFORM = TabularPolicy.uniform(1, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: momentum_coefficients(-1, momentum=0.1), "rounds must be an integer >= 0"),
        (lambda: momentum_coefficients(3, momentum=1.0), r"momentum must lie in \[0.0, 1.0\)"),
        (
            lambda: extrapolate_policy(UNIFORM, UNIFORM, momentum=-0.1),
            r"momentum must lie in \[0.0, 1.0\)",
        ),
        (
            lambda: extrapolate_policy(UNIFORM, TabularPolicy.uniform(1, 3), momentum=0.1),
            "one shape",
        ),
        (
            lambda: extrapolate_policy(
                TabularPolicy.from_probs([[0.0, 1.0]]), UNIFORM, momentum=0.1
            ),
            "parameters of the policy must be finite",
        ),
        (
            lambda: accelerate(lambda p, t: p, UNIFORM, momentum=1.0, rounds=1),
            r"momentum must lie in \[0.0, 1.0\)",
        ),
        (
            lambda: accelerate(lambda p, t: p, UNIFORM, momentum=0.1, rounds=0),
            "rounds must be an integer >= 1",
        ),
        (lambda: accelerate(0.1, UNIFORM, momentum=0.1, rounds=1), "improve must be a function"),
        (
            lambda: accelerate(
                lambda p, t: TabularPolicy.uniform(2, 2), UNIFORM, momentum=0.1, rounds=1
            ),
            "one shape",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
