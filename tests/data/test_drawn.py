"""Data drawn from a batch of policies: what they mean on average, and what is refused."""

import numpy as np
import pytest

from prefsim.data import Comparisons
from prefsim.data.drawn import judged_triples, labelled_pairs
from prefsim.policies import TabularPolicy
from prefsim.worlds import ContextualBandit, PreferenceGame

PREFERENCE = PreferenceGame.random(4, seed=0, batch_shape=(2,)).preference
WORLD = ContextualBandit(preference=PREFERENCE, context_probs=[0.25, 0.75])
POLICY = TabularPolicy.random(2, 4, seed=0, batch_shape=(3,))


@pytest.mark.parametrize("distinct", [False, True])
def test_counts_are_outcomes_of_the_population(distinct):
    n = 200_000
    data = labelled_pairs(WORLD, POLICY, n, seed=0, distinct=distinct)
    rows = Comparisons.population(WORLD, POLICY, distinct=distinct)
    chance = 2 * rows.weight * rows.prob
    np.testing.assert_allclose(data.weight.sum(axis=-1), 1.0)
    assert np.all(np.abs(data.weight - chance) < 5 * np.sqrt(chance / n) + 1e-6)
    assert np.all(data.prob == 1)


def test_sizes_may_differ_within_the_batch():
    sizes = np.array([10, 100, 1000])
    data = labelled_pairs(WORLD, POLICY, sizes, seed=0)
    counts = data.weight * sizes[:, None]
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)
    np.testing.assert_array_equal(np.round(counts).sum(axis=-1), sizes)


def test_old_log_probs_are_those_of_each_policy():
    data = labelled_pairs(WORLD, POLICY, 10, seed=0)
    np.testing.assert_allclose(data.old_chosen, POLICY.log_probs[:, data.prompt, data.chosen])
    np.testing.assert_allclose(
        data.chosen_score,
        np.einsum("xij,bxj->bxi", PREFERENCE, POLICY.probs)[:, data.prompt, data.chosen],
    )


def test_triples_are_judged_by_one_draw_of_the_opponent():
    pure = TabularPolicy.from_probs(np.eye(4)[[[0, 1], [2, 3], [3, 0]]])
    data = judged_triples(WORLD, pure, 50, seed=0)
    against = np.array([[0, 1], [2, 3], [3, 0]])[:, data.prompt]
    np.testing.assert_array_equal(data.chosen_score, PREFERENCE[data.prompt, data.chosen, against])
    np.testing.assert_array_equal(
        data.rejected_score, PREFERENCE[data.prompt, data.rejected, against]
    )


def test_triples_are_drawn_as_told():
    n = 100_000
    sampler = TabularPolicy.random(2, 4, seed=1)
    data = judged_triples(WORLD, POLICY, n, seed=0, sampler=sampler)
    assert data.chosen.shape == (n,) and data.chosen_score.shape == (3, n)
    wins = np.einsum("xij,bxj->bxi", PREFERENCE, POLICY.probs)
    for x, share in enumerate((0.25, 0.75)):
        here = data.prompt == x
        assert here.mean() == pytest.approx(share, abs=0.01)
        for y in range(4):
            drawn = here & (data.rejected == y)
            assert drawn.sum() / here.sum() == pytest.approx(sampler.probs[x, y], abs=0.015)
            np.testing.assert_allclose(
                data.rejected_score[:, drawn].mean(axis=-1), wins[:, x, y], atol=0.03
            )


def test_every_problem_of_a_batch_has_its_own_pairs():
    data = judged_triples(WORLD, POLICY, 100, seed=0)
    assert data.chosen.shape == (3, 100)
    assert (data.chosen[0] != data.chosen[1]).any() and (data.chosen != data.rejected).any()


SMALL = TabularPolicy.uniform(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labelled_pairs(WORLD, POLICY, 0, seed=0), "n must be an integer >= 1, got 0"),
        (
            lambda: labelled_pairs(WORLD, POLICY, np.array([5, 0, 5]), seed=0),
            "n must be an integer >= 1, got 0",
        ),
        (lambda: labelled_pairs(WORLD, POLICY, 2.5, seed=0), "n must be an integer >= 1, got 2.5"),
        (
            lambda: labelled_pairs(WORLD, SMALL, 5, seed=0),
            r"the policy has shape \(2, 3\), but the world has 2 contexts and 4 responses",
        ),
        (lambda: judged_triples(WORLD, POLICY, 0, seed=0), "n must be an integer >= 1, got 0"),
        (
            lambda: judged_triples(WORLD, SMALL, 5, seed=0),
            r"the policy has shape \(2, 3\), but the world has 2 contexts and 4 responses",
        ),
        (
            lambda: judged_triples(WORLD, POLICY, 5, seed=0, sampler=SMALL),
            r"the policy has shape \(2, 3\)",
        ),
        (
            lambda: judged_triples(
                ContextualBandit(preference=PREFERENCE[:, None]), SMALL, 5, seed=0
            ),
            r"sampling needs one world, got a batch of shape \(2,\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
