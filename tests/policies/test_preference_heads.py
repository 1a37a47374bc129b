"""Preference heads: each is the network that it would be alone, and how classes enter."""

import numpy as np
import pytest
import torch

from prefsim.policies.preference_heads import encoded_label, head_rewards, initial_heads
from prefsim.policies.stacked_networks import stacked_outputs


def test_each_head_is_by_itself():
    layers = [torch.tensor(part) for part in initial_heads(6, 3, 2, seed=0)]
    inputs = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.manual_seed(0))
    found = head_rewards(layers, inputs)
    assert found.shape == (2, 5, 3)
    assert (found.abs() < 1).all()
    for network in range(2):
        for head in range(3):
            w1, b1, w2, b2, w3, b3 = (part[3 * network + head] for part in layers)
            first = torch.relu(inputs[network] @ w1 + b1)
            alone = torch.tanh(torch.relu(first @ w2 + b2) @ w3 + b3)[:, 0]
            torch.testing.assert_close(found[network, :, head], alone, rtol=1e-12, atol=1e-12)


def test_classes_as_features():
    label = np.asarray([[0, 1], [2, 2]])
    one_hot = encoded_label(label, n_classes=3, width=4)
    assert one_hot.shape == (2, 2, 3)
    np.testing.assert_array_equal(one_hot.argmax(axis=-1), label)
    index = encoded_label(label, n_classes=3, width=4, encoding="index")
    np.testing.assert_array_equal(index, label[..., None] * np.ones(4))


def test_bad_input():
    with pytest.raises(ValueError, match="encoding must be one of"):
        encoded_label([0], n_classes=2, width=1, encoding="onehot")
    with pytest.raises(ValueError, match="label must be >= 0 and < 2"):
        encoded_label([2], n_classes=2, width=1)
    with pytest.raises(ValueError, match="features must be"):
        initial_heads(1, 3, 2, seed=0)
    with pytest.raises(ValueError, match="activation must be one of"):
        stacked_outputs([], torch.zeros(1, 1, 1), activation="sigmoid")
