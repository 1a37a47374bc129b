"""Comparisons, feedback and rankings: exact populations, seeded samples, soft labels, bad input."""

import functools

import numpy as np
import pytest
from scipy.special import expit

from prefsim import losses
from prefsim.data import Comparisons, Feedback, Rankings
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective
from prefsim.worlds import ContextualBandit

WORLD = ContextualBandit.random(3, 4, seed=0)
REFERENCE = TabularPolicy.random(3, 4, seed=1)
POLICY = TabularPolicy.random(3, 4, seed=2)


def test_population_enumerates_every_triple_with_its_weight():
    data = Comparisons.population(WORLD, REFERENCE)
    assert len(data) == 3 * 4 * 4
    np.testing.assert_allclose(data.weight.sum(), 1.0)
    row = np.flatnonzero((data.prompt == 1) & (data.chosen == 2) & (data.rejected == 3))[0]
    ref = REFERENCE.probs
    np.testing.assert_allclose(data.weight[row], ref[1, 2] * ref[1, 3] / 3)
    np.testing.assert_allclose(data.prob[row], expit(WORLD.reward[1, 2] - WORLD.reward[1, 3]))


def test_the_policy_is_uniform_unless_given_as_in_a_sample():
    world = ContextualBandit.random(2, 3, seed=0)
    uniform, other = TabularPolicy.uniform(2, 3), TabularPolicy.random(2, 3, seed=1)
    for options in ({}, {"against": other}):
        found = Comparisons.population(world, **options)
        expected = Comparisons.population(world, uniform, **options)
        np.testing.assert_array_equal(found.weight, expected.weight)
    first, second = (Comparisons.sample(world, 9, seed=0, policy=p) for p in (None, uniform))
    np.testing.assert_array_equal(first.chosen, second.chosen)


def test_distinct_population_conditions_on_different_responses():
    data = Comparisons.population(WORLD, REFERENCE, distinct=True)
    assert len(data) == 36 and (data.chosen != data.rejected).all()
    np.testing.assert_allclose(data.weight.sum(), 1.0)


def test_objective_of_soft_labels_is_the_expectation_over_hard_ones():
    data = Comparisons.population(WORLD, REFERENCE)
    loss = functools.partial(losses.dpo, beta=0.3)
    a = POLICY.log_probs - REFERENCE.log_probs
    by_hand = 0.0
    for x, w, lost, p, weight in zip(
        data.prompt, data.chosen, data.rejected, data.prob, data.weight, strict=True
    ):
        z = 0.3 * (a[x, w] - a[x, lost])
        by_hand += weight * (p * np.logaddexp(0, -z) + (1 - p) * np.logaddexp(0, z))
    np.testing.assert_allclose(
        objective(POLICY, loss, data, reference=REFERENCE), by_hand, rtol=1e-13
    )


def test_no_reference_means_log_probabilities_of_zero():
    data = Comparisons([0], [1], [2])
    logp = POLICY.log_probs[0]
    expected = np.logaddexp(0, -0.1 * (logp[1] - logp[2]))
    np.testing.assert_allclose(objective(POLICY, losses.dpo, data, reference=None), expected)


def test_sample_converges_to_the_population():
    n = 200_000
    data = Comparisons.sample(WORLD, n, seed=3, policy=REFERENCE, distinct=False)
    exact = Comparisons.population(WORLD, REFERENCE)
    counts = np.zeros((3, 4, 4))
    np.add.at(counts, (data.prompt, data.chosen, data.rejected), 1 / n)
    # P(x, winner, loser): both orders of drawing the pair.
    table, prob = exact.weight.reshape(3, 4, 4), exact.prob.reshape(3, 4, 4)
    expected = table * prob + np.swapaxes(table, 1, 2) * (1 - np.swapaxes(prob, 1, 2))
    # five standard deviations of a binomial share, in each of 48 cells
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(0.25 / n))


def test_zero_weight_rows_outside_the_support_do_not_poison():
    reference = TabularPolicy.from_probs([[0.5, 0.5, 0.0]])
    world = ContextualBandit(reward=[[0.0, 1.0, 2.0]])
    data = Comparisons.population(world, reference)
    assert np.isfinite(objective(reference, losses.dpo, data, reference=reference))


def test_to_feedback_keeps_the_labels():
    feedback = Comparisons([0, 1], [1, 2], [2, 0], prob=[0.7, 1.0]).to_feedback()
    np.testing.assert_array_equal(feedback.prompt, [0, 1, 0, 1])
    np.testing.assert_array_equal(feedback.completion, [1, 2, 2, 0])
    np.testing.assert_allclose(feedback.label, [0.7, 1.0, 0.3, 0.0])


