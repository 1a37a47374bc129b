"""The self-consuming loop: golden fixed points, ties, batches, tensors, and its bad inputs."""

import math

import numpy as np
import pytest
import torch

from prefsim.loops import self_consuming
from prefsim.solvers.closed_forms.curation import curated_law

P, R = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("synthetic", "candidates", "expected"),
    [
        (0.2, 4, [0.46933705, 0.29954886, 0.16289879, 0.0682153]),
        (0.5, 2, [0.45277188, 0.30348756, 0.17144364, 0.07229692]),
    ],
)
def test_fixed_points_with_real_data(synthetic, candidates, expected):
    path = self_consuming(R, np.log(P), candidates=candidates, rounds=80, synthetic=synthetic)
    np.testing.assert_allclose(np.exp(path[-1]), expected, atol=5.1e-9)
    # Wherever it starts.
    other = self_consuming(
        R,
        np.log(P),
        candidates=candidates,
        rounds=200,
        synthetic=synthetic,
        start=np.log(P[::-1]),
    )
    np.testing.assert_allclose(np.exp(other[0]), P[::-1])
    np.testing.assert_allclose(np.exp(other[-1]), expected, atol=5.1e-9)


def test_ties_keep_their_proportions():
    path = self_consuming([0.0, 1.0, 1.0, -1.0], np.log(P), candidates=2, rounds=300)
    np.testing.assert_allclose(np.exp(path[-1]), [0, 2 / 3, 1 / 3, 0], atol=1e-12)


def test_rounds_without_real_data_are_curations():
    path = self_consuming(R, np.log(P), candidates=3, rounds=2)
    once = curated_law(R, np.log(P), candidates=3)
    np.testing.assert_allclose(path, [np.log(P), once, curated_law(R, once, candidates=3)])
    assert self_consuming(R, np.log(P), candidates=3, rounds=0).shape == (1, 4)


def test_batches_and_tensors():
    rewards = np.stack([R, 2 * R])
    many = self_consuming(rewards, np.log(P), candidates=math.inf, rounds=3, synthetic=1.0)
    assert many.shape == (4, 2, 4)
    alone = self_consuming(2 * R, np.log(P), candidates=math.inf, rounds=3, synthetic=1.0)
    np.testing.assert_allclose(many[:, 1], alone, atol=1e-12)
    tensors = (torch.as_tensor(x) for x in (2 * R, np.log(P)))
    found = self_consuming(*tensors, candidates=math.inf, rounds=3, synthetic=1.0)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found, alone, atol=1e-12)


def test_what_is_refused():
    for synthetic in (0.0, -1.0):
        with pytest.raises(ValueError, match="synthetic must be"):
            self_consuming(R, np.log(P), candidates=2, rounds=1, synthetic=synthetic)
    with pytest.raises(ValueError, match="rounds must be"):
        self_consuming(R, np.log(P), candidates=2, rounds=-1)
    with pytest.raises(ValueError, match="log_real"):
        self_consuming(R, np.log(P) - 0.1, candidates=2, rounds=1)
    with pytest.raises(ValueError, match="start"):
        self_consuming(R, np.log(P), candidates=2, rounds=1, start=np.zeros(4))
