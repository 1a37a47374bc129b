"""Hedge: values, its bound, any array library, and estimates from one action."""

import array_api_strict
import numpy as np
import pytest
import torch

from prefsim.solvers.online_learning.hedge import (
    hedge,
    hedge_bound,
    hedge_step,
    importance_weighted_loss,
)
from prefsim.solvers.online_learning.linear_attention import cumulative_before

L = np.array([0.3, 1.2, -0.4])
LOSSES = np.array([[1, 0, 0.5], [0, 1, 0.5], [0.2, 0.8, 0.1], [0.9, 0.1, 0.4]])


def test_values():
    np.testing.assert_allclose(hedge(L, step=0.7), [0.31596495, 0.16828034, 0.51575471], atol=5e-9)
    played = hedge(cumulative_before(LOSSES), step=0.5)
    np.testing.assert_allclose(played[1], [0.25427521, 0.41922895, 0.32649584], atol=5e-9)
    np.testing.assert_allclose(played[3], [0.35815473, 0.26532755, 0.37651772], atol=5e-9)


def test_a_start_is_kept_and_steps_broadcast():
    start = np.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(hedge(L, step=0.0, log_start=np.log(start)), start, atol=1e-15)
    steps = np.array([[0.1], [2.0]])
    both = hedge(np.stack([L, -L]), step=steps)
    assert both.shape == (2, 2, 3)
    np.testing.assert_allclose(both[1, 0], hedge(L, step=2.0), atol=1e-15)
    weights = start * np.exp(-0.7 * L)
    found = hedge(L, step=0.7, log_start=np.log(start))
    np.testing.assert_allclose(found, weights / weights.sum(), atol=1e-15)


def test_large_losses_neither_overflow_nor_shift():
    np.testing.assert_allclose(hedge(L + 1e6, step=0.7), hedge(L, step=0.7), rtol=1e-8)
    assert (hedge([0.0, 1e308], step=1.0) == [1.0, 0.0]).all()


def test_on_other_libraries():
    tensor = torch.tensor(L, requires_grad=True)
    found = hedge(tensor, step=0.7)
    found[0].backward()
    p = hedge(L, step=0.7)
    np.testing.assert_allclose(tensor.grad, -0.7 * p[0] * (np.eye(3)[0] - p), atol=1e-14)
    strict = hedge(array_api_strict.asarray(L), step=0.7)
    np.testing.assert_allclose(np.asarray(strict), p, rtol=1e-14)
    assert hedge(torch.tensor(L, dtype=torch.float32), step=0.7).dtype == torch.float32


def test_step_and_bound():
    # At its step the two parts of the bound, ln d/η and ηT/8, are equal.
    step = hedge_step(100, 3)
    assert np.log(3) / step == pytest.approx(step * 100 / 8)
    assert hedge_bound(100, 3) == pytest.approx(np.log(3) / step + step * 100 / 8)
    assert hedge_bound(100, 3, width=2.0) == pytest.approx(2 * hedge_bound(100, 3))
    assert hedge_step(100, 3, width=2.0) == pytest.approx(step / 2)


def test_estimates_are_of_the_action_that_was_played():
    policy = np.array([[0.25, 0.75], [1.0, 0.0]])
    found = importance_weighted_loss([0.5, 2.0], [1, 0], policy)
    np.testing.assert_allclose(found, [[0.0, 2 / 3], [2.0, 0.0]])
    with pytest.raises(ValueError, match="policy must give the action that was played a chance"):
        importance_weighted_loss([0.5, 2.0], [1, 1], policy)
    with pytest.raises(ValueError, match=r"played_loss \(3,\), action \(2,\), policy \(2,\)"):
        importance_weighted_loss([0.5, 2.0, 1.0], [1, 0], policy)
    with pytest.raises(ValueError, match=r"action \(3,\), policy \(2,\)"):
        importance_weighted_loss([0.5, 2.0], [1, 0, 1], policy)


@pytest.mark.parametrize("step", [-1.0, np.nan, "x"])
def test_bad_steps(step):
    with pytest.raises(ValueError, match="step"):
        hedge(L, step=step)


def test_losses_without_weights_are_refused():
    np.testing.assert_array_equal(hedge(np.array([np.inf, 1.0]), step=1.0), [0.0, 1.0])
    for losses, step in (([np.inf, np.inf], 1.0), ([-np.inf, 1.0], 1.0), ([np.inf, 1.0], 0.0)):
        with (
            np.errstate(invalid="ignore"),
            pytest.raises(ValueError, match="cumulative_loss must leave weights"),
        ):
            hedge(np.array(losses), step=step)
