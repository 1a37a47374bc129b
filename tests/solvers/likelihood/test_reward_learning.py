"""Rewards from segments: gradients, batches, the paper's library, and bad input."""

import numpy as np
import pytest

from prefsim.analysis.returns import scaled_return
from prefsim.data import Segments
from prefsim.losses import regret
from prefsim.solvers import planning
from prefsim.solvers.likelihood.reward_learning import (
    fit_partial_return_reward,
    fit_regret_reward,
    fit_regret_reward_library,
    policy_library,
)
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds import TabularMDP
from prefsim.worlds.delivery import delivery_task, random_delivery_task

TASK = random_delivery_task(3, 4, seed=1, discount=0.99)


@pytest.fixture(scope="module")
def labelled():
    advantage = planning.policy_iteration(TASK.mdp).advantage
    return Segments.sample(TASK.mdp, 300, 3, seed=0, scores=advantage)


def regret_loss(weights, segments, task):
    """The objective from the general planner and the loss of the library."""
    advantage = planning.policy_iteration(task.mdp.with_reward(task.features @ weights)).advantage
    return float(
        segments.weight @ regret(segments.step_values(advantage), segments.mask, prob=segments.prob)
    )


def test_the_first_step_goes_down_the_exact_gradient(labelled):
    """One Adam step moves every weight against the sign of its central difference."""
    start = np.array([-0.8, 1.3, -1.1, 0.4, -0.6, -0.9])
    slope = [
        (
            regret_loss(start + 1e-6 * e, labelled, TASK)
            - regret_loss(start - 1e-6 * e, labelled, TASK)
        )
        / 2e-6
        for e in np.eye(6)
    ]
    found = fit_regret_reward(
        labelled, TASK.mdp, TASK.features, start=start[None], learning_rate=1e-4, iterations=1
    )
    moved = np.abs(slope) > 1e-6
    assert moved.sum() >= 4
    np.testing.assert_allclose(
        (found.weights - start)[moved], -1e-4 * np.sign(slope)[moved], rtol=1e-3
    )
    assert found.history[0, 0] == pytest.approx(regret_loss(start, labelled, TASK), rel=1e-9)
    assert found.value == pytest.approx(regret_loss(found.weights, labelled, TASK), rel=1e-9)


def test_regret_learns_the_optimal_policy(labelled):
    found = fit_regret_reward(labelled, TASK.mdp, TASK.features)
    assert (
        scaled_return(
            TASK.mdp, FeatureProcess(TASK.mdp, TASK.features).greedy_policy(found.weights)
        )
        > 0.95
    )
    assert found.value < regret_loss(TASK.weights, labelled, TASK) + 0.01
    assert found.value == pytest.approx(found.history.min(), abs=0.05)


