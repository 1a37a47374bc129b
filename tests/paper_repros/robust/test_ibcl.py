"""arXiv:2305.14782: a grid, Gaussians, and digits in sequence."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from paper_repros.robust.ibcl.digit_tasks import (
    CREDAL,
    LAST,
    METHODS,
    MODELS,
    accuracies,
    digit_tasks,
    drawn_models,
    learn,
    measure,
)
from paper_repros.robust.ibcl.exact_tasks import (
    POINTS,
    VERTICES,
    WANTED,
    Likelihood,
    Task,
    all_at_once,
    central_points,
    draw_tasks,
    drawn_set,
    grid_world,
    joint_mass,
    line,
    losses_of_two_tasks,
    lost_of,
    mean_root,
    normal_priors,
    posteriors,
    together,
)
from prefsim.data.labelled_sets import labelled_set


def test_a_mean_of_parameters_is_no_trade_off():
    points = np.array([[0.5, 0.5], [0.8, 0.2]])
    np.testing.assert_allclose(
        losses_of_two_tasks(points, 4.0), [[0.625, 0.625], [0.4, 0.4]], rtol=1e-14
    )


def test_likelihoods_by_hand_and_their_number():
    likelihood = Likelihood()
    found = likelihood(Task(np.array([1.0, -2.0]), np.array([1.0, 0.0])))
    expected = -np.logaddexp(0, -POINTS) - np.logaddexp(0, -2 * POINTS)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert likelihood.evaluations == 1


def test_tasks_follow_their_parameters():
    low, high = draw_tasks(0, truths=(-3.0, 3.0), n=2000)
    assert np.mean(low.label == (low.inputs < 0)) > 0.8
    assert np.mean(high.label == (high.inputs > 0)) > 0.8
    assert together([low, high]).label.shape == (4000,)


def test_priors_and_preferences():
    probs = np.exp(normal_priors((0.5, 2.0)))
    np.testing.assert_allclose(probs.sum(axis=-1), 1.0, rtol=1e-13)
    assert probs[0] @ POINTS**2 == pytest.approx(0.25, abs=1e-6)
    assert WANTED.shape == (66, 3)
    np.testing.assert_array_equal(WANTED[VERTICES], np.eye(3))
    assert len(drawn_set(0).extremes) == 9


def test_points_between_equal_tails():
    np.testing.assert_array_equal(
        central_points(np.array([0.04, 0.3, 0.3, 0.3, 0.06]), 0.9), [False, *[True] * 4]
    )


def test_a_world_on_the_grid():
    world = grid_world(3)
    assert world.evaluations == (3, 3)
    assert world.scores.shape == (66, 3)
    lost = lost_of([world])
    assert lost.shape == (1, 3, 3)
    assert (lost > 0).all()
    # The first task's posterior is that of its data alone.
    assert lost[0, 0, 0] == pytest.approx(world.lost_alone[0], abs=1e-12)


def test_means_of_drifting_tasks():
    # A flat prior, nearly: the running mean of the data.
    data = np.array([-1.0, 0.0, 1.0])[:, None, None] + np.zeros((5, 1))
    for found in (posteriors(data, (1e4,)), all_at_once(data, (1e4,))):
        np.testing.assert_allclose(found[:, 0, 0, 0], [-1.0, -0.5, 0.0], atol=1e-6)
        np.testing.assert_allclose(found[:, 0, 1, 0] ** -2, [5.0, 10.0, 15.0], rtol=1e-6)


def test_turned_gaussians_have_another_barycentre():
    deviation, weight = np.array([[1.0, 0.2], [0.3, 2.0]]), np.array([0.4, 0.6])
    left, root = mean_root(deviation, weight, 0.0)
    np.testing.assert_allclose(left, 0.0, atol=1e-12)
    np.testing.assert_allclose(root, np.diag(weight @ deviation), atol=1e-12)
    assert np.abs(mean_root(deviation, weight, 0.5)[0]).max() > 0.01


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_mass_of_a_square(correlation):
    law = multivariate_normal(cov=[[1.0, correlation], [correlation, 1.0]])
    expected = law.cdf([1.2, 1.2], lower_limit=[-1.2, -1.2])
    assert joint_mass(1.2, correlation) == pytest.approx(expected, abs=1e-6)


def test_a_line():
    found = line(0)
    np.testing.assert_allclose(found.missed, 0.0, atol=1e-12)
    assert found.shorter > -1e-12
    assert abs(found.wider) < 1e-12
    assert found.sequence < 1e-12
    assert found.away[0] <= 0.3 < found.away[1]


DIGITS = labelled_set("digits")
needs_digits = pytest.mark.skipif(DIGITS is None, reason="scikit-learn is not installed")


@needs_digits
def test_digits_come_two_at_a_time():
    digits = digit_tasks(DIGITS, 8, seed=0)
    assert sum(each.size for each in digits.label) == 900
    assert sum(each.size for each in digits.test_label) == 897
    assert {each.shape[1] for each in digits.inputs} == {9}
    assert all(set(each) == {0.0, 1.0} for each in digits.label)
    # A model that says odd to all is right where the digit is odd.
    always = np.append(np.zeros(8), 1.0)
    expected = [each.mean() for each in digits.test_label]
    np.testing.assert_allclose(accuracies(digits, always), expected)


@needs_digits
def test_stand_ins_are_the_next_priors():
    digits = digit_tasks(DIGITS, 8, seed=0)
    assert len(learn(digits, 0.0).extremes) == 15
    all_alike = learn(digits, 100.0)
    assert len(all_alike.extremes) == 1
    np.testing.assert_array_equal(all_alike.stand_in, 0)


def test_one_number_moves_all_weights():
    gaussians = np.stack([np.zeros((2, 3)), np.ones((2, 3))], axis=1)
    rng = np.random.default_rng(0)
    found = drawn_models(gaussians, 0.5, rng)
    assert found.shape == (MODELS, 2, 3)
    np.testing.assert_array_equal(np.ptp(found, axis=-1), 0.0)
    assert np.ptp(drawn_models(gaussians, 0.5, rng, together=False), axis=-1).min() > 0
    assert np.abs(found).max() <= 0.6745


@needs_digits
def test_a_split_of_the_digits():
    found = measure(DIGITS, 20, 0)
    assert found.preferred.shape == found.average.shape == (len(METHODS),)
    assert 0.5 < found.preferred[METHODS.index(CREDAL)] < 1
    assert found.later < found.learned
    assert found.average[METHODS.index(LAST)] < found.learned
    assert found.left < 1e-9
    assert (np.diff(found.kept) <= 0).all()
