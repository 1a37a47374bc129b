"""Comp-sum losses: reference values, members, both ends of the score, arrays of τ, bad options."""

import math

import numpy as np
import pytest
import torch
from class_scores import one

from prefsim.containers import ClassLogits
from prefsim.losses import comp_sum, cross_entropy, mae, ramp_comp_sum
from prefsim.losses.comp_sum import comp_sum_link

SCORES = np.asarray([1.0, 0.0, -1.0, 0.5])
# By τ: the losses of labels 0 and 2, in 30-digit arithmetic.
KNOWN = {
    0.0: (1.1097453841, 14.5890269977),
    0.5: (0.9049925192, 5.8965883767),
    1.0: (0.7465672692, 2.7465672692),
    1.5: (0.6230601375, 1.4934521328),
    2.0: (0.5260091537, 0.9358523146),
    3.0: (0.3876663388, 0.4979425372),
}


@pytest.mark.parametrize("tau", KNOWN)
def test_reference_values(tau):
    found = [float(comp_sum(one(label, scores=SCORES), tau=tau)) for label in (0, 2)]
    np.testing.assert_allclose(found, KNOWN[tau], atol=1e-10)


@pytest.mark.parametrize("label", [0, 2])
def test_members_with_a_margin(label):
    classes = one(label, 0.7)
    np.testing.assert_allclose(comp_sum(classes, tau=1.0), cross_entropy(classes), rtol=1e-15)
    np.testing.assert_allclose(comp_sum(classes, tau=2.0), mae(classes), rtol=1e-14)
    p = 1 - mae(classes)
    np.testing.assert_allclose(comp_sum(classes, tau=1.7), (1 - p**0.7) / 0.7, rtol=1e-14)
    np.testing.assert_allclose(comp_sum(classes, tau=0.0), 1 / p - 1, rtol=1e-14)


def test_cross_entropy_is_approached_from_both_sides():
    classes, at_one = one(2), cross_entropy(one(2))
    for step in (1e-6, 1e-9, 1e-12, 1e-15):
        below, above = comp_sum(classes, tau=1 - step), comp_sum(classes, tau=1 + step)
        # The second term of the series: step × loss² / 2.
        np.testing.assert_allclose([below, above], at_one, atol=step * float(at_one) ** 2)
        assert above <= at_one <= below


def test_far_ahead_and_far_behind():
    ahead, behind = (ClassLogits(np.asarray([x, 0.0]), np.asarray(0)) for x in (50.0, -50.0))
    # 1 − p is exp(−50), which 1 / p − 1 in floating point would lose.
    for tau in (0.0, 0.5, 1.0, 1.5, 3.0):
        np.testing.assert_allclose(comp_sum(ahead, tau=tau), math.exp(-50), rtol=1e-12)
    np.testing.assert_allclose(comp_sum(behind, tau=0.0), math.exp(50), rtol=1e-12)
    np.testing.assert_allclose(comp_sum(behind, tau=3.0), 0.5, rtol=1e-12)


def test_tau_may_be_an_array():
    taus = np.asarray([0.0, 1.0, 2.0])
    classes = ClassLogits(np.tile(SCORES, (3, 1)), np.zeros(3, dtype=int))
    each = [float(comp_sum(one(0, scores=SCORES), tau=tau)) for tau in taus]
    np.testing.assert_allclose(comp_sum(classes, tau=taus), each, rtol=1e-14)
    tensors = ClassLogits(torch.tensor(classes.logits), torch.tensor(classes.label))
    np.testing.assert_allclose(comp_sum(tensors, tau=torch.tensor(taus)), each, rtol=1e-14)


def test_ramps():
    classes = ClassLogits(np.asarray([[0.5, 0.2, -0.7]]), np.asarray([0]))
    known = {0.0: 0.7, 1.0: 0.5306282511, 2.0: 0.4117647059}
    for tau, value in known.items():
        assert ramp_comp_sum(classes, tau=tau)[0] == pytest.approx(value, abs=1e-10)
    # No class is within .3 of the label; both are ahead of a lead of 2.
    assert ramp_comp_sum(classes, rho=0.3)[0] == pytest.approx(0.0, abs=1e-15)
    behind = classes._replace(label=np.asarray([2]))
    assert ramp_comp_sum(behind, tau=0.0)[0] == pytest.approx(2.0, rel=1e-14)
    each = ramp_comp_sum(ClassLogits(classes.logits[[0, 0]], [0, 0]), rho=np.asarray([0.3, 1.0]))
    np.testing.assert_allclose(each, [0.0, 0.5306282511], atol=1e-10)


def test_the_link_falls_with_tau_and_has_its_slope():
    t = np.log1p(np.asarray([0.5, 3.0]))
    values = np.stack([comp_sum_link(t, tau=tau) for tau in (0.0, 0.5, 1.0, 2.0)])
    assert (np.diff(values, axis=0) < 0).all()
    np.testing.assert_allclose(values[0], [0.5, 3.0], rtol=1e-15)
    step = 1e-6
    higher = comp_sum_link(np.log1p(np.asarray([0.5, 3.0]) + step), tau=1.5)
    slope = (higher - comp_sum_link(t, tau=1.5)) / step
    np.testing.assert_allclose(slope, np.asarray([1.5, 4.0]) ** -1.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (comp_sum, {"tau": -0.1}, "tau must be a finite number >= 0, got -0.1"),
        (comp_sum, {"tau": math.nan}, "tau must be a finite number >= 0, got nan"),
        (ramp_comp_sum, {"rho": 0.0}, "rho must be a finite number > 0, got 0.0"),
        (ramp_comp_sum, {"tau": math.inf}, "tau must be a finite number >= 0, got inf"),
    ],
)
def test_bad_options(loss, options, message):
    with pytest.raises(ValueError, match=message):
        loss(one(0), **options)
