"""Linear reward models: minimisers of their loss, treated labels, many at once."""

import numpy as np
import pytest

from prefsim.data.strength import TREATMENTS, treat_labels
from prefsim.gradients import gradient
from prefsim.numerics import log_sigmoid, sigmoid
from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

RNG = np.random.default_rng(0)
PAIRS, STRENGTH = RNG.standard_normal((2, 30, 3)), RNG.standard_normal((2, 30))


def test_one_feature_is_the_log_odds():
    pairs = np.array([[1.0]] * 7 + [[-1.0]] * 3)
    found = fit_linear_reward(pairs, ridge=1e-13)
    assert found.weights[0] == pytest.approx(np.log(7 / 3), abs=1e-9)
    assert found.grad_norm <= 1e-9
    weighted = fit_linear_reward([[1.0], [-1.0]], ridge=1e-13, weight=[7.0, 3.0])
    assert weighted.weights[0] == pytest.approx(np.log(7 / 3), abs=1e-9)


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_the_gradient_of_the_loss_as_written_vanishes(treatment):
    labels = treat_labels(STRENGTH, treatment, label_smoothing=0.3)
    found = fit_linear_reward(PAIRS, ridge=0.05, treatment=labels)
    sign = np.where(labels.flipped, -1.0, 1.0)
    z = sign * np.einsum("bnd,bd->bn", PAIRS, found.weights) - labels.margin
    slope = -(1 - labels.label_smoothing) * sigmoid(-z) + labels.label_smoothing * sigmoid(z)
    total = np.einsum("bn,bnd->bd", sign * slope, PAIRS) / 30 + 2 * 0.05 * found.weights
    np.testing.assert_allclose(total, 0, atol=1e-9)


def test_models_of_one_table_are_those_of_each_weight():
    weight = RNG.integers(0, 3, (4, 30))
    together = fit_linear_reward(PAIRS[0], weight=weight)
    assert together.weights.shape == (4, 3)
    assert together.value.shape == together.grad_norm.shape == (4,)
    for i in range(4):
        alone = fit_linear_reward(np.repeat(PAIRS[0], weight[i], axis=0))
        np.testing.assert_allclose(together.weights[i], alone.weights, atol=1e-9)
    np.testing.assert_allclose(
        fit_linear_reward(PAIRS).weights[1], fit_linear_reward(PAIRS[1]).weights, atol=1e-9
    )


def test_many_features_have_the_same_minimum():
    wide = RNG.standard_normal((20, 401))
    found = fit_linear_reward(wide, ridge=0.1)

    def objective(theta):
        return -log_sigmoid(theta @ theta.new_tensor(wide).T).mean() + 0.1 * (theta**2).sum()

    np.testing.assert_allclose(gradient(objective, found.weights), 0, atol=1e-8)


def test_one_that_does_not_get_there_says_so():
    with pytest.warns(ConvergenceWarning, match="more than the tolerance"):
        fit_linear_reward(PAIRS, ridge=1e-6, max_iterations=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": 0.0}, "ridge must"),
        ({"weight": np.zeros(30)}, "more than 0 for some pair"),
        ({"weight": -np.ones(30)}, "weight must be >= 0"),
        ({"weight": np.ones(29)}, "weight"),
        ({"treatment": treat_labels(np.ones(29), "flip")}, "flipped"),
        ({"differences": np.zeros((0, 3))}, "a pair and a feature"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        fit_linear_reward(**{"differences": PAIRS[0], **options})
