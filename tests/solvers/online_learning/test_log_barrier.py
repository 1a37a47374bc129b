"""The leader with the log-barrier: its optimality, its values, and costs of any size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.online_learning.log_barrier import log_barrier, log_barrier_step


def test_values_with_many_digits():
    found = log_barrier_step(np.array([0.0, 0.5, 1.5]), step=1.0)
    np.testing.assert_allclose(found.policy, [0.4080134148, 0.3388796859, 0.2531068993], atol=5e-11)
    assert found.level == pytest.approx(2.4508998081, abs=5e-11)
    assert found.converged and found.residual <= 1e-15


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(-3, 6))
def test_it_is_the_minimiser(seed, actions, size):
    rng = np.random.default_rng(seed)
    costs = rng.standard_normal((5, actions)) * 10**size
    step = 10 ** rng.uniform(-3, 1)
    found = log_barrier_step(costs, step=step)
    np.testing.assert_allclose(found.policy.sum(axis=-1), 1.0, atol=1e-14)
    assert (found.policy > 0).all()
    assert ((found.level >= 1) & (found.level <= actions)).all()
    # The derivative of the objective is the same in every coordinate.
    slope = step * (costs - costs.min(axis=-1, keepdims=True)) - 1 / found.policy
    np.testing.assert_allclose(
        slope, np.broadcast_to(slope[:, :1], slope.shape), atol=1e-12 * (1 + np.abs(slope).max())
    )
    other = rng.dirichlet(np.ones(actions), 5)
    values = [
        step * (p * (costs - costs.min(axis=-1, keepdims=True))).sum(axis=-1) + log_barrier(p)
        for p in (found.policy, other)
    ]
    assert (values[0] <= values[1] + 1e-9).all()


def test_costs_shifted_by_a_constant_are_the_same_costs():
    costs = np.array([[0.0, 3.0, -2.0]])
    shifted = log_barrier_step(costs - 1024.0, step=0.5)
    np.testing.assert_allclose(shifted.policy, log_barrier_step(costs, step=0.5).policy, rtol=1e-13)


def test_extremes():
    even = log_barrier_step(np.zeros(4), step=2.0)
    np.testing.assert_array_equal(even.policy, np.full(4, 0.25))
    assert even.level == 4.0
    far = log_barrier_step(np.array([0.0, 1e300, 1e-300]), step=1.0)
    np.testing.assert_allclose(far.policy, [0.5, 1e-300, 0.5], rtol=1e-12)
    assert log_barrier_step(np.array([7.0]), step=1.0).policy.tolist() == [1.0]
    many = log_barrier_step(np.concatenate([[0.0], np.full(9999, 100.0)]), step=1.0)
    assert many.converged and many.level == pytest.approx(9902.0, rel=1e-3)


def test_a_step_for_each_row():
    costs, steps = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([0.5, 2.0])
    together = log_barrier_step(costs, step=steps)
    for row, step in enumerate(steps):
        alone = log_barrier_step(costs[row], step=float(step))
        np.testing.assert_allclose(together.policy[row], alone.policy, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_on_torch(dtype):
    costs = torch.tensor([0.0, 0.5, 1.5], dtype=dtype)
    found = log_barrier_step(costs, step=1.0)
    assert found.policy.dtype == dtype and found.converged
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    expected = log_barrier_step(np.array([0.0, 0.5, 1.5]), step=1.0)
    np.testing.assert_allclose(found.policy.to(torch.float64), expected.policy, atol=tolerance)


def test_the_gradient_is_that_of_the_minimiser():
    costs = torch.tensor([0.0, 0.5, 1.5], dtype=torch.float64, requires_grad=True)
    log_barrier_step(costs, step=1.0).policy[0].backward()

    def first(shift):
        moved = np.array([0.0, 0.5, 1.5]) + shift
        return log_barrier_step(moved, step=1.0).policy[0]

    differences = [(first(1e-6 * e) - first(-1e-6 * e)) / 2e-6 for e in np.eye(3)]
    np.testing.assert_allclose(costs.grad, differences, atol=1e-7)


def test_what_does_not_sum_to_one_is_said():
    with pytest.warns(ConvergenceWarning, match="log_barrier_step"):
        found = log_barrier_step(np.array([0.0, np.nan]), step=1.0)
    assert not found.converged and np.isnan(found.policy).all()


def test_bad_input():
    for step in (0.0, -1.0, np.inf, "x", np.array([0.0, 1.0])):
        with pytest.raises(ValueError, match="step must be"):
            log_barrier_step(np.zeros((2, 3)), step=step)
    with pytest.raises(ValueError, match="shapes must fit"):
        log_barrier_step(np.zeros((2, 3)), step=np.ones(5))
    with pytest.raises(ValueError, match="costs must"):
        log_barrier_step(np.array(["a"]), step=1.0)


def test_the_barrier_is_infinite_at_the_boundary():
    assert log_barrier(np.array([1.0, 0.0])) == np.inf
    np.testing.assert_allclose(log_barrier(np.full((2, 4), 0.25)), 4 * np.log(4))
