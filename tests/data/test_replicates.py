"""Replicated data sets: the law of the single sample, reproducible, and usable in one fit."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.data.replicates import replicated_comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.games.pessimism import win_weights
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit(reward=[[1.0, 0.0, -0.5], [0.0, 2.0, 0.3]], context_probs=[0.3, 0.7])
POLICY = TabularPolicy.from_probs([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])


@pytest.mark.parametrize("distinct", [True, False])
def test_mean_and_variance_are_those_of_the_population(distinct):
    data = replicated_comparisons(WORLD, 50, 4000, seed=0, policy=POLICY, distinct=distinct)
    population = win_weights(Comparisons.population(WORLD, POLICY, distinct=distinct), 2, 3)
    seen = win_weights(data, 2, 3)
    error = seen.mean(axis=0) - population
    assert (np.abs(error) <= 5 * np.sqrt(population / (50 * 4000)) + 1e-12).all()
    # Counts of a multinomial: the variance of each share is p (1 − p) / n.
    np.testing.assert_allclose(
        seen.var(axis=0), population * (1 - population) / 50, rtol=0.15, atol=1e-6
    )


def test_weights_are_counts():
    data = replicated_comparisons(WORLD, 7, 5, seed=1, policy=POLICY, distinct=True)
    assert data.weight.shape == (5, len(data))
    np.testing.assert_allclose(data.weight.sum(axis=-1), 1.0)
    np.testing.assert_allclose(data.weight * 7, np.round(data.weight * 7), atol=1e-12)
    assert (data.chosen != data.rejected).all()
    np.testing.assert_array_equal(
        data.weight,
        replicated_comparisons(WORLD, 7, 5, seed=1, policy=POLICY, distinct=True).weight,
    )


def test_one_fit_for_all():
    data = replicated_comparisons(WORLD, 2000, 3, seed=2, policy=POLICY)
    reference = TabularPolicy.uniform(2, 3)
    whole = fit(reference, functools.partial(losses.dpo, beta=0.5), data, reference=reference)
    assert whole.policy.probs.shape == (3, 2, 3)
    one = Comparisons(data.prompt, data.chosen, data.rejected, weight=data.weight[1])
    single = fit(reference, functools.partial(losses.dpo, beta=0.5), one, reference=reference)
    np.testing.assert_allclose(whole.policy.probs[1], single.policy.probs, atol=1e-9)


def test_bad_inputs():
    with pytest.raises(ValueError, match="n must be an integer >= 1, got 0"):
        replicated_comparisons(WORLD, 0, 5, seed=0, policy=POLICY)
    with pytest.raises(ValueError, match=r"replicates must be an integer >= 1, got 1\.5"):
        replicated_comparisons(WORLD, 5, 1.5, seed=0, policy=POLICY)
    with pytest.raises(ValueError, match="sampling needs one world"):
        replicated_comparisons(
            ContextualBandit.random(1, 2, seed=0, batch_shape=(2,)),
            5,
            5,
            seed=0,
            policy=TabularPolicy.uniform(1, 2),
        )


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 3), (1, 3), (2, 5), (2, 2)])
def test_samples_need_one_policy_of_the_world(shape):
    policy = TabularPolicy(np.zeros(shape))
    with pytest.raises(ValueError, match="one policy over the world's 2 contexts and 3 responses"):
        Comparisons.sample(WORLD, 20, seed=0, policy=policy)
    with pytest.raises(ValueError, match=r"one policy, got a batch|but the world has 2 contexts"):
        replicated_comparisons(WORLD, 20, 3, seed=0, policy=policy)
