"""The degree loss: versions left out, a head that knows the order, what is refused."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses

ZERO = np.zeros(1)
PAIR = losses.DegreePairLogps(
    chosen=ZERO,
    rejected=ZERO,
    ref_chosen=ZERO,
    ref_rejected=ZERO,
    chosen_logits=np.zeros((1, 2, 2)),
    chosen_degree=np.asarray([[0, 1]]),
    rejected_logits=np.zeros((1, 2, 2)),
    rejected_degree=np.asarray([[0, 1]]),
)


@pytest.mark.parametrize(
    "align", [losses.dpo, functools.partial(losses.ipo, tau=0.2), losses.simpo, losses.odpo]
)
def test_any_loss_on_pairs_may_be_extended(align):
    data = losses.DegreePairLogps.example(5)
    graded = losses.DegreeLogits(data.chosen_logits, data.chosen_degree)
    data = data._replace(rejected_logits=graded.logits, rejected_degree=graded.degree)
    np.testing.assert_allclose(
        losses.spo_degree(data, align=align, gamma_chosen=0.1, gamma_rejected=0.2),
        align(data.pair()) + 0.3 * losses.preference_degree(graded),
        rtol=1e-14,
    )


def test_a_response_without_versions_costs_nothing():
    logits = torch.zeros(2, 5, 5, dtype=torch.float64, requires_grad=True)
    degree = torch.tensor([[-1] * 5, [0, -1, -1, -1, 4]])
    value = losses.preference_degree(losses.DegreeLogits(logits, degree))
    value.sum().backward()
    np.testing.assert_allclose(value.detach(), [0.0, np.log(5)], rtol=1e-15)
    assert (logits.grad[0] == 0).all()
    assert logits.grad.isfinite().all()


def test_ordinal_head():
    score, thresholds = np.asarray([-40.0, -0.3, 0.0, 2.0, 900.0]), np.asarray([-1.0, 0.5, 2.5])
    table = losses.ordinal_logits(score, thresholds)
    np.testing.assert_allclose(np.exp(table).sum(axis=-1), 1.0, rtol=1e-14)
    above = np.cumsum(np.exp(table)[:, ::-1], axis=-1)[:, ::-1][:, 1:]
    expected = 1 / (1 + np.exp(thresholds - score[:4, None]))
    np.testing.assert_allclose(above[:4], expected, rtol=1e-12)
    assert np.isfinite(table).all()
    moved, cuts = (torch.tensor(part, requires_grad=True) for part in (score[1:4], thresholds))
    assert torch.autograd.gradcheck(losses.ordinal_logits, (moved, cuts))


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [([1.0, 1.0], "thresholds must rise strictly"), ([[0.0]], "thresholds must be a vector")],
)
def test_thresholds_that_do_not_rise(thresholds, message):
    with pytest.raises(ValueError, match=message):
        losses.ordinal_logits(np.zeros(1), np.asarray(thresholds))


@pytest.mark.parametrize(
    ("degree", "message"),
    [([[0, 3]], "label must be >= 0 and < 3"), ([0], "^degree must have shape")],
)
def test_degrees_that_do_not_fit(degree, message):
    with pytest.raises(ValueError, match=message):
        losses.preference_degree(losses.DegreeLogits(np.zeros((1, 2, 3)), np.asarray(degree)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma_chosen": -0.1}, "gamma_chosen must be a finite number >= 0"),
        ({"gamma_rejected": float("nan")}, "gamma_rejected must be a finite number >= 0"),
        ({"align": "dpo"}, "align must be a function, got 'dpo'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        losses.spo_degree(PAIR, **options)
