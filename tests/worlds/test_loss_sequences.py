"""Families of losses: ranges, means, trends, and what alternates."""

import numpy as np
import pytest

from prefsim.worlds.loss_sequences import FAMILIES, alternating, drawn_losses


def test_families():
    losses = drawn_losses(list(FAMILIES), 300, 40, seed=0)
    assert losses.shape == (len(FAMILIES), 300, 40, 2)
    assert (losses >= 0).all() and (losses <= 1).all()
    mean = dict(zip(FAMILIES, losses.mean(axis=(1, 2)), strict=True))
    np.testing.assert_allclose(mean["gap"], [0.4, 0.6], atol=0.02)
    for name in ("uniform", "gauss", "linear", "sine"):
        np.testing.assert_allclose(mean[name], 0.5, atol=0.04)
    trend = losses[list(FAMILIES).index("linear")]
    assert np.abs(trend[:, -1] - trend[:, 0]).mean() > 0.2
    np.testing.assert_array_equal(losses[-1, 0], alternating(40))


def test_seeds_and_bad_input():
    one, same = (drawn_losses(["sine"], 2, 5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    with pytest.raises(ValueError, match="names"):
        drawn_losses(["cosine"], 2, 5, seed=3)
    with pytest.raises(ValueError, match="rounds must be an integer"):
        alternating(0)
