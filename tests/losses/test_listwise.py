"""Targets of lists: the temperature of the rewards."""

import numpy as np
import pytest

from prefsim import losses


@pytest.mark.parametrize("loss", [losses.infonca, losses.nca])
@pytest.mark.parametrize("alpha", [0.2, 3.0])
def test_a_temperature_is_a_scale_of_the_rewards(loss, alpha):
    lists = losses.ListLogps.example()
    scaled = lists._replace(scores=lists.scores / alpha)
    np.testing.assert_allclose(loss(lists, alpha=alpha), loss(scaled), rtol=1e-12)
    assert not np.allclose(loss(lists, alpha=alpha), loss(lists))


def test_nca_as_it_is_written():
    lists = losses.ListLogps.example()
    h = 0.3 * (lists.logps - lists.ref_logps)
    weights = np.exp(lists.scores / 0.7)
    target = weights / weights.sum(axis=-1, keepdims=True)
    cost = target * np.log1p(np.exp(-h)) + np.log1p(np.exp(h)) / h.shape[-1]
    found = losses.nca(lists, beta=0.3, alpha=0.7)
    np.testing.assert_allclose(found, cost.sum(axis=-1), rtol=1e-12)
