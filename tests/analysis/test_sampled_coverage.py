"""Coverage from draws against the coverage of enumerated policies."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import concentrability, sampled_coverage
from prefsim.testing.bandits import tables


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6).flatmap(
        lambda counts: st.tuples(st.just(counts), tables((len(counts),), low=-4.0, high=4.0))
    )
)
def test_draws_in_proportion_give_the_coefficients_of_the_policy(drawn):
    counts, scores = drawn
    policy = np.asarray(counts) / np.sum(counts)
    log_reference = scores - np.log(np.exp(scores).sum())
    log_ratio = np.repeat(np.log(policy) - log_reference, counts)
    found = sampled_coverage(log_ratio)
    largest = concentrability(np.log(policy)[None], log_reference[None])
    assert np.exp(found.log_largest) == pytest.approx(float(largest), rel=1e-12)
    chi_squared = (policy**2 / np.exp(log_reference)).sum() - 1
    assert np.exp(found.log_mean) == pytest.approx(1 + chi_squared, rel=1e-11)
    # The mean of a logarithm is below the logarithm of the mean, and that below the largest.
    assert log_ratio.mean() <= found.log_mean + 1e-12
    assert found.log_mean <= found.log_largest + 1e-12


def test_extremes_batches_and_libraries():
    rows = np.asarray([[800.0, 0.0], [-800.0, -900.0]])
    found = sampled_coverage(rows)
    np.testing.assert_allclose(found.log_mean, [800 - np.log(2), -800 - np.log(2)])
    np.testing.assert_array_equal(found.log_largest, [800.0, -800.0])
    of_tensors = sampled_coverage(torch.tensor(rows, dtype=torch.float32))
    assert of_tensors.log_mean.dtype == torch.float32
    np.testing.assert_allclose(of_tensors.log_mean, found.log_mean, rtol=1e-6)


def test_no_draws_and_no_numbers():
    with pytest.raises(ValueError, match="at least one draw along its last axis, got none"):
        sampled_coverage(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="log_ratio must hold no NaN, got nan at index 1"):
        sampled_coverage([0.0, float("nan")])
