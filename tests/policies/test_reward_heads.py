"""Reward heads with a spread: a mean and a log-deviation in its range."""

import numpy as np
import pytest
import torch

from prefsim.policies.reward_heads import LOG_DEVIATION_RANGE, clamped_log_deviation, gaussian_head
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs


def test_a_head_says_mean_and_clamped_log_deviation():
    layers = [10 * torch.tensor(part) for part in initial_layers((3, 8, 2), 5, seed=0)]
    inputs = torch.randn(5, 40, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    mean, log_deviation = gaussian_head(layers, inputs, activation="relu")
    raw = stacked_outputs(layers, inputs, activation="relu")
    torch.testing.assert_close(mean, raw[..., 0])
    assert log_deviation.shape == (5, 40)
    assert (log_deviation.min(), log_deviation.max()) == LOG_DEVIATION_RANGE == (-5.0, 2.0)
    inside = (raw[..., 1] > -5) & (raw[..., 1] < 2)
    torch.testing.assert_close(log_deviation[inside], raw[..., 1][inside])


def test_beyond_the_range_there_is_no_gradient():
    raw = torch.tensor([-6.0, 0.0, 3.0], requires_grad=True)
    clamped_log_deviation(raw).sum().backward()
    np.testing.assert_array_equal(raw.grad, [0.0, 1.0, 0.0])


def test_a_head_has_two_outputs():
    layers = [torch.tensor(part) for part in initial_layers((3, 1), 2, seed=0)]
    with pytest.raises(ValueError, match="layers must have two outputs"):
        gaussian_head(layers, torch.zeros(2, 4, 3, dtype=torch.float64))
