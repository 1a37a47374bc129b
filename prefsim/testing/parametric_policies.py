"""Hypothesis strategies for policies with fewer parameters than responses.

Every strategy shrinks towards the plainest instance: one feature, weights of zero, the uniform
policy.

Examples
--------
>>> from hypothesis import given, settings
>>> @settings(max_examples=10)
... @given(log_linear_policies(2, 3))
... def test_probabilities_sum_to_one(policy):
...     assert abs(policy.probs.sum(axis=-1) - 1).max() < 1e-12
>>> test_probabilities_sum_to_one()
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from prefsim.backend import like
from prefsim.policies.loglinear import LogLinearPolicy
from prefsim.policies.network import NetworkPolicy
from prefsim.testing.bandits import policies, tables

__all__ = ["log_linear_policies", "network_policies"]


@st.composite
def log_linear_policies(
    draw: st.DrawFn,
    n_contexts: int,
    n_responses: int,
    *,
    n_features: int | None = None,
    max_features: int = 3,
    features: Any = None,
    spread: float = 2.0,
) -> LogLinearPolicy:
    """Log-linear policies with full support, over a base policy that is uniform or drawn.

    Parameters
    ----------
    n_contexts, n_responses
        Sizes X and Y.
    n_features
        Dimension d of the features; up to ``max_features`` unless given.
    max_features
        Largest dimension that is drawn.
    features
        ``(X, Y, d)``; in [-1, 1] unless given, such as those of a bandit.
    spread
        No log-odds differ from those of the base by more than twice this; the base has logits
        within ``spread``.
    """
    if features is None:
        d = draw(st.integers(1, max_features)) if n_features is None else n_features
        features = draw(tables((n_contexts, n_responses, d), low=-1.0, high=1.0))
    features = np.asarray(features, dtype=np.float64)
    # A product of weights and features stays within the spread.
    longest = max(float(np.abs(features).sum(axis=-1).max()), 1.0)
    weights = draw(tables(features.shape[-1:], low=-spread / longest, high=spread / longest))
    base = draw(st.none() | policies(n_contexts, n_responses, spread=spread))
    return LogLinearPolicy.from_features(features, weights=weights, base=base)


@st.composite
def network_policies(
    draw: st.DrawFn,
    n_contexts: int,
    n_responses: int,
    *,
    n_features: int = 2,
    hidden: tuple[int, ...] = (4,),
    spread: float = 2.0,
) -> NetworkPolicy:
    """Tanh networks in float64 of prompt features in [-1, 1], with any weights and biases.

    Parameters
    ----------
    n_contexts, n_responses
        Sizes X and Y.
    n_features
        Dimension of the prompt features.
    hidden
        Widths of the hidden layers.
    spread
        Weights and biases lie within this.
    """
    inputs = draw(tables((n_contexts, n_features), low=-1.0, high=1.0))
    policy = NetworkPolicy.mlp(inputs, n_responses, hidden=hidden, seed=0)
    size = policy.parameters.shape[-1]
    parameters = draw(tables((size,), low=-spread, high=spread))
    return policy.with_parameters(like(parameters, policy.parameters))
