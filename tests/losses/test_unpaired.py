"""Kahneman–Tversky optimisation: its reference point, its weights, and the marks it takes."""

import functools

import numpy as np
import pytest
import torch
from loss_references import BATCH, EIGHT_DIGITS

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.gradients import loss_gradient

LOG_RATIOS = np.asarray([[0.9, -0.2, 1.6, 0.1], [0.4, 2.0, -0.7, 0.3]])  # of mean 0.6 and 0.5
MEANS = np.asarray([[0.6], [0.5]])
MARKS = np.asarray([[True, False, False, True], [False, True, True, True]])


def thumbs(log_ratios, desirable=MARKS):
    log_ratios = np.asarray(log_ratios, dtype=float)
    reference = np.full_like(log_ratios, -3.0)
    return losses.UnpairedLogps(log_ratios + reference, reference, desirable)


@pytest.mark.parametrize(
    ("desirable", "field", "slope"),
    [(True, "chosen", -0.02485044), (False, "rejected", 0.02491022)],
)
def test_gradients_of_the_second_pair(desirable, field, slope):
    half = losses.UnpairedLogps(
        getattr(BATCH, field), getattr(BATCH, f"ref_{field}"), np.full(3, desirable)
    )
    found = loss_gradient(functools.partial(losses.kto, reference_point=0.3), half).logp
    assert found[1] == pytest.approx(slope, abs=EIGHT_DIGITS)


@pytest.mark.parametrize("backend", [np.asarray, torch.tensor])
def test_the_reference_point_is_the_mean_log_ratio_of_each_batch(backend):
    batch = map_fields(thumbs(LOG_RATIOS), backend)
    found = losses.kto(batch, beta=0.7)
    given = losses.kto(batch, beta=0.7, reference_point=backend(MEANS))
    np.testing.assert_allclose(found, given, rtol=1e-14)


def test_no_derivative_flows_through_the_reference_point():
    found = loss_gradient(functools.partial(losses.kto, beta=0.7), thumbs(LOG_RATIOS))
    rate = 1 / (1 + np.exp(-0.7 * (LOG_RATIOS - MEANS)))
    # Each depends on its own log-ratio alone: λ β σ(z)(1 − σ(z)), towards what is desirable.
    stated = 0.7 * rate * (1 - rate) * np.where(MARKS, -1, 1)
    np.testing.assert_allclose(found.logp, stated, rtol=1e-12)
    np.testing.assert_allclose(found.ref_logp, -stated, rtol=1e-12)


def test_the_reference_point_is_never_below_zero():
    below = thumbs(LOG_RATIOS - 1.0)  # of mean −0.4 and −0.5
    np.testing.assert_array_equal(losses.kto(below), losses.kto(below, reference_point=0.0))
    raised = losses.kto(thumbs(LOG_RATIOS))
    assert (np.abs(raised - losses.kto(thumbs(LOG_RATIOS), reference_point=0.0)) > 1e-3).all()


def test_each_class_has_its_weight():
    plain = losses.kto(thumbs(LOG_RATIOS))
    weighted = losses.kto(thumbs(LOG_RATIOS), desirable_weight=2.0, undesirable_weight=5.0)
    np.testing.assert_allclose(weighted, plain * np.where(MARKS, 2.0, 5.0), rtol=1e-14)


def test_values_stay_between_zero_and_the_weight():
    certain = thumbs([[800.0, -800.0, 800.0, -800.0]], np.asarray([[True, True, False, False]]))
    found = losses.kto(
        certain, beta=1.0, reference_point=0.0, desirable_weight=2.0, undesirable_weight=3.0
    )
    np.testing.assert_array_equal(found, [[0.0, 2.0, 3.0, 0.0]])


@pytest.mark.parametrize("backend", [np.asarray, torch.tensor])
@pytest.mark.parametrize("marks", [[-1, 1], [0, 1], [1.0, 0.0]])
def test_marks_must_be_boolean(backend, marks):
    batch = losses.UnpairedLogps(backend([-1.0, -1.0]), backend([-2.0, -2.0]), backend(marks))
    with pytest.raises(ValueError, match="desirable must hold booleans"):
        losses.kto(batch, reference_point=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number > 0"),
        ({"desirable_weight": -1.0}, "desirable_weight must be"),
        ({"undesirable_weight": -1.0}, "undesirable_weight must be"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        losses.kto(thumbs(LOG_RATIOS), **options)


def test_mismatched_completions_set_the_reference_point():
    """Their mean log-ratio 0.3, floored at zero; without a derivative."""
    moved = np.asarray([[0.1, 0.2, 0.4, 0.5], [-0.4, 0.2, -0.3, 0.1]])
    batch = thumbs(LOG_RATIOS)._replace(mismatched=moved - 2.0, ref_mismatched=moved * 0 - 2.0)
    found = losses.kto(batch, beta=0.7)
    for row, point in enumerate([0.3, 0.0]):
        alone = map_fields(thumbs(LOG_RATIOS), lambda field, row=row: field[row])
        expected = losses.kto(alone, beta=0.7, reference_point=point)
        np.testing.assert_allclose(found[row], expected, rtol=1e-14)
    slopes = loss_gradient(functools.partial(losses.kto, beta=0.7), batch)
    assert not slopes.mismatched.any()
    given = losses.kto(batch, beta=0.7, reference_point=MEANS)
    np.testing.assert_allclose(given, losses.kto(thumbs(LOG_RATIOS), beta=0.7), rtol=1e-14)


def test_half_of_a_mismatched_column_is_refused():
    batch = thumbs(LOG_RATIOS)
    with pytest.raises(ValueError, match="ref_mismatched is needed by this loss, got None"):
        losses.kto(batch._replace(mismatched=batch.logp))
    with pytest.raises(ValueError, match="mismatched is needed by this loss, got None"):
        losses.kto(batch._replace(ref_mismatched=batch.logp))
    with pytest.raises(ValueError, match="one shape"):
        losses.kto(batch._replace(mismatched=np.ones(2), ref_mismatched=np.ones(2)))
