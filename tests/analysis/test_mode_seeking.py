"""Both directions of the KL divergence: gradients against automatic ones, and who moves faster."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import kl_gradients, logarithmic_mean
from prefsim.gradients import gradient
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.testing.bandits import tables

LOGITS = tables((2, 3, 5), low=-6.0, high=6.0)
POSITIVE = st.floats(-300.0, 300.0)


def test_values():
    found = kl_gradients(np.log([0.4, 0.4, 0.2]), np.log([0.3, 0.05, 0.65]))
    np.testing.assert_allclose(found.forward, [0.1, 0.35, -0.45], atol=1e-15)
    step = log_softmax(np.log([0.4, 0.4, 0.2]) - found.reverse)
    np.testing.assert_allclose(np.exp(step), [0.47521218, 0.23207431, 0.29271351], atol=5e-9)
    step = log_softmax(np.log([0.4, 0.4, 0.2]) - found.forward)
    np.testing.assert_allclose(np.exp(step), [0.37801077, 0.29439508, 0.32759415], atol=5e-9)
    assert float(logarithmic_mean(np.log(0.3), np.log(0.05))) == pytest.approx(0.1395276566)


@given(LOGITS, LOGITS)
def test_gradients_are_those_of_the_divergences(logits, target):
    target = log_softmax(target)
    found = kl_gradients(log_softmax(logits), target)
    forward = gradient(lambda z: categorical_kl(torch.as_tensor(target), log_softmax(z)), logits)
    reverse = gradient(lambda z: categorical_kl(log_softmax(z), torch.as_tensor(target)), logits)
    np.testing.assert_allclose(found.forward, forward, atol=1e-13)
    np.testing.assert_allclose(found.reverse, reverse, atol=1e-12)


@given(POSITIVE, POSITIVE)
def test_the_logarithmic_mean_lies_between_the_other_two(first, second):
    mean = float(logarithmic_mean(np.asarray(first), np.asarray(second)))
    both = np.exp([first, second])
    assert np.exp(0.5 * (first + second)) * (1 - 1e-14) <= mean <= both.mean() * (1 + 1e-14)
    assert mean == float(logarithmic_mean(np.asarray(second), np.asarray(first)))


@given(st.floats(-5.0, 5.0), st.floats(0.0, 1e-6))
def test_nearly_equal_numbers_lose_no_digits(first, apart):
    mean = float(logarithmic_mean(np.asarray(first + apart), np.asarray(first)))
    assert mean == pytest.approx(np.exp(first + 0.5 * (first + apart - first)), rel=1e-12)


@pytest.mark.parametrize("library", [torch, array_api_strict], ids=["torch", "strict"])
def test_other_libraries(library):
    policy, target = np.log([0.4, 0.4, 0.2]), np.log([0.3, 0.05, 0.65])
    ours, theirs = library.asarray(policy), library.asarray(target)
    for found, expected in zip(
        kl_gradients(ours, theirs), kl_gradients(policy, target), strict=True
    ):
        np.testing.assert_allclose(np.asarray(found), expected, atol=1e-15)
    mean = logarithmic_mean(ours, theirs)
    np.testing.assert_allclose(np.asarray(mean), logarithmic_mean(policy, target), atol=1e-15)


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="arrays must have one shape, got log_policy"):
        kl_gradients(np.log([0.5, 0.5]), np.log([0.2, 0.3, 0.5]))
