"""Strength of preferences: the ensemble's mean and spread, groups by rank, treated labels."""

import numpy as np
import pytest
import torch

from prefsim.containers import PairRewards
from prefsim.data.strength import (
    TREATMENTS,
    half_samples,
    preference_strength,
    strength_groups,
    treat_labels,
)
from prefsim.losses import bradley_terry

MARGINS = np.array([[1.2, 0.1, -0.8, 0.4], [0.9, -0.3, -0.5, 0.7], [1.5, 0.5, -1.1, 0.1]])
STRENGTH = np.array([1.2, 0.1, -0.8, 0.4])
REWARDS = PairRewards(np.array([1.0, 0.2, -0.5, 0.3]), np.zeros(4))


def test_mean_and_population_deviation():
    found = preference_strength(MARGINS)
    np.testing.assert_allclose(found.mean, STRENGTH, atol=1e-15)
    expected = [0.24494897, 0.32659863, 0.24494897, 0.24494897]
    np.testing.assert_allclose(found.deviation, expected, atol=5e-9)
    np.testing.assert_allclose(found.deviation, MARGINS.std(axis=0), rtol=1e-14)
    batch = preference_strength(torch.tensor(np.stack([MARGINS, -MARGINS])))
    np.testing.assert_allclose(batch.mean[1], -STRENGTH, atol=1e-15)


def test_models_say_nothing_of_pairs_that_they_were_fitted_to():
    fitted = np.zeros((3, 4), dtype=bool)
    fitted[0, 0] = fitted[2, 3] = True
    found = preference_strength(MARGINS, fitted_to=fitted)
    np.testing.assert_allclose(found.mean, [1.2, 0.1, -0.8, 0.55], atol=1e-15)
    np.testing.assert_allclose(found.deviation[[0, 3]], [0.3, 0.15], atol=1e-15)
    fitted[:2, 1] = True
    with pytest.raises(ValueError, match="models that speak of a pair must be at least 2"):
        preference_strength(MARGINS, fitted_to=fitted)


@pytest.mark.parametrize("n", [2, 7, 100])
def test_half_samples_leave_every_pair_out_as_often(n):
    halves = half_samples(n, 6, seed=0)
    assert halves.shape == (6, n)
    assert (halves.sum(axis=0) == 3).all()
    assert (halves[0::2] ^ halves[1::2]).all()
    assert (halves[0::2].sum(axis=1) == n // 2).all()
    assert n == 2 or (halves[0] != halves[2]).any()


def test_groups_hold_their_shares_by_rank():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 50))
    groups = strength_groups(values)
    for row, group in zip(values, groups, strict=True):
        assert np.bincount(group).tolist() == [10, 10, 30]
        assert row[group == 0].max() < row[group == 1].min()
        assert row[group == 1].max() < row[group == 2].min()
    deciles = strength_groups(np.zeros(20), ends=np.arange(1, 10) / 10)
    assert deciles.tolist() == np.repeat(np.arange(10), 2).tolist()
    np.testing.assert_array_equal(strength_groups(torch.tensor(values)), groups)


# Means of the loss on four pairs.
TREATED = {
    "flip": 0.48495819638711213,
    "margin": 0.6853218584993152,
    "flip+margin": 0.7603218584993152,
    "soft+margin": 0.7003218584993152,
}


@pytest.mark.parametrize(("treatment", "value"), TREATED.items())
@pytest.mark.parametrize("as_given", [np.asarray, torch.tensor])
def test_values_of_treated_labels(treatment, value, as_given):
    found = treat_labels(as_given(STRENGTH), treatment, label_smoothing=0.2)
    pairs = found.apply(PairRewards(*(as_given(side) for side in REWARDS[:2])))
    loss = bradley_terry(pairs, label_smoothing=found.label_smoothing)
    assert float(loss.mean()) == pytest.approx(value, rel=1e-14)


def test_a_flipped_pair_has_a_positive_margin():
    found = treat_labels(STRENGTH, "flip+margin")
    assert (found.margin >= 0).all()
    flipped = found.apply(REWARDS)
    np.testing.assert_array_equal(flipped.chosen - flipped.rejected, [1.0, 0.2, 0.5, 0.3])
    brought = found.apply(REWARDS._replace(margin=np.full(4, 0.5)))
    np.testing.assert_allclose(brought.margin, np.abs(STRENGTH) + 0.5)


def test_which_labels_are_doubted_can_be_said():
    doubted = np.array([False, True, True, False])
    for treatment in TREATMENTS:
        found = treat_labels(STRENGTH, treatment, doubted=doubted, label_smoothing=0.3)
        flips, soft = "flip" in treatment, "soft" in treatment
        np.testing.assert_array_equal(found.flipped, doubted & flips)
        np.testing.assert_array_equal(found.label_smoothing, np.where(doubted & soft, 0.3, 0))
        signed = np.where(doubted & flips, -STRENGTH, STRENGTH)
        np.testing.assert_array_equal(found.margin, signed * ("margin" in treatment))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: preference_strength(MARGINS[:1]), "must be at least 2"),
        (lambda: preference_strength(MARGINS * np.inf), "margins must be finite"),
        (lambda: preference_strength(MARGINS, fitted_to=MARGINS), "fitted_to must be True or"),
        (lambda: half_samples(4, 3, seed=0), "members must be even"),
        (lambda: half_samples(1, 2, seed=0), "n must be"),
        (lambda: strength_groups(STRENGTH, ends=(0.4, 0.2)), "ends must rise within"),
        (lambda: strength_groups([0.0, np.nan]), "strength must hold no NaN"),
        (lambda: treat_labels(STRENGTH, "flop"), "treatment must be one of"),
        (lambda: treat_labels(STRENGTH / 0, "flip"), "strength must be finite"),
        (lambda: treat_labels(STRENGTH, "soft", label_smoothing=0.6), r"lie in \[0.0, 0.5\]"),
        (lambda: treat_labels(STRENGTH, "flip", doubted=STRENGTH), "doubted must be True or"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
