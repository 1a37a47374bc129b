"""Class scores before a loss: margins against the label, and normalised scores."""

import numpy as np
import pytest
import torch
from hypothesis import given

from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import (
    l1_normalised,
    label_margins,
    softplus_normalised,
    with_margin,
)
from prefsim.testing.bandits import tables


def test_margins_of_the_label_are_zero_and_exact():
    classes = ClassLogits(
        np.asarray([[1e8, 3.0, 0.1]]), np.asarray([2]), np.asarray([[0.5, 0.25, 0.0]])
    )
    v = label_margins(classes)
    assert v[0, 2] == 0.0
    np.testing.assert_allclose(v[0, :2], [1e8 - 0.1 + 0.5, 2.9 + 0.25])
    np.testing.assert_array_equal(with_margin(classes, 0.5).margin, [[0.5, 0.5, 0.0]])


@given(tables((3, 5), low=-30.0, high=30.0))
def test_normalised_scores_have_mean_one(logits):
    positive = softplus_normalised(logits)
    assert (positive > 0).all()
    np.testing.assert_allclose(positive.mean(-1), 1, rtol=1e-12)
    plain = np.logaddexp(0, logits)
    np.testing.assert_allclose(positive, plain / plain.mean(-1, keepdims=True), rtol=1e-10)
    size = np.abs(l1_normalised(logits)).mean(-1)
    np.testing.assert_allclose(size, np.where(np.abs(logits).sum(-1) > 0, 1, 0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_normalisations_at_extremes(dtype):
    for row in ([-1e4, -1e4, -1e4], [-1e4, 0.0, 1e4], [1e4, 1e4, 1e4], [0.0, 0.0, 0.0]):
        for f in (softplus_normalised, l1_normalised):
            logits = torch.tensor([row], dtype=dtype, requires_grad=True)
            found = f(logits)
            found.pow(2).sum().backward()
            assert found.dtype == dtype
            assert found.isfinite().all()
            assert logits.grad.isfinite().all()
    np.testing.assert_allclose(softplus_normalised(np.full(3, -1e4)), 1.0)
    np.testing.assert_array_equal(l1_normalised(np.zeros(3)), 0.0)
