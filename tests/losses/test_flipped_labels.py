"""Losses for flipped labels: unbiased, of known shape, and least where the clean loss is."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_references import BATCH
from scipy.special import log_ndtr, ndtr, ndtri

from prefsim import losses
from prefsim.containers import PairRewards
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit
from prefsim.testing import betas, flip_rates, pair_logps
from prefsim.testing.bandits import margins
from prefsim.worlds import ContextualBandit

# Each robust loss, and the loss that it is unbiased for, by the name of their strength.
CLEAN = {
    losses.rdpo: (losses.dpo, "beta"),
    losses.robust_ipo: (losses.ipo, "tau"),
    losses.robust_hinge: (losses.hinge, "beta"),
    losses.robust_probit: (losses.probit, "beta"),
}
every_robust = pytest.mark.parametrize("robust", CLEAN, ids=lambda loss: loss.__name__)


def pairs_of_margin(margin):
    zero = np.zeros_like(np.asarray(margin, dtype=float))
    return losses.PairLogps(np.minimum(margin, 0), np.minimum(-margin, 0), zero, zero)


@every_robust
@given(logps=pair_logps(), strength=betas(0.1, 2.0), rate=flip_rates())
def test_the_mean_over_the_flip_is_the_clean_loss(robust, logps, strength, rate):
    clean, name = CLEAN[robust]
    loss = functools.partial(robust, **{name: strength}, flip_rate=rate)
    plain = clean(logps, **{name: strength})
    parts = np.abs(plain) + np.abs(clean(logps.swapped(), **{name: strength}))
    mean = (1 - rate) * loss(logps) + rate * loss(logps.swapped())
    assert np.all(np.abs(mean - plain) <= 1e-13 * (1 + parts / (1 - 2 * rate)))


@every_robust
@given(logps=pair_logps(), strength=betas(0.1, 2.0))
def test_without_flips_nothing_is_corrected(robust, logps, strength):
    clean, name = CLEAN[robust]
    np.testing.assert_array_equal(
        robust(logps, **{name: strength}, flip_rate=0.0), clean(logps, **{name: strength})
    )


@every_robust
@given(logps=pair_logps(), strength=betas(0.1, 2.0), rate=flip_rates(0.01), seed=st.integers(0, 99))
def test_the_variance_is_larger_by_the_stated_factor(robust, logps, strength, rate, seed):
    """Of the loss over the flip: that of the clean loss over the same flip, / (1 − 2ε)²."""
    clean, name = CLEAN[robust]

    def spread(loss):
        gap = loss(logps) - loss(logps.swapped())
        return rate * (1 - rate) * gap**2

    plain = spread(functools.partial(clean, **{name: strength}))
    found = spread(functools.partial(robust, **{name: strength}, flip_rate=rate))
    np.testing.assert_allclose(found, plain / (1 - 2 * rate) ** 2, rtol=1e-9, atol=1e-9)


# --- by formulas of their own ---


@given(margins(50.0), betas(0.1, 2.0), flip_rates())
def test_robust_ipo_is_a_parabola(margin, tau, rate):
    expected = margin**2 - margin / (tau * (1 - 2 * rate)) + 1 / (4 * tau**2)
    found = losses.robust_ipo(pairs_of_margin(margin), tau=tau, flip_rate=rate)
    size = 1 + margin**2 + np.abs(margin) / (tau * (1 - 2 * rate)) + 1 / tau**2
    assert np.all(np.abs(found - expected) <= 1e-13 * size / (1 - 2 * rate))


@given(margins(50.0), betas(0.1, 2.0), flip_rates())
def test_robust_hinge_has_three_slopes(margin, beta, rate):
    """Integrated from 0, where the loss is 1: the slope changes at −1 and at 1."""
    z = beta * margin
    middle = -np.clip(z, -1, 1) / (1 - 2 * rate)
    wrong = (1 - rate) / (1 - 2 * rate) * np.maximum(-1 - z, 0)
    right = -rate / (1 - 2 * rate) * np.maximum(z - 1, 0)
    found = losses.robust_hinge(pairs_of_margin(margin), beta=beta, flip_rate=rate)
    np.testing.assert_allclose(
        found, 1 + middle + wrong + right, atol=1e-13 * (1 + np.abs(z).max()) / (1 - 2 * rate)
    )


@given(margins(20.0), betas(0.1, 1.0), flip_rates())
def test_probit_by_the_normal_distribution(margin, beta, rate):
    z = beta * margin
    plain = losses.probit(pairs_of_margin(margin), beta=beta)
    np.testing.assert_allclose(np.exp(-plain), ndtr(z), rtol=1e-12, atol=1e-300)
    found = losses.robust_probit(pairs_of_margin(margin), beta=beta, flip_rate=rate)
    expected = (rate * log_ndtr(-z) - (1 - rate) * log_ndtr(z)) / (1 - 2 * rate)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 / (1 - 2 * rate))


def test_probit_tails():
    """Square on the wrong side: log Φ(−z) = −z²/2 − log(z √2π) + log(1 − 1/z² + 3/z⁴ …)."""
    z = 40.0
    wrong = z**2 / 2 + math.log(z * math.sqrt(2 * math.pi)) - math.log(1 - z**-2 + 3 * z**-4)
    found = losses.probit(pairs_of_margin(np.asarray([-z, 38.0])), beta=1.0)
    assert found[0] == pytest.approx(wrong, rel=1e-11)
    assert 0 <= found[1] < 1e-300


def test_probit_gradient_is_the_hazard():
    """φ(z)/Φ(z), which at zero is √(2/π)."""
    chosen = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    losses.probit(losses.PairLogps(chosen, zero, zero, zero), beta=0.3).sum().backward()
    assert chosen.grad.item() == pytest.approx(-0.3 * math.sqrt(2 / math.pi), rel=1e-15)


# --- what the population of flipped labels teaches ---


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_minimisers_on_flipped_labels_are_the_clean_ones(p):
    rate, strength = 0.2, 0.5
    noisy = flip_labels(p, rate)
    stated = {
        losses.rdpo: math.log(p / (1 - p)) / strength,
        losses.robust_ipo: (2 * p - 1) / (2 * strength),
        losses.robust_probit: ndtri(p) / strength,
    }
    for robust, margin in stated.items():
        loss = functools.partial(robust, **{CLEAN[robust][1]: strength}, flip_rate=rate)
        m = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
        zero = torch.zeros_like(m)
        risk = noisy * loss(losses.PairLogps(m, zero, zero, zero))
        (risk + (1 - noisy) * loss(losses.PairLogps(zero, m, zero, zero))).sum().backward()
        assert abs(m.grad.item()) <= 1e-14


def test_robust_hinge_is_least_at_the_sign_on_flipped_labels():
    grid = np.linspace(-4, 4, 1601)
    loss = functools.partial(losses.robust_hinge, beta=0.5, flip_rate=0.2)
    for p, best in ((0.7, 2.0), (0.3, -2.0)):
        noisy, pairs = flip_labels(p, 0.2), pairs_of_margin(grid)
        risk = noisy * loss(pairs) + (1 - noisy) * loss(pairs.swapped())
        assert grid[np.argmin(risk)] == pytest.approx(best, abs=1e-12)


def test_fit_recovers_the_clean_policy_of_ipo():
    world, reference = ContextualBandit.random(2, 3, seed=1), TabularPolicy.uniform(2, 3)
    clean = Comparisons.population(world, reference, distinct=True)
    flipped = clean.relabelled(flip_labels(clean.prob, 0.3))

    def fitted(loss, data):
        return fit(reference, loss, data, reference=reference).policy.probs

    robust = functools.partial(losses.robust_ipo, tau=0.5, flip_rate=0.3)
    plain = functools.partial(losses.ipo, tau=0.5)
    np.testing.assert_allclose(fitted(robust, flipped), fitted(plain, clean), atol=1e-10)
    assert np.abs(fitted(plain, flipped) - fitted(plain, clean)).max() > 0.05


def test_the_correction_is_of_any_loss():
    rewards = PairRewards.example()
    value = losses.bradley_terry(rewards)
    reversed_value = losses.bradley_terry(rewards.swapped())
    found = losses.flip_corrected(value, reversed_value, flip_rate=0.25)
    np.testing.assert_allclose(found, 1.5 * value - 0.5 * reversed_value, rtol=1e-15)


# --- bad input ---


@pytest.mark.parametrize("value", [0.5, 0.7, -0.1, math.nan, "0.1"])
@every_robust
def test_a_flip_rate_outside_zero_to_one_half_is_refused(robust, value):
    with pytest.raises(ValueError, match=r"flip_rate must lie in \[0.0, 0.5\), got"):
        robust(BATCH, flip_rate=value)
    with pytest.raises(ValueError, match=r"flip_rate must lie in \[0.0, 0.5\), got"):
        losses.flip_corrected(np.ones(1), np.ones(1), flip_rate=value)


def test_values_and_rates_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got as_labelled \(2,\), exchanged \(3,\), flip_rate"):
        losses.flip_corrected(np.ones(2), np.ones(3), flip_rate=0.1)
    with pytest.raises(ValueError, match=r"must broadcast, got .*, flip_rate \(3,\)"):
        losses.flip_corrected(np.ones(2), np.ones(2), flip_rate=np.full(3, 0.1))


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf])
@pytest.mark.parametrize("loss", [*CLEAN, losses.probit], ids=lambda loss: loss.__name__)
def test_a_strength_that_is_not_positive_is_refused(loss, value):
    name = "tau" if loss is losses.robust_ipo else "beta"
    with pytest.raises(ValueError, match=f"{name} must be a finite number > 0, got"):
        loss(BATCH, **{name: value})


def test_an_average_without_lengths_is_refused():
    with pytest.raises(ValueError, match="chosen_length is needed by this loss, got None"):
        losses.robust_ipo(BATCH._replace(chosen_length=None), average=True)
