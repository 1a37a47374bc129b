"""Stacked networks: each is the network that it would be alone."""

import numpy as np
import torch

from prefsim.backend import use_backend
from prefsim.policies.stacked_networks import initial_layers, stacked_outputs, tensor_options


def test_each_network_is_by_itself():
    layers = [torch.tensor(part) for part in initial_layers((3, 5, 2), 4, seed=0)]
    inputs = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    found = stacked_outputs(layers, inputs)
    assert found.shape == (4, 6, 2)
    for k in range(4):
        weight, bias, last, offset = (part[k] for part in layers)
        alone = torch.tanh(inputs[k] @ weight + bias) @ last + offset
        torch.testing.assert_close(found[k], alone, rtol=1e-12, atol=1e-12)
    assert stacked_outputs([], inputs) is inputs


def test_starts_are_within_one_over_the_root_of_the_fan_in():
    weight, bias, last, _ = initial_layers((16, 400, 2), 3, seed=0)
    for part, fan_in in ((weight, 16), (bias, 16), (last, 400)):
        assert 0.9 / np.sqrt(fan_in) < np.abs(part).max() <= 1 / np.sqrt(fan_in)


def test_the_backend_in_force_says_the_precision():
    assert tensor_options()["dtype"] == torch.float32
    with use_backend("torch"):
        assert tensor_options()["dtype"] == torch.float64
