"""Losses on a rejected response and anchoring samples: what they refuse."""

import numpy as np
import pytest

from prefsim import losses

LOGPS = losses.AnchoredLogps(
    rejected=np.asarray([-0.4]),
    ref_rejected=np.zeros(1),
    samples=np.asarray([[0.5, -0.2, 0.3]]),
    ref_samples=np.zeros((1, 3)),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"samples": np.zeros((1, 0)), "ref_samples": np.zeros((1, 0))},
            "samples must hold at least one sample along the last axis, got shape",
        ),
        ({"ref_samples": np.zeros((1, 2))}, "one shape"),
        (
            {"rejected": np.zeros(2), "ref_rejected": np.zeros(2)},
            r"samples must have shape \(2, 'K'\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        losses.d2o(LOGPS._replace(**changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number > 0"),
        ({"alpha": -0.1}, "alpha must be a finite number > 0"),
        ({"level": "mean"}, "level must be one of 'distribution', 'instance'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        losses.d2o(LOGPS, **options)
