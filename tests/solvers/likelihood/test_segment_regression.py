"""Adam keeps the weights with the lowest loss that it met, of all starts."""

import numpy as np

from prefsim.solvers.likelihood.segment_regression import lowest_by_adam

CENTRES = np.array([[0.05, -0.3], [2.0, 1.0]])  # of two problems


def test_the_lowest_loss_met_is_kept_and_not_the_last():
    met = []

    def problem(weights):
        """Two kinks, over which steps of .3 go back and forth."""
        met.append((weights, np.abs(weights - CENTRES).sum(-1)))
        return met[-1][1], np.sign(weights - CENTRES)

    start = np.random.default_rng(0).normal(size=(3, 2, 2))
    found = lowest_by_adam(problem, start, learning_rate=0.3, iterations=50)
    losses = np.array([loss for _, loss in met])
    assert losses.shape == (51, 3, 2), "the weights after the last step count too"
    np.testing.assert_array_equal(found.history, losses[:-1])
    np.testing.assert_array_equal(found.value, losses.min(axis=(0, 1)))
    assert (found.value < losses[-1].min(axis=0)).any()
    np.testing.assert_array_equal(np.abs(found.weights - CENTRES).sum(-1), found.value)
    np.testing.assert_array_equal(losses.min(axis=0)[found.start, [0, 1]], found.value)


def test_the_first_step_has_the_length_of_the_rate():
    start = np.array([[[1.0, -2.0]]])
    # A loss that rises away from the start keeps it; one that falls keeps the step.
    slope = np.array([3.0, -1e-3])
    found = lowest_by_adam(
        lambda weights: ((weights * slope).sum(-1), np.broadcast_to(slope, weights.shape)),
        start,
        learning_rate=0.1,
        iterations=1,
    )
    np.testing.assert_allclose(found.weights, start[0] - 0.1 * np.sign(slope), rtol=1e-5)
    found = lowest_by_adam(
        lambda weights: (-(weights * slope).sum(-1), np.broadcast_to(slope, weights.shape)),
        start,
        learning_rate=0.1,
        iterations=1,
    )
    np.testing.assert_array_equal(found.weights, start[0])
