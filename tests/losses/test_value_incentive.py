"""VPO: its golden values on a table of counts, what it is made of, and its bad inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.losses import PairLogps, dpo, rpo, vpo
from prefsim.losses.value_incentive import CALIBRATIONS
from prefsim.testing.bandits import betas, pair_logps

COUNTS = np.array([[0, 1, 2], [3, 0, 1], [0, 2, 0]])
WEIGHTS = st.floats(0.0, 3.0)


def test_golden_values_where_each_pair_is_calibrated_by_both_its_responses():
    # π_ref = (.5, .3, .2), β = .5, π = (.2, .5, .3), each ordered pair as often as counted: the
    # sum of DPO was computed with forty digits.
    ratio = np.log(np.array([0.2, 0.5, 0.3]) / np.array([0.5, 0.3, 0.2]))
    first, second = np.nonzero(COUNTS)
    zero = np.zeros(len(first))
    pairs, times = PairLogps(ratio[first], ratio[second], zero, zero), COUNTS[first, second]
    assert times @ dpo(pairs, beta=0.5) == pytest.approx(6.5696420592, abs=1e-10)
    shown = (COUNTS.sum(axis=0) + COUNTS.sum(axis=1)) / 2
    for optimistic, sign in ((True, 1), (False, -1)):
        both = vpo(pairs, beta=0.5, alpha=0.7, optimistic=optimistic, calibration="pair")
        expected = 6.5696420592 + sign * 0.35 * shown @ ratio
        assert times @ both == pytest.approx(expected, abs=1e-10)


@given(pair_logps(), betas(), WEIGHTS)
def test_the_two_signs_are_equally_far_from_dpo(logps, beta, alpha):
    for calibration in CALIBRATIONS:
        up, down = (
            vpo(logps, beta=beta, alpha=alpha, optimistic=sign, calibration=calibration)
            for sign in (True, False)
        )
        np.testing.assert_allclose((up + down) / 2, dpo(logps, beta=beta), rtol=1e-12, atol=1e-12)
    nothing = vpo(logps, beta=beta, alpha=0.0)
    np.testing.assert_array_equal(nothing, dpo(logps, beta=beta))


@given(pair_logps(), betas(), WEIGHTS)
def test_pessimism_on_the_chosen_is_dpo_with_an_sft_term(logps, beta, alpha):
    constant = alpha * beta * logps.ref_chosen
    expected = rpo(logps, beta=beta, eta=alpha) + constant
    np.testing.assert_allclose(vpo(logps, beta=beta, alpha=alpha), expected, rtol=1e-12, atol=1e-10)


@given(pair_logps(), betas(), WEIGHTS, st.booleans())
def test_both_responses_calibrate_alike(logps, beta, alpha, optimistic):
    options = {"beta": beta, "alpha": alpha, "optimistic": optimistic, "calibration": "pair"}
    exchanged = vpo(logps.swapped(), **options) - dpo(logps.swapped(), beta=beta)
    np.testing.assert_allclose(
        exchanged, vpo(logps, **options) - dpo(logps, beta=beta), rtol=1e-9, atol=1e-10
    )


def test_what_is_refused():
    pair = PairLogps.example()
    with pytest.raises(ValueError, match="alpha must be"):
        vpo(pair, alpha=-0.1)
    with pytest.raises(ValueError, match="calibration must be one of"):
        vpo(pair, calibration="reference")
    with pytest.raises((TypeError, ValueError), match="optimistic"):
        vpo(pair, optimistic="yes")
