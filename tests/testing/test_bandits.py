"""The public strategies keep what they promise."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from prefsim.divergences import DIVERGENCES
from prefsim.testing.bandits import (
    alphas,
    bandits,
    bandits_with_reference,
    betas,
    divergences,
    flip_rates,
    margins,
    pair_logps,
    policies,
)

FEW = settings(
    max_examples=100, database=None, derandomize=True, phases=(Phase.generate, Phase.shrink)
)


@given(bandits(max_contexts=2, max_responses=4, scale=1.5))
def test_bandits_have_the_promised_size_and_rewards(world):
    assert 1 <= world.n_contexts <= 2
    assert 2 <= world.n_responses <= 4
    assert np.abs(world.reward).max() <= 1.5
    assert world.context_probs.min() > 0


@given(bandits(n_contexts=3, n_responses=5))
def test_sizes_can_be_fixed(world):
    assert world.reward.shape == (3, 5)


@given(bandits_with_reference(spread=1.0))
def test_references_fit_the_world_and_have_full_support(instance):
    world, reference = instance
    assert reference.probs.shape == world.reward.shape
    assert reference.probs.min() > 0
    assert np.ptp(reference.log_probs, axis=-1).max() <= 2.0 + 1e-12


@given(policies(2, 3), betas(0.1, 2.0), flip_rates(), alphas(), divergences(), margins(4.0, size=3))
def test_scalars_and_tables_stay_in_range(policy, beta, rate, alpha, divergence, margin):
    np.testing.assert_allclose(policy.probs.sum(axis=-1), 1)
    assert 0.1 <= beta <= 2.0
    assert 0 <= rate < 0.5
    assert 0 < alpha < 1
    assert divergence in DIVERGENCES
    assert margin.shape == (3,)
    assert np.abs(margin).max() <= 4


@given(pair_logps(max_size=3, lowest=-5.0, lengths=True), pair_logps())
def test_pairs_hold_log_probabilities(with_lengths, plain):
    for name in ("chosen", "rejected", "ref_chosen", "ref_rejected"):
        log_probs = getattr(with_lengths, name)
        assert log_probs.shape == with_lengths.chosen.shape
        assert log_probs.max() <= 0
        assert log_probs.min() >= -5
    assert with_lengths.chosen_length.min() >= 1
    assert plain.chosen_length is None


def test_the_plainest_instance_is_the_smallest():
    world, reference = find(bandits_with_reference(), lambda instance: True, settings=FEW)
    assert world.reward.shape == (1, 2)
    np.testing.assert_array_equal(world.reward, 0)
    np.testing.assert_allclose(reference.probs, 0.5)


def test_betas_cover_the_orders_of_magnitude():
    assert find(betas(0.01, 10.0), lambda beta: beta < 0.05, settings=FEW) < 0.05
    assert find(betas(0.01, 10.0), lambda beta: beta > 5, settings=FEW) > 5


@pytest.mark.parametrize("size", [1, 4])
def test_margins_take_a_size_or_a_strategy_of_sizes(size):
    assert find(margins(size=size), lambda margin: True, settings=FEW).shape == (size,)
    assert find(margins(size=st.just(size)), lambda margin: True, settings=FEW).shape == (size,)
