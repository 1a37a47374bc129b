"""Uniformity and tolerance: values, pairs one by one, what leaves them alone, errors."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from prefsim.analysis import tolerance, uniformity
from prefsim.analysis.representations import neighbour_accuracy

CROSS = np.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def drawn(seed, shape=(7, 3)):
    points = np.random.default_rng(seed).standard_normal(shape)
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def test_values():
    assert float(uniformity(CROSS)) == pytest.approx(-4.396348967229015, rel=1e-14)
    for conditional in (True, False):
        assert float(tolerance(CROSS, [0, 0, 1], conditional=conditional)) == 0.0


def test_a_point_is_no_pair_with_itself():
    distances = np.square(CROSS[:, None] - CROSS).sum(-1)
    with_itself = logsumexp(-2 * distances) - np.log(9)
    assert with_itself == pytest.approx(-1.0742665717477862, rel=1e-14)
    assert float(uniformity(CROSS)) < with_itself


def test_pair_by_pair():
    points, label = drawn(0), np.asarray([0, 1, 0, 2, 1, 0, 2])
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    squares = np.asarray([np.sum((points[i] - points[j]) ** 2) for i, j in pairs])
    assert float(uniformity(points, scale=0.7)) == pytest.approx(
        np.log(np.mean(np.exp(-0.7 * squares))), rel=1e-13
    )
    alike = [points[i] @ points[j] for i, j in pairs if label[i] == label[j]]
    assert float(tolerance(points, label)) == pytest.approx(np.mean(alike), rel=1e-13)
    assert float(tolerance(points, label, conditional=False)) == pytest.approx(
        np.sum(alike) / len(pairs), rel=1e-13
    )


def test_rotations_and_leading_axes():
    points, label = drawn(1, (2, 6, 3)), np.asarray([[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1]])
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    for measure in (uniformity, lambda x: tolerance(x, label)):
        np.testing.assert_allclose(measure(points @ turn), measure(points), atol=1e-13)
    each = [float(tolerance(points[k], label[k])) for k in range(2)]
    np.testing.assert_allclose(tolerance(points, label), each, rtol=1e-14)


def test_the_least_uniform_and_points_far_apart():
    assert float(uniformity(np.ones((3, 2)))) == 0.0
    assert float(uniformity(1e3 * CROSS)) == pytest.approx(-4e6 + np.log(2 / 3), rel=1e-12)


def test_gradient_where_points_are_one():
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    uniformity(points).backward()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: uniformity(np.ones((1, 2))), "at least two points"),
        (lambda: uniformity(CROSS, scale=0.0), "scale"),
        (lambda: tolerance(CROSS, [0, 1, 2]), "two points of one class"),
        (lambda: tolerance(CROSS, [0, 1]), "label must have shape"),
        (lambda: tolerance(CROSS, [0, -1, 0]), "label must be >= 0"),
        (lambda: tolerance(CROSS, [0, 0, 1], conditional=2), "conditional"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_neighbours():
    corners = np.concatenate([np.repeat(np.eye(3), 5, axis=0), np.eye(3)])[None]
    label = np.concatenate([np.repeat(np.arange(3), 5), np.arange(3)])[None]
    assert neighbour_accuracy(corners, label, n=15)[0] == 1.0
    wrong = label.copy()
    wrong[0, 15] = 1
    # Both of class 1 count half, and class 0 is not asked.
    assert neighbour_accuracy(corners, wrong, n=15)[0] == pytest.approx(0.75)
    voters = np.asarray([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8], [0.9, 0.1]])
    assert neighbour_accuracy(voters, np.asarray([0, 1, 1, 1]), n=3, neighbours=3) == 1.0
    assert neighbour_accuracy(voters, np.asarray([0, 1, 1, 1]), n=3, neighbours=1) == 0.0
    with pytest.raises(ValueError, match="n must"):
        neighbour_accuracy(voters, np.asarray([0, 1, 1, 1]), n=4, neighbours=1)
