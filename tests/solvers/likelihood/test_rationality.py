"""One inverse temperature from margins and probabilities, and folds of its data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim.solvers.likelihood.rationality import cross_validated_loss, fit_rationality


@given(st.floats(-2, 2), st.integers(0, 2**32 - 1))
def test_rationality_is_recovered_from_exact_probabilities(beta, seed):
    margin = np.random.default_rng(seed).standard_normal(30)
    found = fit_rationality(margin, 1 / (1 + np.exp(-beta * margin)))
    assert found.beta == pytest.approx(beta, abs=1e-7)
    assert abs(found.gradient) < 1e-10


def test_folds_are_fits_without_their_rows():
    rng = np.random.default_rng(0)
    margin, prob = rng.standard_normal(40), rng.integers(0, 2, 40).astype(float)
    keep = np.arange(40) % 4 != 0
    one, many = (
        fit_rationality(margin[keep], prob[keep]),
        fit_rationality(margin, prob, np.stack([keep, ~keep])),
    )
    assert many.beta[0] == pytest.approx(one.beta, rel=1e-9)
    assert many.value.shape == (2,)
    alone = [fit_rationality(np.delete(margin, i), np.delete(prob, i)).beta for i in range(40)]
    expected = np.mean(np.log1p(np.exp(-np.where(prob == 1, 1, -1) * np.array(alone) * margin)))
    assert cross_validated_loss(margin, prob, folds=40) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("margin", "prob", "weight", "message"),
    [
        ([1.0, 2.0], [1.0, 1.0], None, "must not separate the labels"),
        ([1.0, -2.0], [0.0, 1.0], None, "must not separate the labels"),
        ([1.0, 2.0], [1.0], None, "one length"),
        ([], [], None, "one length >= 1"),
        ([1.0, 2.0], [1.5, 0.0], None, "prob must lie in"),
        ([1.0, 2.0], [1.0, 0.0], [-1.0, 2.0], "weight must be >= 0"),
        ([1.0, 2.0], [1.0, 0.0], [0.0, 0.0], "positive sum"),
    ],
)
def test_rationality_bad_input(margin, prob, weight, message):
    with pytest.raises(ValueError, match=message):
        fit_rationality(margin, prob, weight)


def test_folds_bad_input():
    with pytest.raises(ValueError, match="folds must be an integer"):
        cross_validated_loss([1.0, -1.0, 1.0], [0.0, 1.0, 1.0], folds=1)
