"""Conflicts of gradients in a head and its features, against gradients that torch takes."""

import numpy as np
import pytest
import torch

from prefsim.analysis import backbone_conflict, head_conflict
from prefsim.containers import ClassLogits, DistillationLogits
from prefsim.losses import binary_kl, cross_entropy

RNG = np.random.default_rng(0)
FEATURES, WEIGHTS = RNG.standard_normal((6, 5)), RNG.standard_normal((4, 5))
LABEL, TEACHER = RNG.integers(0, 4, 6), RNG.standard_normal((6, 4))


def gradients(of):
    """Return the gradients of both losses in the scores, the weights or the features."""
    parts = {
        "features": torch.tensor(FEATURES, requires_grad=True),
        "weights": torch.tensor(WEIGHTS, requires_grad=True),
    }
    scores = parts["features"] @ parts["weights"].T
    parts["scores"] = scores
    losses = (
        cross_entropy(ClassLogits(scores, torch.tensor(LABEL))).mean(),
        binary_kl(DistillationLogits(scores, torch.tensor(TEACHER))).mean(),
    )
    return [torch.autograd.grad(x, parts[of], retain_graph=True)[0].numpy() for x in losses]


def cosine(first, second):
    return np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second)


def test_cosines_are_those_of_the_gradients():
    pulls = gradients("scores")
    assert head_conflict(*pulls, FEATURES) == pytest.approx(cosine(*gradients("weights")))
    assert backbone_conflict(*pulls, WEIGHTS) == pytest.approx(cosine(*gradients("features")))


def test_leading_axes_and_a_gradient_that_vanishes():
    first, second = RNG.standard_normal((2, 3, 6, 4))
    found = head_conflict(first, second, FEATURES)
    assert found.shape == (3,)
    each = [float(head_conflict(*both, FEATURES)) for both in zip(first, second, strict=True)]
    np.testing.assert_allclose(found, each, rtol=1e-13)
    assert head_conflict(0 * first, second, FEATURES).tolist() == [0.0] * 3
    assert backbone_conflict(first, 0 * second, WEIGHTS).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: head_conflict(TEACHER, TEACHER, FEATURES[:5]), "first must have"),
        (lambda: head_conflict(TEACHER, TEACHER[:, :3], FEATURES), "one shape, got first"),
        (lambda: backbone_conflict(TEACHER, TEACHER, WEIGHTS[:3]), "first must have"),
        (lambda: backbone_conflict(TEACHER, TEACHER, WEIGHTS[0]), "weights must have"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
