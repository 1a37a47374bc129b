"""Look-ahead steps: the objective, both orders, NumPy and torch, many models at once."""

import numpy as np
import pytest
import torch

from prefsim.losses import PairRewards, bradley_terry
from prefsim.numerics import sigmoid
from prefsim.solvers.look_ahead import look_ahead_gradient, look_ahead_step, reward_difference

RESPONSES = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
PAIRS = np.array([[0.5, -0.2], [0.1, 0.4]])
THETA = np.array([0.3, -0.1])
OPTIONS = {"step": 0.1, "ahead": 0.5}
GOLDEN = {1: [0.31373881, -0.09435047], 2: [0.31364063, -0.09431566]}


def loss(theta):
    ahead = theta @ torch.as_tensor(PAIRS).T
    return bradley_terry(PairRewards(ahead, torch.zeros_like(ahead))).mean(dim=-1)


def objective(theta):
    return reward_difference(theta @ torch.as_tensor(RESPONSES).T)


def slope_of(function, *, graph=False):
    def slope(theta):
        leaf = theta if theta.requires_grad else theta.detach().requires_grad_()
        (found,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=graph)
        return found

    return slope


TORCH = slope_of(loss), slope_of(objective, graph=True)


def loss_gradient(theta):
    return -(sigmoid(-(PAIRS @ theta)) @ PAIRS) / len(PAIRS)


GAPS = np.stack([RESPONSES[i] - RESPONSES[j] for i, j in ((0, 1), (0, 2), (1, 2))])


def ascent_gradient(theta):
    gap = GAPS @ theta
    q = sigmoid(np.abs(gap))
    return 2 / 9 * (q * (1 - q) * np.sign(gap)) @ GAPS


def ascent_hessian(theta, v):
    q = sigmoid(np.abs(GAPS @ theta))
    return 2 / 9 * (q * (1 - q) * (1 - 2 * q) * (GAPS @ v)) @ GAPS


def test_the_objective_and_its_ends():
    assert reward_difference(np.array([0.5, -0.2, 1.0])) == pytest.approx(0.457593752637564)
    for k in (2, 5):
        assert reward_difference(np.full(k, 0.7)) == pytest.approx((k - 1) / (2 * k), rel=1e-14)
        far = reward_difference(100.0 * np.arange(k))
        assert far == pytest.approx((k - 1) / k, rel=1e-12)
    table = np.random.default_rng(0).standard_normal((4, 3))
    found = reward_difference(table)
    pairs = sigmoid(np.abs(table[:, [0, 0, 1]] - table[:, [1, 2, 2]])).sum(axis=1)
    np.testing.assert_allclose(found, 2 / 9 * pairs, rtol=1e-14)
    np.testing.assert_allclose(reward_difference(table + 3.0), found, rtol=1e-12)


def test_equal_rewards_pull_nowhere():
    r = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(reward_difference(r), r)
    assert slope.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("order", [1, 2])
def test_golden_steps(order):
    np.testing.assert_allclose(ascent_gradient(THETA), [0.10771535, -0.10880817], atol=5e-9)
    found = look_ahead_step(
        THETA,
        loss_gradient,
        ascent_gradient,
        order=order,
        ascent_hessian=ascent_hessian,
        **OPTIONS,
    )
    np.testing.assert_allclose(found, GOLDEN[order], atol=5e-9)
    in_torch = look_ahead_step(torch.tensor(THETA), *TORCH, order=order, **OPTIONS)
    np.testing.assert_allclose(in_torch.detach(), found, atol=1e-14)


def test_second_order_is_the_derivative_of_the_loss_looked_ahead():
    theta = torch.tensor(THETA, requires_grad=True)
    ahead = loss(theta + 0.5 * TORCH[1](theta))
    (expected,) = torch.autograd.grad(ahead, theta)
    found = look_ahead_gradient(torch.tensor(THETA), *TORCH, ahead=0.5, order=2)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_many_models_at_once():
    rows = np.random.default_rng(0).standard_normal((5, 2))
    together = look_ahead_gradient(torch.tensor(rows), *TORCH, ahead=0.3, order=2)
    for row, found in zip(rows, together, strict=True):
        alone = look_ahead_gradient(torch.tensor(row), *TORCH, ahead=0.3, order=2)
        torch.testing.assert_close(found, alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ahead": -0.1}, "ahead must"),
        ({"ahead": 0.1, "order": 3}, "order must"),
        ({"ahead": 0.1, "order": 2}, "ascent_hessian must be given"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        look_ahead_gradient(THETA, loss_gradient, ascent_gradient, **options)
    with pytest.raises(ValueError, match="step must"):
        look_ahead_step(THETA, loss_gradient, ascent_gradient, step=-1.0, ahead=0.1)
    bare = slope_of(objective)
    with pytest.raises(ValueError, match="keep its graph"):
        look_ahead_gradient(torch.tensor(THETA), TORCH[0], bare, ahead=0.1, order=2)
    with pytest.raises(ValueError, match="at least two"):
        reward_difference(np.array([1.0]))