def test_starts_are_drawn_with_the_seed_that_is_stated(labelled):
    some, options = labelled.take(np.arange(20)), {"iterations": 3, "restarts": 2}
    found, stated, other = (
        fit_regret_reward(some, TASK.mdp, TASK.features, **options, **seed)
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    np.testing.assert_array_equal(found.weights, stated.weights)
    assert not np.array_equal(found.weights, other.weights)


def test_one_call_fits_many_data_sets(labelled):
    rows = np.random.default_rng(1).permutation(300).reshape(3, 100)
    batch = labelled.take(rows)
    options = {"start": np.random.default_rng(2).standard_normal((2, 6)), "iterations": 30}
    together = fit_regret_reward(batch, TASK.mdp, TASK.features, **options)
    convex = fit_partial_return_reward(batch, TASK.features, iterations=50)
    assert together.weights.shape == convex.weights.shape == (3, 6)
    assert together.history.shape == (30, 2, 3)
    for i in range(3):
        alone = fit_regret_reward(labelled.take(rows[i]), TASK.mdp, TASK.features, **options)
        np.testing.assert_allclose(together.weights[i], alone.weights, atol=1e-8)
        assert together.start[i] == alone.start
        np.testing.assert_allclose(
            convex.weights[i],
            fit_partial_return_reward(labelled.take(rows[i]), TASK.features, iterations=50).weights,
            atol=1e-12,
        )


def test_labels_may_differ_over_the_same_segments(labelled):
    labels = np.stack([np.ones(300), np.zeros(300), np.full(300, 0.5)])
    found = fit_partial_return_reward(labelled.relabelled(labels), TASK.features, iterations=40)
    np.testing.assert_allclose(found.weights[1], -found.weights[0], atol=1e-12)
    assert found.value[2] == pytest.approx(np.log(2), abs=1e-6)
    regret = fit_regret_reward(
        labelled.relabelled(labels), TASK.mdp, TASK.features, start=-np.ones((1, 6)), iterations=5
    )
    alone = fit_regret_reward(
        labelled.relabelled(labels[1]),
        TASK.mdp,
        TASK.features,
        start=-np.ones((1, 6)),
        iterations=5,
    )
    np.testing.assert_allclose(regret.weights[1], alone.weights, atol=1e-10)


def test_partial_return_finds_a_reward_that_made_the_labels():
    rng = np.random.default_rng(0)
    mdp = TabularMDP.random(5, 3, discount=0.9, seed=0, deterministic=True)
    features, weights = rng.standard_normal((5, 3, 2)), np.array([1.0, -0.5])
    data = Segments.population(mdp, 2, scores=features @ weights, discount=0.9)
    found = fit_partial_return_reward(data, features, discount=0.9, iterations=3000)
    np.testing.assert_allclose(found.weights, weights, atol=1e-5)


def test_features_of_the_transitions_that_were_seen():
    mdp = TabularMDP.random(4, 2, discount=0.9, seed=3)
    seen = np.random.default_rng(4).standard_normal((4, 2, 4, 2))
    data = Segments.sample(mdp, 2000, 2, seed=5, scores=seen @ np.array([1.0, -1.0]))
    np.testing.assert_allclose(fit_partial_return_reward(data, seen).weights, [1.0, -1.0], atol=0.2)


def test_the_library_is_exact_where_it_holds_the_optimal_policy(labelled):
    library = policy_library(TASK.mdp, TASK.features, 50, seed=0)
    assert 1 < len(library) <= 50
    best = FeatureProcess(TASK.mdp, TASK.features).optimum(TASK.weights).state
    full = np.concatenate([library, best[None]])
    value = full @ TASK.weights
    np.testing.assert_allclose(
        value.max(axis=0), planning.policy_iteration(TASK.mdp).value, atol=1e-9
    )
    found = fit_regret_reward_library(
        labelled, TASK.features, full, start=TASK.weights / 10, iterations=1, learning_rate=1e-9
    )
    # γ = 0.99 outside, sums without discount inside: the two forms of regret agree up to that.
    assert found.history[0, 0] == pytest.approx(
        regret_loss(TASK.weights / 10, labelled, TASK), abs=0.02
    )


def test_the_library_learns_too(labelled):
    library = policy_library(TASK.mdp, TASK.features, 100, seed=1)
    found = fit_regret_reward_library(labelled, TASK.features, library, iterations=400)
    assert found.value < 0.9 * np.log(2)
    assert (
        scaled_return(
            TASK.mdp, FeatureProcess(TASK.mdp, TASK.features).greedy_policy(found.weights)
        )
        > 0.9
    )


def test_the_library_descends_its_own_gradient(labelled):
    library = policy_library(TASK.mdp, TASK.features, 30, seed=2)
    start = np.array([-0.8, 1.3, -1.1, 0.4, -0.6, -0.9])

    def value(w):
        return fit_regret_reward_library(
            labelled, TASK.features, library, temperature=2.0, start=w, iterations=1
        ).history[0, 0]

    slope = np.array(
        [(value(start + 1e-6 * e) - value(start - 1e-6 * e)) / 2e-6 for e in np.eye(6)]
    )
    step = fit_regret_reward_library(
        labelled,
        TASK.features,
        library,
        temperature=2.0,
        start=start,
        iterations=1,
        learning_rate=1e-5,
    )
    moved = np.abs(slope) > 1e-6
    np.testing.assert_allclose(
        (step.weights - start)[moved], -1e-5 * np.sign(slope)[moved], rtol=1e-3
    )


def test_one_comparison_is_enough(labelled):
    found = fit_partial_return_reward(labelled.take([0]), TASK.features, iterations=20)
    assert found.history[0, 0] == pytest.approx(np.log(2)) and found.value < np.log(2)


def test_seeds(labelled):
    options = {"restarts": 2, "iterations": 5}
    one, two, three = (
        fit_regret_reward(labelled, TASK.mdp, TASK.features, seed=seed, **options)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.history, two.history)
    assert (one.history != three.history).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be"),
        ({"iterations": 0}, "iterations must be"),
        ({"restarts": -1}, "restarts must be"),
        ({"segment_discount": 2.0}, "discount must lie in"),
        ({"start": np.zeros((1, 5))}, "start must have trailing shape"),
        ({"features": np.zeros((12, 4, 6, 2))}, "features must have shape"),
        ({"features": np.zeros((11, 4, 6))}, "features must have trailing shape"),
        ({"features": np.full((12, 4, 6), np.nan)}, "features must be finite"),
        ({"mdp": delivery_task().mdp}, "discount must lie in"),
        (
            {"segments": Segments(np.zeros((0, 2, 3), int), np.zeros((0, 2, 2), int))},
            "at least one pair",
        ),
        (
            {"segments": Segments([[[0, 99], [0, 0]]], [[[0], [0]]]), "iterations": 1},
            "states must be",
        ),
    ],
)
def test_bad_input(labelled, options, message):
    arguments = {"segments": labelled, "mdp": TASK.mdp, "features": TASK.features} | options
    with pytest.raises(ValueError, match=message):
        fit_regret_reward(
            arguments.pop("segments"), arguments.pop("mdp"), arguments.pop("features"), **arguments
        )


def test_bad_libraries(labelled):
    library = policy_library(TASK.mdp, TASK.features, 3, seed=0)
    with pytest.raises(ValueError, match="library must have trailing shape"):
        fit_regret_reward_library(labelled, TASK.features, library[:, :5])
    with pytest.raises(ValueError, match="temperature must be"):
        fit_regret_reward_library(labelled, TASK.features, library, temperature=0.0)
    with pytest.raises(ValueError, match="one data set"):
        fit_regret_reward_library(labelled.take([[0], [1]]), TASK.features, library)
    with pytest.raises(ValueError, match="n must be an integer >= 1"):
        policy_library(TASK.mdp, TASK.features, 0, seed=0)
