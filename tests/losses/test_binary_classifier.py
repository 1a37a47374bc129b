"""Binary classifier optimisation: losses, running shift and prompt weights, by their numbers."""

import functools

import numpy as np
import pytest

from prefsim import losses
from prefsim.gradients import loss_gradient

# Rewards of three pairs, read at β = 1; their mean is −.0125.
CHOSEN, REJECTED = np.asarray([0.05, -0.125, 0.15]), np.asarray([-0.05, 0.15, -0.25])
PAIRS = losses.PairLogps(CHOSEN, REJECTED, np.zeros(3), np.zeros(3))
VALUES = [0.66238538, 0.75097838, 0.61519434, 0.67457295, 0.77769434, 0.58143145]


def thumbs(rewards, desirable):
    rewards = np.asarray(rewards, dtype=float)
    return losses.UnpairedLogps(rewards, np.zeros_like(rewards), np.asarray(desirable))


BATCH = thumbs(np.r_[CHOSEN, REJECTED], np.arange(6) < 3)


def test_losses_of_a_batch():
    found = losses.bco_unpaired(BATCH, beta=1.0)
    np.testing.assert_allclose(found, VALUES, atol=6e-9)
    assert found.mean() == pytest.approx(0.6770428062896375, rel=1e-14)


def test_paired_and_unpaired_agree():
    single = losses.bco_unpaired(BATCH, beta=1.0)
    np.testing.assert_allclose(losses.bco(PAIRS, beta=1.0), single[:3] + single[3:], rtol=1e-14)
    unshifted = [1.33691930, 1.52855608, 1.19689647]
    np.testing.assert_allclose(losses.bco_pair(PAIRS, beta=1.0), unshifted, atol=6e-9)


def test_running_shift():
    first = losses.RewardShift().updated(np.r_[CHOSEN, REJECTED])
    assert first.mean == pytest.approx(-0.0125, abs=1e-16)
    second = first.updated([0.3, -0.1])
    assert second == (pytest.approx(0.015625, abs=1e-16), 8)
    batch = thumbs([0.3, -0.1], [True, False])
    found = losses.bco_unpaired(batch, beta=1.0, shift=second.mean)
    np.testing.assert_allclose(found, [0.56103444, 0.63700489], atol=6e-9)


def test_prompt_weights():
    weights = losses.density_ratio_weights([0.8, 0.3, 0.99])
    np.testing.assert_allclose(weights, [4.0, 0.5, 10.0], rtol=1e-14)
    with np.errstate(all="raise"):
        certain = losses.density_ratio_weights([0.0, 1.0])
    np.testing.assert_array_equal(certain, [0.5, 10.0])
    weighted = losses.bco_unpaired(BATCH, beta=1.0, density_ratio=np.full(6, 3.0))
    np.testing.assert_allclose(weighted, np.asarray(VALUES) * np.repeat([1.0, 3.0], 3), atol=2e-8)


def test_its_gradient_stays_where_that_of_kto_vanishes():
    batch = thumbs([-5.0, 0.0, 5.0], np.ones(3, bool))
    kto = functools.partial(losses.kto, beta=1.0, reference_point=0.0)
    found = loss_gradient(kto, batch).logp
    np.testing.assert_allclose(found, [-0.00664806, -0.25, -0.00664806], atol=6e-9)
    bco = functools.partial(losses.bco_unpaired, beta=1.0, shift=0.0)
    found = loss_gradient(bco, batch).logp
    np.testing.assert_allclose(found, [-0.99330715, -0.5, -0.00669285], atol=6e-9)


def test_one_class_alone_is_legal():
    found = losses.bco_unpaired(thumbs([0.2, 0.4], [True, True]), beta=1.0)
    np.testing.assert_allclose(found, np.log1p(np.exp([0.1, -0.1])), rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.bco_unpaired(BATCH, beta=0.0), "beta must be a finite number > 0"),
        (lambda: losses.bco_unpaired(BATCH._replace(desirable=np.ones(2, bool))), "one shape"),
        (
            lambda: losses.bco_unpaired(BATCH._replace(desirable=np.ones(6))),
            "desirable must hold booleans, got dtype float64",
        ),
        (lambda: losses.RewardShift().updated([]), "at least one value, got 0"),
        (lambda: losses.RewardShift().updated([np.nan]), "^rewards must be finite"),
        (lambda: losses.RewardShift().updated([1.0], [np.nan]), "^weight must be finite"),
        (lambda: losses.RewardShift().updated([1.0], "x"), "^weight must be"),
        (
            lambda: losses.RewardShift().updated([1.0] * 2, [-1.0, 2.0]),
            "weight must be >= 0 and not",
        ),
        (lambda: losses.RewardShift().updated([1.0] * 2, [0.0, 0.0]), "not zero everywhere, got"),
        (lambda: losses.density_ratio_weights([1.2]), r"prob must lie in \[0, 1\]"),
        (lambda: losses.density_ratio_weights([0.5], low=3.0, high=2.0), "low must be <= high"),
        (lambda: losses.density_ratio_weights([0.5], low=-1.0), "low must be"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
