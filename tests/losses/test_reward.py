"""Bradley–Terry on rewards: margins of either sign, label smoothing, the floor of trainers."""

import numpy as np
import pytest
import torch

from prefsim.losses import PairRewards, bradley_terry

AHEAD = np.array([1.0, 0.2, -0.5, 0.3])
PAIRS = PairRewards(AHEAD, np.zeros(4))


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({}, 0.6099581963871121),
        ({"floor": 1e-5}, 0.6099392562032084),
        ({"label_smoothing": 0.1}, 0.6349581963871122),
    ],
)
def test_means_of_four_pairs(options, value):
    assert bradley_terry(PAIRS, **options).mean() == pytest.approx(value, rel=1e-14)


def test_margins_of_either_sign():
    margin = np.array([1.2, 0.1, -0.8, 0.4])
    found = bradley_terry(PAIRS._replace(margin=margin))
    np.testing.assert_allclose(found, np.logaddexp(0, margin - AHEAD), rtol=1e-14)
    assert found.mean() == pytest.approx(0.6853218584993152, rel=1e-14)


def test_smoothing_of_each_pair_is_a_mean_over_flips():
    alpha = np.array([0.0, 0.1, 0.3, 0.5])
    expected = (1 - alpha) * bradley_terry(PAIRS) + alpha * bradley_terry(PAIRS.swapped())
    np.testing.assert_allclose(bradley_terry(PAIRS, label_smoothing=alpha), expected, rtol=1e-14)
    floored = (1 - alpha) * bradley_terry(PAIRS, floor=0.01) + alpha * bradley_terry(
        PAIRS.swapped(), floor=0.01
    )
    found = bradley_terry(PAIRS, label_smoothing=alpha, floor=0.01)
    np.testing.assert_allclose(found, floored, rtol=1e-14)


def test_a_floor_of_some_pairs_leaves_the_others_exact():
    gap = np.asarray([1.0, -50.0, -2000.0])
    pairs = PairRewards(gap, np.zeros(3))
    found = bradley_terry(pairs, floor=np.asarray([1e-5, 0.0, 1e-5]))
    expected = [bradley_terry(pairs, floor=floor)[i] for i, floor in enumerate((1e-5, 0, 1e-5))]
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    leaves = PairRewards(torch.tensor(gap, requires_grad=True), torch.zeros(3))
    bradley_terry(leaves, floor=torch.tensor([0.0, 0.0, 1e-5])).sum().backward()
    np.testing.assert_allclose(leaves.chosen.grad, [-1 / (1 + np.e), -1.0, 0.0], atol=1e-15)


def test_the_floor_caps_the_loss_and_weakens_gradients():
    z = torch.tensor([-1e4, -20.0, 0.0, 5.0], dtype=torch.float64, requires_grad=True)
    value = bradley_terry(PairRewards(z, torch.zeros_like(z)), floor=1e-5)
    assert float(value[0].detach()) == pytest.approx(11.512925, abs=1e-6)
    (slope,) = torch.autograd.grad(value.sum(), z)
    q = torch.sigmoid(z.detach())
    torch.testing.assert_close(slope, -(1 - q) * q / (q + 1e-5), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.51}, {"floor": -1e-9}, {"margin": -1}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
        bradley_terry(PAIRS, **options)
