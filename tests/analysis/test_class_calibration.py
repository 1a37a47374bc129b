"""What classification losses are like: known costs of errors, free errors, symmetric losses."""

import functools

import numpy as np
import pytest
from matplotlib.figure import Figure

from prefsim.analysis import h_consistency_transformation
from prefsim.analysis.class_calibration import (
    class_loss_profile,
    draw_error_costs,
    draw_noise_terms,
)
from prefsim.losses import (
    comp_sum,
    crammer_singer,
    cross_entropy,
    ldr_kl,
    ldr_top_k,
    linear_symmetric,
    mae,
)

HALF = 5  # the place of an excess error of one half, which (¾, ¼, 0) and equal scores attain


def test_cross_entropy():
    found = class_loss_profile(cross_entropy, steps=12)
    assert found.gaps[HALF] == 0.5
    cost = h_consistency_transformation(found.gaps, tau=1.0, n_classes=3)
    assert (found.least_excess >= cost - 1e-9).all()
    assert found.least_excess[HALF] == pytest.approx(cost[HALF], abs=1e-9)
    assert found.calibrated
    assert not found.symmetric
    assert not found.normalised
    # A temperature scales what every error costs.
    warm = class_loss_profile(functools.partial(ldr_kl, lambda_=2.0), steps=12)
    np.testing.assert_allclose(warm.least_excess[HALF], 2 * cost[HALF], atol=1e-9)


def test_finer_grids_only_find_less():
    coarse, fine = (class_loss_profile(mae, steps=steps) for steps in (12, 24))
    assert (fine.least_excess <= coarse.least_excess + 1e-12).all()


def test_free_errors():
    # Equal scores are best where no label has more than half.
    svm = class_loss_profile(crammer_singer, margin=1.0, steps=12)
    assert not svm.calibrated
    assert svm.least_excess[-1] == pytest.approx(1.0)
    assert class_loss_profile(crammer_singer, steps=12).least_excess.max() < 1e-12


def test_symmetric_losses_and_those_without_a_lower_bound():
    for loss, normalised in ((mae, False), (linear_symmetric, True)):
        found = class_loss_profile(loss, steps=12)
        assert found.symmetric
        assert found.calibrated
        assert found.normalised == normalised
    assert class_loss_profile(ldr_top_k, steps=12).normalised
    assert class_loss_profile(functools.partial(comp_sum, tau=1.7), steps=12).noise > 0.05


def test_drawing():
    profiles = {"MAE": class_loss_profile(mae, steps=12), "SVM": None}
    profiles["SVM"] = class_loss_profile(crammer_singer, steps=12)
    axes = Figure().subplots(1, 2)
    draw_error_costs(axes[0], profiles, {"MAE": profiles["MAE"].least_excess})
    draw_noise_terms(axes[1], profiles)
    for axis in axes:
        assert [label.get_text() for label in axis.get_yticklabels()] == ["MAE", "SVM"]
    widths = [bar.get_width() for bar in axes[1].patches]
    assert widths == [profiles["MAE"].noise, profiles["SVM"].noise]


def test_bad_options():
    with pytest.raises(ValueError, match="margin must be"):
        class_loss_profile(mae, margin=-1.0)
    with pytest.raises(ValueError, match="steps must be an integer"):
        class_loss_profile(mae, steps=1)
    # On such a grid ldr_top_k would look calibrated: its ties are missed by 1/(4 steps).
    with pytest.raises(ValueError, match="steps must be a multiple of 12, got 20"):
        class_loss_profile(ldr_top_k, steps=20)


def test_ties_of_the_laws_are_met():
    for steps in (12, 24, 36):
        assert not class_loss_profile(ldr_top_k, steps=steps).calibrated
