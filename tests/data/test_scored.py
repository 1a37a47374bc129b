"""Scored pairs: the population, samples, batches, and what the container refuses."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.data import ScoredPairs
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective, optimal_policy
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit.random(2, 3, seed=0)
POLICY, OTHER = (TabularPolicy.random(2, 3, seed=seed) for seed in (1, 2))


def test_the_population():
    data = ScoredPairs.population(WORLD, POLICY, against=OTHER)
    assert len(data) == 18
    assert data.weight.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(data.chosen_score, WORLD.reward[data.prompt, data.chosen])
    np.testing.assert_allclose(data.rejected_score, WORLD.reward[data.prompt, data.rejected])
    np.testing.assert_allclose(data.weight, 0.5 * np.exp(data.old_chosen + data.old_rejected))
    np.testing.assert_allclose(data.old_rejected, OTHER.log_probs[data.prompt, data.rejected])


def test_samples_follow_the_population():
    data = ScoredPairs.sample(WORLD, 40_000, seed=3, policy=POLICY, against=OTHER)
    exact = ScoredPairs.population(WORLD, POLICY, against=OTHER)
    counts = np.bincount(9 * data.prompt + 3 * data.chosen + data.rejected, minlength=18) / len(
        data
    )
    assert (np.abs(counts - exact.weight) < 5 * np.sqrt(exact.weight / len(data))).all()
    np.testing.assert_array_equal(
        data.chosen, ScoredPairs.sample(WORLD, 40_000, seed=3, policy=POLICY, against=OTHER).chosen
    )


def test_a_batch_of_worlds_is_one_fit():
    world = ContextualBandit.random(2, 3, seed=4, batch_shape=(5,))
    data = ScoredPairs.population(world, POLICY)
    found = fit(
        POLICY, functools.partial(losses.copg, beta=0.4), data, reference=POLICY
    ).policy.probs
    np.testing.assert_allclose(
        found, optimal_policy(world.reward, POLICY.probs, beta=0.4), atol=1e-10
    )


@pytest.mark.parametrize("loss", [losses.copg, losses.p3o])
def test_responses_that_are_never_drawn_do_not_count(loss):
    never = TabularPolicy.from_probs([[0.0, 0.4, 0.6], [0.5, 0.5, 0.0]])
    value = objective(POLICY, loss, ScoredPairs.population(WORLD, never), reference=POLICY)
    assert np.isfinite(value)
    without = ScoredPairs.population(WORLD, never).without_behaviour()
    assert without.old_chosen is None
    assert np.isfinite(objective(POLICY, loss, without, reference=POLICY))


def test_labels_of_the_scores():
    data = ScoredPairs.population(WORLD, POLICY)
    labelled = data.relabelled(0.5 + 0.5 * np.sign(data.chosen_score - data.rejected_score))
    assert set(labelled.prob) == {0.0, 0.5, 1.0}
    np.testing.assert_array_equal(labelled.weight, data.weight)


SCORES = {"chosen_score": [1.0], "rejected_score": [0.0]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ScoredPairs([0], [0], [1], chosen_score=[np.nan], rejected_score=[0.0]),
            "chosen_score must be finite, got nan at index 0",
        ),
        (
            lambda: ScoredPairs([0], [0], [1], chosen_score=[1.0, 2.0], rejected_score=[0.0]),
            "chosen_score must have n = 1 entries",
        ),
        (
            lambda: ScoredPairs([0], [0], [1], **SCORES, old_chosen=[-1.0]),
            "columns of both responses or of none are needed, got old_chosen alone",
        ),
        (
            lambda: ScoredPairs([0], [0], [1], **SCORES, old_chosen=[0.5], old_rejected=[-1.0]),
            "old_chosen must hold log-probabilities <= 0",
        ),
        (
            lambda: ScoredPairs([0], [0], [1], **SCORES, old_chosen=[-1.0], old_rejected=[np.nan]),
            "old_rejected must be finite",
        ),
        (lambda: ScoredPairs([-1], [0], [1], **SCORES), "prompt must be >= 0"),
        (
            lambda: ScoredPairs.population(
                ContextualBandit(preference=np.full((1, 2, 2), 0.5)), TabularPolicy.uniform(1, 2)
            ),
            "a reward",
        ),
        (lambda: ScoredPairs.sample(WORLD, -1, seed=0, policy=POLICY), "n must be an integer >= 0"),
        (
            lambda: ScoredPairs.sample(
                ContextualBandit.random(2, 3, seed=0, batch_shape=(2,)), 3, seed=0, policy=POLICY
            ),
            "one world",
        ),
        (
            lambda: objective(POLICY, losses.kto, ScoredPairs.population(WORLD, POLICY)),
            "feed losses of PairLogps",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
