"""Strategies of policies, general bandits, rankings and revisions keep what they promise."""

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from prefsim.testing import (
    bandits,
    general_bandits,
    general_bandits_with_reference,
    log_linear_policies,
    network_policies,
    rankings,
    revisions,
)

FEW = settings(max_examples=200, database=None, derandomize=True, deadline=None)


@given(log_linear_policies(2, 3, max_features=2, spread=1.5))
def test_log_linear_policies(policy):
    assert policy.features.shape[:2] == (2, 3) and 1 <= policy.features.shape[2] <= 2
    assert policy.probs.min() > 0
    tilt = policy.log_probs - policy.base_log_probs
    assert np.ptp(tilt, axis=-1).max() <= 3 + 1e-12


@given(st.data(), bandits(n_contexts=2, n_responses=3))
def test_log_linear_policies_of_given_features(data, world):
    features = np.stack([world.reward, world.reward**2], axis=-1)
    policy = data.draw(log_linear_policies(2, 3, features=features))
    np.testing.assert_array_equal(policy.features, features)


def test_log_linear_policies_shrink_to_the_uniform_one():
    plainest = find(log_linear_policies(1, 2), lambda policy: True, settings=FEW)
    assert plainest.features.shape == (1, 2, 1)
    np.testing.assert_array_equal(plainest.probs, 0.5)
    tilted = find(log_linear_policies(1, 2), lambda p: bool(p.weights.any()), settings=FEW)
    assert tilted.weights.size == 1


@given(network_policies(2, 3, n_features=1, hidden=(3,), spread=1.0))
def test_network_policies(policy):
    assert policy.log_probs.shape == (2, 3)
    assert float(policy.parameters.abs().max()) <= 1
    assert policy.parameters.shape == (1 * 3 + 3 + 3 * 3 + 3,)
    np.testing.assert_allclose(policy.probs.sum(-1), 1, rtol=1e-12)


@given(general_bandits(n_contexts=2, max_responses=4))
def test_general_bandits(world):
    assert world.reward is None and world.n_contexts == 2 and 2 <= world.n_responses <= 4
    assert world.context_probs.min() > 0


def test_general_bandits_have_cycles():
    def has_a_cycle(world):
        p = world.preference[0]
        return bool(p[0, 1] > 0.5 and p[1, 2] > 0.5 and p[2, 0] > 0.5)

    assert find(general_bandits(n_responses=3), has_a_cycle, settings=FEW).n_contexts == 1


@given(general_bandits_with_reference(spread=1.0, max_responses=3))
def test_references_of_general_bandits(instance):
    world, reference = instance
    assert reference.probs.shape == (world.n_contexts, world.n_responses)
    assert np.ptp(reference.log_probs, axis=-1).max() <= 2 + 1e-12


@given(st.data(), bandits())
def test_rankings(data, world):
    ranked = data.draw(rankings(world, max_size=4, scale=1.0))
    n, k = ranked.completions.shape
    assert 1 <= n <= 4 and 2 <= k <= world.n_responses
    assert all(len(set(row)) == k for row in ranked.completions)
    assert np.abs(ranked.scores).max() <= 1 and ranked.completions.max() < world.n_responses
    assert ranked.prompt.max() < world.n_contexts
    assert data.draw(rankings(world, n_candidates=2)).completions.shape[1] == 2


@pytest.mark.parametrize("hard", [False, True])
@given(data=st.data(), world=general_bandits())
def test_revisions(hard, data, world):
    revised = data.draw(revisions(world, max_size=3, hard=hard))
    assert 1 <= len(revised) <= 3
    assert (revised.n_contexts, revised.n_responses) == (world.n_contexts, world.n_responses)
    if hard:
        assert (revised.comparisons.prob == 1).all()
