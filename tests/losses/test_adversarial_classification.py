"""Smooth adversarial losses: one scorer by hand, both libraries, gradients, shapes."""

import numpy as np
import pytest
import torch

from prefsim.containers import ClassLogits
from prefsim.losses.adversarial_classification import (
    linear_local_variation,
    linear_robust_lead,
    local_variation,
    smooth_adversarial_comp_sum,
)

WEIGHTS = np.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
AT, LABEL = np.asarray([[0.5, 0.2]]), np.asarray([0])
CLASSES = ClassLogits(AT @ WEIGHTS.T, LABEL)


def test_one_scorer():
    variation = linear_local_variation(WEIGHTS, LABEL, radius=0.1)
    assert variation[0] == pytest.approx(0.23027756377, abs=1e-11)
    for nu, known in (
        (None, (1.3676740864, 1.0395974620, 0.8359486706)),
        (1.0, (1.2722899964, 0.9442133719, 0.7405645806)),
    ):
        found = [
            smooth_adversarial_comp_sum(CLASSES, variation, tau=tau, nu=nu)[0] for tau in (0, 1, 2)
        ]
        np.testing.assert_allclose(found, known, atol=1e-10)
    lead = linear_robust_lead(WEIGHTS, AT, LABEL, radius=0.1)
    assert lead[0] == pytest.approx(0.3 - 0.1 * np.sqrt(2), abs=1e-15)


def test_a_bias_counts_at_the_input_and_not_in_the_ball():
    bias = np.asarray([0.5, 0.0, 0.0])
    plain, moved = (
        linear_robust_lead(WEIGHTS, AT, LABEL, radius=0.1, bias=b) for b in (None, bias)
    )
    np.testing.assert_allclose(moved, plain + 0.5, rtol=1e-14)
    as_tensor = linear_robust_lead(
        torch.tensor(WEIGHTS), torch.tensor(AT), torch.tensor(LABEL), radius=0.1, bias=bias
    )
    np.testing.assert_allclose(as_tensor, moved, rtol=1e-14)


def test_leading_axes_and_tensors():
    label = np.asarray([[0, 1], [2, 0]])
    inputs = np.arange(8.0).reshape(2, 2, 2)
    variation = linear_local_variation(WEIGHTS, label, radius=0.5)
    lead = linear_robust_lead(WEIGHTS, inputs, label, radius=0.5)
    assert variation.shape == lead.shape == (2, 2)
    for place in np.ndindex(2, 2):
        one = label[place][None]
        assert linear_local_variation(WEIGHTS, one, radius=0.5)[0] == variation[place]
        alone = linear_robust_lead(WEIGHTS, inputs[place][None], one, radius=0.5)
        assert alone[0] == pytest.approx(lead[place], abs=1e-14)
    tensors = torch.tensor(WEIGHTS), torch.tensor(label)
    np.testing.assert_allclose(linear_local_variation(*tensors, radius=0.5), variation, rtol=1e-13)


def test_the_variation_has_a_gradient():
    weights = torch.tensor(WEIGHTS + 0.1, requires_grad=True)

    def total(w):
        return linear_local_variation(w, torch.tensor([0, 1, 2]), radius=0.3).sum()

    assert torch.autograd.gradcheck(total, weights)


def test_nearby_scores():
    nearby = np.asarray([[[0.5, 0.2, -0.7], [0.4, 0.3, -0.7], [0.6, 0.2, -0.8]]])
    # Leads (.3, 1.2) become (.1, 1.1) and (.4, 1.4).
    expected = np.hypot(0.2, 0.1)
    assert local_variation(CLASSES, nearby)[0] == pytest.approx(expected, abs=1e-15)
    assert local_variation(CLASSES, nearby[:, :1])[0] == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: local_variation(CLASSES, np.zeros((1, 2, 4))), "nearby must have"),
        (lambda: linear_local_variation(WEIGHTS, LABEL, radius=-0.1), "radius must be"),
        (lambda: linear_local_variation(WEIGHTS[0], LABEL, radius=0.1), "weights must have"),
        (lambda: linear_local_variation(WEIGHTS, LABEL + 3, radius=0.1), "label must be >= 0"),
        (
            lambda: linear_robust_lead(WEIGHTS, AT[:, :1], LABEL, radius=0.1),
            "inputs must have",
        ),
        (
            lambda: linear_robust_lead(WEIGHTS, AT, LABEL, radius=0.1, bias=np.zeros(2)),
            "bias must have",
        ),
        (lambda: smooth_adversarial_comp_sum(CLASSES, np.zeros(1), rho=0.0), "rho must be"),
        (lambda: smooth_adversarial_comp_sum(CLASSES, np.zeros(1), nu=-1.0), "nu must be"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
