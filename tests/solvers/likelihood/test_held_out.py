"""Held-out cross-entropies: every comparison is judged by a fit that has not seen it."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from prefsim.solvers.likelihood.rationality import cross_validated_loss, fit_rationality

RNG = np.random.default_rng(0)
MARGIN = RNG.normal(size=23) * 3
PROB = np.where(RNG.random(23) < 0.1, 0.5, (RNG.random(23) < 1 / (1 + np.exp(-MARGIN))))


def cross_entropy(beta, margin, prob, weight):
    logits = beta * margin
    return np.sum(weight * (np.logaddexp(0, logits) - prob * logits)) / np.sum(weight)


@pytest.mark.parametrize("folds", [2, 5, 23])
def test_every_fold_is_judged_by_the_others(folds):
    parts = np.array_split(np.random.default_rng(4).permutation(23), folds)
    total = 0.0
    for part in parts:
        rest = np.setdiff1d(np.arange(23), part)
        beta = fit_rationality(MARGIN[rest], PROB[rest]).beta
        total += cross_entropy(beta, MARGIN[part], PROB[part], np.ones(len(part))) * len(part)
    found = cross_validated_loss(MARGIN, PROB, folds=folds, seed=4)
    assert found == pytest.approx(total / 23, rel=1e-10)


def test_ten_folds_of_seed_0_unless_told_otherwise():
    expected = cross_validated_loss(MARGIN, PROB, folds=10, seed=0)
    assert cross_validated_loss(MARGIN, PROB) == expected
    assert cross_validated_loss(MARGIN, PROB, folds=9) != expected
    assert cross_validated_loss(MARGIN, PROB, seed=1) != expected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_fit_minimises_the_weighted_cross_entropy(sign):
    weight = RNG.uniform(0.1, 2.0, (2, 3, 23))
    found = fit_rationality(sign * MARGIN, PROB, weight)
    assert found.beta.shape == (2, 3) and (np.sign(found.beta) == sign).all()
    for index in np.ndindex(2, 3):
        other = minimize_scalar(
            cross_entropy, args=(sign * MARGIN, PROB, weight[index]), options={"xtol": 1e-12}
        )
        assert found.beta[index] == pytest.approx(other.x, rel=1e-6)
        assert found.value[index] == pytest.approx(other.fun, rel=1e-12)
    assert np.abs(found[2]).max() < 1e-10


@pytest.mark.parametrize(
    ("margin", "prob"),
    [([1.0, 2.0], [1.0, 1.0]), ([1.0, -2.0], [1.0, 0.0]), ([0.0, 0.0], [1.0, 0.0])],
)
def test_labels_that_margins_separate_have_no_fit(margin, prob):
    with pytest.raises(ValueError, match="margins must not separate the labels"):
        fit_rationality(margin, prob)
