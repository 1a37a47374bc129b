"""Calibrated rewards and values: golden values, a round trip, derivatives, tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.gradients import gradient
from prefsim.numerics import log_softmax
from prefsim.solvers import calibrated_reward, calibrated_value, gibbs_log_policy
from prefsim.testing.bandits import betas, tables

REFERENCE = np.array([0.5, 0.3, 0.2])
POLICY = np.array([0.2, 0.5, 0.3])
LAWS = tables((2, 4), low=-2.0, high=2.0).map(log_softmax)


def test_golden_values():
    # Computed with forty digits.
    reward = calibrated_reward(np.log(POLICY), np.log(REFERENCE), REFERENCE, beta=0.5)
    np.testing.assert_allclose(reward, [-0.3462430373, 0.3673151405, 0.3146348826], atol=1e-10)
    value = calibrated_value(reward, np.log(REFERENCE), REFERENCE, beta=0.5)
    assert value == pytest.approx(0.1119023286, abs=1e-10)


@given(LAWS, LAWS, LAWS, betas(0.05, 2.0))
def test_a_policy_is_the_best_one_of_its_reward(log_policy, log_reference, calibration, beta):
    calibration = np.exp(calibration)
    reward = calibrated_reward(log_policy, log_reference, calibration, beta=beta)
    back, log_normaliser = gibbs_log_policy(reward, log_reference, beta=beta)
    np.testing.assert_allclose(back, log_policy, atol=1e-12)
    np.testing.assert_allclose((calibration * reward).sum(axis=-1), 0.0, atol=1e-12)
    value = calibrated_value(reward, log_reference, calibration, beta=beta)
    np.testing.assert_allclose(value, beta * log_normaliser, atol=1e-12)
    mean = (calibration * (log_policy - log_reference)).sum(axis=-1)
    np.testing.assert_allclose(value, -beta * mean, atol=1e-12)


@given(tables((2, 4), low=-3.0, high=3.0), LAWS, LAWS, betas(0.1, 2.0), st.floats(-5.0, 5.0))
def test_the_value_knows_no_shift_and_its_slope(reward, log_reference, calibration, beta, shift):
    calibration = np.exp(calibration)
    value = calibrated_value(reward, log_reference, calibration, beta=beta)
    moved = calibrated_value(reward + shift, log_reference, calibration, beta=beta)
    np.testing.assert_allclose(moved, value, atol=1e-12)
    slope = gradient(lambda r: calibrated_value(r, log_reference, calibration, beta=beta), reward)
    policy = np.exp(gibbs_log_policy(reward, log_reference, beta=beta)[0])
    np.testing.assert_allclose(slope, policy - calibration, atol=1e-12)


def test_tensors_in_and_several_betas():
    tensors = [torch.as_tensor(x) for x in (np.log(POLICY), np.log(REFERENCE), REFERENCE)]
    found = calibrated_reward(*tensors, beta=torch.tensor([0.5, 1.0]))
    assert isinstance(found, torch.Tensor)
    assert found.shape == (2, 3)
    expected = calibrated_reward(np.log(POLICY), np.log(REFERENCE), REFERENCE, beta=1.0)
    np.testing.assert_allclose(found[1], expected, atol=1e-12)
    value = calibrated_value(found, *tensors[1:], beta=torch.tensor([0.5, 1.0]))
    assert value.shape == (2,)
    assert value[1] == pytest.approx(2 * float(value[0]), abs=1e-12)


def test_what_is_refused():
    with pytest.raises(ValueError, match="calibration"):
        calibrated_value(np.zeros(3), np.log(REFERENCE), [0.5, 0.6, 0.2], beta=1.0)
    with pytest.raises(ValueError, match="calibration"):
        calibrated_reward(np.log(POLICY), np.log(REFERENCE), [0.5, 0.5], beta=1.0)
    with pytest.raises(ValueError, match="beta must be"):
        calibrated_value(np.zeros(3), np.log(REFERENCE), REFERENCE, beta=0.0)
