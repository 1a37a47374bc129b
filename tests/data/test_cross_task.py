"""Labels through a coupling: values, what they keep of the source's, and what is refused."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.data.cross_task import transferred_preference

COUPLING = np.array([[1 / 3, 0], [1 / 6, 1 / 6], [0, 1 / 3]])
PREFERENCE = np.array([[0.5, 1, 1], [0, 0.5, 0.8], [0, 0.2, 0.5]])


def test_values_of_a_small_coupling():
    found = transferred_preference(COUPLING, PREFERENCE)
    np.testing.assert_allclose(found, [[0.5, 0.9], [0.1, 0.5]], atol=1e-15)


def test_without_the_factor_labels_shrink():
    assert (COUPLING.T @ PREFERENCE @ COUPLING).max() < 0.25


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_any_coupling_carries_means_of_labels(seed, m, n):
    rng = np.random.default_rng(seed)
    coupling = rng.dirichlet(np.ones(m * n)).reshape(m, n)
    half = np.triu(rng.uniform(-0.5, 0.5, (m, m)), 1)
    labels = 0.5 + half - half.T
    found = transferred_preference(coupling, labels)
    shares = coupling / coupling.sum(axis=0)
    expected = np.einsum("ij,kl,ik->jl", shares, shares, labels)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    np.testing.assert_allclose(found + found.T, 1.0, atol=1e-14)
    np.testing.assert_allclose(transferred_preference(7 * coupling, labels), found, atol=1e-14)


def test_leading_axes_and_libraries():
    couplings, labels = np.stack([COUPLING, COUPLING[::-1]]), np.stack([PREFERENCE] * 2)
    found = transferred_preference(couplings, labels)
    for k in range(2):
        np.testing.assert_array_equal(found[k], transferred_preference(couplings[k], PREFERENCE))
    for library in (torch.as_tensor, array_api_strict.asarray):
        other = transferred_preference(library(couplings), library(labels))
        np.testing.assert_allclose(np.asarray(other), found, rtol=1e-14)
    leaf = torch.as_tensor(COUPLING).requires_grad_()
    transferred_preference(leaf, PREFERENCE)[0, 1].backward()
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("coupling", "preference", "message"),
    [
        (-COUPLING, PREFERENCE, "coupling must be finite and >= 0"),
        (COUPLING * np.array([1.0, 0.0]), PREFERENCE, "coupling must send something to every"),
        (COUPLING, PREFERENCE + 1, r"preference must lie in \[0, 1\]"),
        (COUPLING, 0.9 * PREFERENCE, "preference must satisfy"),
        (COUPLING, PREFERENCE[:2, :2], r"preference must have trailing shape \(3, 3\)"),
        (COUPLING[0], PREFERENCE, "coupling must have trailing shape"),
        (COUPLING * np.nan, PREFERENCE, "coupling must hold no NaN"),
    ],
)
def test_what_is_no_coupling_or_label_is_refused(coupling, preference, message):
    with pytest.raises(ValueError, match=message):
        transferred_preference(coupling, preference)
