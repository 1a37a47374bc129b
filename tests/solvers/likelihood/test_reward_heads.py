"""Reward heads fitted to comparisons: each alone, by an oracle, of any loss; and bad input."""

import functools

import numpy as np
import pytest
from scipy.optimize import minimize

from prefsim.losses import GaussianRewards, gaussian_bradley_terry
from prefsim.policies.stacked_networks import initial_layers
from prefsim.solvers.likelihood.reward_heads import fit_reward_heads, head_rewards_of

RNG = np.random.default_rng(0)
STEPS = RNG.standard_normal((8, 3, 2))
PAIRS = np.stack(np.triu_indices(8, 1), axis=-1)
PROB = RNG.random(len(PAIRS))
ROBUST = functools.partial(gaussian_bradley_terry, mean_weight=0.5)


def by_hand(theta, prob, ridge):
    """The objective of one linear head, in NumPy."""
    weights, bias = theta[:4].reshape(2, 2), theta[4:]
    raw = STEPS @ weights + bias
    mean, log_deviation = raw[..., 0], np.clip(raw[..., 1], -5, 2)
    total = 0.0
    for (first, second), p in zip(PAIRS, prob, strict=True):
        mask = np.ones(3, dtype=bool)
        pair = GaussianRewards(
            mean[first], mean[second], log_deviation[first], log_deviation[second], mask, mask
        )
        total += p * ROBUST(pair) + (1 - p) * ROBUST(pair.swapped())
    return float(total) / len(PAIRS) + ridge * np.sum(weights**2)


def start(networks, width=()):
    return initial_layers((2, *width, 2), networks, seed=1)


def test_a_linear_head_is_at_the_minimum():
    found = fit_reward_heads(start(1), STEPS, PAIRS, PROB, loss=ROBUST, ridge=0.01)
    theta = np.concatenate([part.ravel() for part in found.layers])
    assert found.value[0] == pytest.approx(by_hand(theta, PROB, 0.01), abs=1e-12)
    other = minimize(
        by_hand, theta, args=(PROB, 0.01), method="Nelder-Mead", options={"maxfev": 60}
    )
    assert other.fun > found.value[0] - 1e-6
    assert found.evaluations < 200


def test_networks_are_fitted_each_by_itself():
    labels = np.stack([PROB, 1 - PROB, PROB])
    layers = start(3, (4,))
    found = fit_reward_heads(layers, STEPS, PAIRS, labels, ridge=0.01, max_iterations=300)
    # Steps of one network are those of all together.
    for k in range(3):
        alone = fit_reward_heads(
            [part[k : k + 1] for part in layers], STEPS, PAIRS, labels[k], ridge=0.01
        )
        assert alone.value[0] == pytest.approx(found.value[k], abs=2e-3)
    mean, log_deviation = head_rewards_of(found.layers, STEPS)
    assert mean.shape == log_deviation.shape == (3, 8, 3)


def test_hard_labels_are_soft_ones_of_certainty():
    hard = (PROB > 0.5) * 1.0
    # The second is certain for the solver, too, and enters both ways.
    soft = np.where(np.arange(hard.size) == 0, 1e-12, hard)
    values = [
        fit_reward_heads(start(1), STEPS, PAIRS, prob, loss=ROBUST).value
        for prob in (np.where(np.arange(hard.size) == 0, 0.0, hard), soft)
    ]
    np.testing.assert_allclose(*values, atol=1e-8)


def test_the_direction_of_labels():
    steps = np.array([[[1.0]], [[0.0]]])
    for prob, sign in ((0.9, 1), (0.1, -1)):
        zero = [np.zeros((1, 1, 2)), np.zeros((1, 1, 2))]
        found = fit_reward_heads(zero, steps, [[0, 1]], [prob])
        assert sign * found.layers[0][0, 0, 0] > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": []}, "layers must be a list of weights and biases in turn"),
        ({"layers": start(1)[:1]}, "layers must be a list of weights and biases in turn"),
        ({"layers": start(1) + start(1)[::-1]}, "layers must be weights .* that fit each other"),
        ({"layers": [np.zeros((1, 3, 2)), np.zeros((1, 1, 2))]}, r"steps must have trailing shape"),
        ({"layers": [np.zeros((1, 2, 1)), np.zeros((1, 1, 1))]}, "layers must have two outputs"),
        ({"steps": STEPS[0]}, "steps must have at least 3 axes"),
        ({"steps": np.stack([STEPS] * 3)}, "steps must have 3 axes, or one more of 1 networks"),
        ({"pairs": PAIRS + 1}, "pairs must be >= 0 and < 8"),
        ({"pairs": PAIRS[:, :1]}, r"pairs must have trailing shape \(2\)"),
        ({"prob": PROB + 1}, r"prob must lie in \[0, 1\]"),
        ({"prob": PROB[:3]}, r"prob must have trailing shape \(28\)"),
        ({"ridge": -1.0}, "ridge must be a finite number >= 0"),
        ({"max_iterations": 0}, "max_iterations must be an integer >= 1"),
        ({"loss": "bradley_terry"}, "loss must be a function"),
        ({"activation": "sine"}, "activation must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"layers": start(1), "steps": STEPS, "pairs": PAIRS, "prob": PROB}
    with pytest.raises(ValueError, match=message):
        fit_reward_heads(**(given | change))
