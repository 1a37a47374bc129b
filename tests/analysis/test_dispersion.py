"""How unseen responses move, against the divergence that its mean estimates."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim.analysis import dispersion
from prefsim.numerics import log_softmax
from prefsim.testing.bandits import tables


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6).flatmap(
        lambda counts: st.tuples(st.just(counts), tables((len(counts),), low=-4.0, high=4.0))
    )
)
def test_the_drift_of_draws_in_proportion_is_minus_the_divergence(drawn):
    counts, logits = drawn
    start = np.log(np.asarray(counts) / np.sum(counts))
    now = log_softmax(logits)
    found = dispersion(np.repeat(now, counts), np.repeat(start, counts))
    divergence = (np.exp(start) * (start - now)).sum()
    assert found.drift == pytest.approx(-divergence, abs=1e-12)
    assert found.drift <= 1e-12
    second = (np.exp(start) * (now - start) ** 2).sum()
    assert found.spread == pytest.approx(np.sqrt(max(second - divergence**2, 0)), abs=1e-7)
    assert found.rises == pytest.approx(np.exp(start)[now > start].sum())


def test_batches_and_libraries():
    now, then = np.asarray([[-1.0, -2.0], [-3.0, -3.0]]), np.full((2, 2), -2.0)
    found = dispersion(now, then)
    np.testing.assert_allclose(found.drift, [0.5, -1.0])
    np.testing.assert_allclose(found.spread, [0.5, 0.0])
    np.testing.assert_allclose(found.rises, [0.5, 0.0])
    of_tensors = dispersion(torch.tensor(now), torch.tensor(then))
    assert isinstance(of_tensors.drift, torch.Tensor)
    np.testing.assert_allclose(of_tensors.spread, found.spread)


def test_no_responses_and_other_shapes():
    with pytest.raises(ValueError, match="at least one response along its last axis, got none"):
        dispersion(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="start_log_probs"):
        dispersion(np.zeros(2), np.zeros(3))