def test_feedback_population_and_soft_labels():
    desirable = np.random.default_rng(0).random((3, 4))
    data = Feedback.population(desirable, REFERENCE)
    np.testing.assert_allclose(data.weight.sum(), 1.0)
    loss = functools.partial(losses.kto, beta=0.5, reference_point=0.2)
    gain = 0.5 * (POLICY.log_probs - REFERENCE.log_probs - 0.2)
    by_hand = (
        REFERENCE.probs / 3 * (desirable * expit(-gain) + (1 - desirable) * expit(gain))
    ).sum()
    np.testing.assert_allclose(
        objective(POLICY, loss, data, reference=REFERENCE), by_hand, rtol=1e-13
    )
    drawn = Feedback.sample(desirable, 50, seed=0, policy=REFERENCE)
    assert len(drawn) == 50 and set(np.unique(drawn.label)) <= {0.0, 1.0}


def test_rankings_population_and_plackett_luce_samples():
    data = Rankings.population(WORLD)
    assert data.completions.shape == (3, 4)
    np.testing.assert_allclose(data.scores, WORLD.reward)
    world = ContextualBandit(reward=[[0.0, 1.0, 2.0]])
    drawn = Rankings.sample(world, 40_000, 3, seed=0)
    first = np.bincount(
        drawn.completions[np.arange(len(drawn)), drawn.scores.argmax(axis=1)], minlength=3
    ) / len(drawn)
    np.testing.assert_allclose(
        first, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=5 * 0.5 / np.sqrt(40_000)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Comparisons([0], [1], [2, 3]), "rejected must have n = 1 entries"),
        (lambda: Comparisons([0.5], [1], [2]), "prompt must hold integers"),
        (lambda: Comparisons([0], [-1], [2]), "chosen must be >= 0, got -1 at index 0"),
        (lambda: Comparisons([0], [1], [2], prob=[1.2]), r"prob must lie in \[0, 1\], got 1.2"),
        (lambda: Comparisons([0], [1], [2], prob=[np.nan]), "prob must be finite"),
        (lambda: Comparisons([0], [1], [2], weight=[-1.0]), "weight must be >= 0"),
        (lambda: Comparisons(0, 1, 2), "got a scalar"),
        (lambda: Comparisons([[0], [1, 2]], [1], [2]), "rectangular"),
        (
            lambda: Comparisons.population(WORLD, TabularPolicy.uniform(2, 4)),
            "the policy has shape",
        ),
        (lambda: Comparisons.sample(WORLD, -1, seed=0), "n must be an integer >= 0"),
        (
            lambda: Comparisons.sample(ContextualBandit(reward=[[1.0]]), 3, seed=0, distinct=True),
            "at least two responses",
        ),
        (
            lambda: Comparisons.sample(
                ContextualBandit.random(2, 2, seed=0, batch_shape=(3,)), 1, seed=0
            ),
            "one world",
        ),
        (lambda: Feedback([0], [1], [2.0]), r"label must lie in \[0, 1\]"),
        (lambda: Feedback([0], [1, 2], [1.0]), "completion must have n = 1"),
        (lambda: Rankings([0], [[1, 2]], [[1.0]]), "scores must have the shape"),
        (lambda: Rankings([0, 1], [[1, 2]], [[1.0, 2.0]]), "prompt must be"),
        (lambda: Rankings([[0]], [[1, 2]], [[1.0, 2.0]]), r"prompt must be \(n,\)"),
        (lambda: Rankings([0], [1], [1.0]), r"completions \(n, K\), got \(1,\) and \(1,\)"),
        *(
            (lambda draw=draw, world=world: draw(world), "rankings needs one world with a reward")
            for draw in (Rankings.population, lambda world: Rankings.sample(world, 3, 2, seed=0))
            for world in (
                ContextualBandit.random(2, 2, seed=0, batch_shape=(3,)),
                ContextualBandit(preference=np.full((2, 3, 3), 0.5)),
            )
        ),
        (lambda: Rankings.sample(WORLD, 3, 5, seed=0), r"k must be an integer in \[1, 4\]"),
        (lambda: objective(POLICY, losses.dpo, Comparisons([], [], [])), "at least one row, got 0"),
        (
            lambda: objective(POLICY, losses.kto, Comparisons([0], [1], [2])),
            "Comparisons feed losses of PairLogps",
        ),
        (
            lambda: objective(POLICY, losses.dpo, Feedback([0], [1], [1.0])),
            "Feedback feeds losses of UnpairedLogps",
        ),
        (
            lambda: objective(POLICY, losses.log_ratios.__get__(1), Comparisons([0], [1], [2])),
            "annotated with one of",
        ),
        (
            lambda: objective(POLICY, lambda x: x, Comparisons([0], [1], [2])),
            "annotated with one of",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_distinct_responses_are_needed_only_where_a_prompt_is_asked():
    world = ContextualBandit(WORLD.reward, context_probs=[1.0] + [0.0] * (WORLD.n_contexts - 1))
    probs = np.full(WORLD.reward.shape, 1.0 / WORLD.n_responses)
    probs[1] = np.eye(WORLD.n_responses)[0]
    policy = TabularPolicy.from_probs(probs)
    data = Comparisons.population(world, policy, distinct=True)
    assert data.weight.sum() == pytest.approx(1.0) and (data.weight[data.prompt > 0] == 0).all()
    everywhere = ContextualBandit(WORLD.reward)
    with pytest.raises(ValueError, match="two different responses of positive probability"):
        Comparisons.population(everywhere, policy, distinct=True)
