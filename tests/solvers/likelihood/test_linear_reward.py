"""Linear reward models: minimisers of their loss, treated labels, many at once."""

import numpy as np
import pytest

from prefsim.data.strength import TREATMENTS, treat_labels
from prefsim.gradients import gradient
from prefsim.numerics import log_sigmoid, sigmoid
from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward, pessimistic_reward

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


def test_the_pessimistic_reward_is_the_least_within_the_radius():
    features, theta = RNG.standard_normal((6, 3)), RNG.standard_normal(3)
    sigma = 0.5 * np.eye(3) + PAIRS[0].T @ PAIRS[0]
    low = pessimistic_reward(features, theta, PAIRS[0], radius=2.0, ridge=0.5)
    # Weights on the boundary: θ + ϱ Σ^(-1/2) u.
    u = RNG.standard_normal((20_000, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    around = theta + 2.0 * u @ np.linalg.inv(np.linalg.cholesky(sigma))
    least = (around @ features.T).min(axis=0)
    assert (low <= least + 1e-12).all()
    np.testing.assert_allclose(low, least, atol=1e-3)
    np.testing.assert_allclose(
        pessimistic_reward(features, theta, PAIRS[0], radius=0.0), features @ theta
    )


def test_nothing_is_uncertain_at_the_baseline():
    features, theta = RNG.standard_normal((6, 3)), RNG.standard_normal(3)
    options = {"radius": 2.0, "baseline": features[2]}
    low = pessimistic_reward(features, theta, PAIRS[0], **options)
    assert low[2] == pytest.approx(features[2] @ theta, abs=1e-14)
    moved = pessimistic_reward(features - features[2], theta, PAIRS[0], radius=2.0)
    np.testing.assert_allclose(low - features[2] @ theta, moved, atol=1e-12)


def test_pessimistic_rewards_of_many_models():
    features, theta = RNG.standard_normal((6, 3)), RNG.standard_normal((2, 3))
    together = pessimistic_reward(features, theta, PAIRS, radius=1.0)
    alone = pessimistic_reward(features, theta[1], PAIRS[1], radius=1.0)
    np.testing.assert_allclose(together[1], alone, atol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": -1.0}, "radius must be"),
        ({"ridge": 0.0}, "ridge must be"),
        ({"weights": np.ones(2)}, r"weights must have trailing shape \(3\)"),
        ({"differences": np.ones((4, 2))}, r"differences must have trailing shape \(any, 3\)"),
        ({"baseline": np.ones(2)}, r"baseline must have trailing shape \(3\)"),
        ({"weights": np.ones((3, 3))}, "shapes must broadcast"),
    ],
)
def test_what_no_pessimistic_reward_is_made_of(change, message):
    given = {"features": np.eye(3), "weights": np.ones(3), "differences": PAIRS, "radius": 1.0}
    with pytest.raises(ValueError, match=message):
        pessimistic_reward(**given | change)
