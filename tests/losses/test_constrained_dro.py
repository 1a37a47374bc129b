"""Worst cases within a KL ball: values, other routes to them, ends of the interval, gradients."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from score_rows import TWO_PEAKS, numeric_gradient, torch_gradient

from prefsim.losses.constrained_dro import constrained_kl_dro
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.testing.bandits import betas, tables

FOUR = np.asarray([-0.3, -0.7, -1.1, -1.6])
SCORES = st.integers(2, 7).flatmap(lambda size: tables((3, size), low=-5.0, high=5.0))


@pytest.mark.parametrize(
    ("radius", "temperature"),
    [(0.1, 1.0197240648926733), (0.3, 0.5358263010201991), (1.0, 0.1816954349372569), (1.5, 0.05)],
)
def test_temperatures(radius, temperature):
    found = constrained_kl_dro(FOUR, radius=radius, lowest=0.05)
    assert float(found.lambda_) == pytest.approx(temperature, rel=1e-13)
    assert float(found.residual) < 1e-14


def test_value_is_that_of_the_dual_less_the_penalty_at_the_lowest_temperature():
    found = constrained_kl_dro(FOUR, radius=0.3, lowest=0.05)
    assert float(found.value) == pytest.approx(-0.5709716121023082 - 0.05 * 0.3, rel=1e-13)


@given(SCORES, st.floats(0.0, 2.0), betas(0.02, 1.0), betas(1.0, 20.0))
def test_no_other_temperature_of_the_interval_is_better(scores, radius, lowest, highest):
    found = constrained_kl_dro(scores, radius=radius, lowest=lowest, highest=highest)
    grid = np.geomspace(lowest, highest, 60)[:, None]
    others = kl_dro(scores, lambda_=np.broadcast_to(grid, (60, 3))) + (grid - lowest) * radius
    assert (found.value <= others + 1e-12).all()
    assert (found.residual <= 1e-12).all()
    assert ((found.lambda_ >= lowest) & (found.lambda_ <= highest)).all()


@given(SCORES, st.floats(0.05, 1.0))
def test_the_divergence_is_the_radius_where_the_interval_allows_it(scores, radius):
    found = constrained_kl_dro(scores, radius=radius, lowest=1e-3)
    divergence = kl_dro_dual(scores, lambda_=found.lambda_).divergence
    at_lowest = found.lambda_ == 1e-3
    np.testing.assert_allclose(divergence[~at_lowest], radius, rtol=1e-12)
    assert (divergence[at_lowest] <= radius).all()


def test_root_by_another_method():
    def excess(temperature):
        return float(kl_dro_dual(TWO_PEAKS, lambda_=temperature).divergence) - 0.7

    found = constrained_kl_dro(TWO_PEAKS, radius=0.7, lowest=0.01)
    assert float(found.lambda_) == pytest.approx(brentq(excess, 0.01, 10.0, xtol=1e-15), rel=1e-12)
    least = minimize_scalar(
        lambda t: float(kl_dro(TWO_PEAKS, lambda_=t)) + (t - 0.01) * 0.7, bounds=(0.01, 10)
    )
    assert float(found.value) == pytest.approx(least.fun, abs=1e-9)


def test_normal_scores():
    """KL = σ²/(2τ²) for normal scores, so that τ = σ/√(2ρ)."""
    scores = 0.3 * np.random.default_rng(0).standard_normal(400_000)
    found = constrained_kl_dro(scores, radius=0.3, lowest=0.01)
    assert float(found.lambda_) == pytest.approx(0.3 / math.sqrt(0.6), rel=5e-3)


def test_ends_of_the_interval():
    equal = constrained_kl_dro(np.zeros(4), radius=0.3, lowest=0.05)
    assert (float(equal.value), float(equal.lambda_)) == (0.0, 0.05)
    # log(4/2): two scores are the largest.
    tied = np.asarray([1.0, 1.0, 0.0, -1.0])
    assert float(constrained_kl_dro(tied, radius=math.log(2), lowest=1e-3).lambda_) == 1e-3
    assert float(constrained_kl_dro(tied, radius=math.log(2) - 1e-3, lowest=1e-3).lambda_) > 0.1
    mean = constrained_kl_dro(tied, radius=0.0, lowest=0.05)
    assert (float(mean.value), float(mean.lambda_)) == (0.25, math.inf)
    cut = constrained_kl_dro(FOUR, radius=0.1, lowest=0.05, highest=0.7)
    assert float(cut.lambda_) == 0.7


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale(scale):
    found = constrained_kl_dro(scale * FOUR, radius=0.3, lowest=scale * 0.05)
    assert float(found.lambda_) == pytest.approx(scale * 0.5358263010201991, rel=1e-12)


def test_gradient_and_libraries():
    def value(x):
        return constrained_kl_dro(x, radius=0.3, lowest=0.05).value

    scores = np.random.default_rng(1).standard_normal((3, 5))
    np.testing.assert_allclose(
        torch_gradient(value, scores), numeric_gradient(value, scores), atol=1e-8
    )
    strict = constrained_kl_dro(array_api_strict.asarray(scores), radius=0.3, lowest=0.05)
    np.testing.assert_allclose(np.asarray(strict.value), value(scores), rtol=1e-13)
    single = constrained_kl_dro(torch.tensor(scores, dtype=torch.float32), radius=0.3, lowest=0.05)
    assert single.lambda_.dtype == torch.float32
    np.testing.assert_allclose(single.value.numpy(), value(scores), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"radius": -0.1, "lowest": 0.05}, "radius"),
        ({"radius": 0.1, "lowest": 0.0}, "lowest"),
        ({"radius": 0.1, "lowest": 0.5, "highest": 0.4}, "highest"),
    ],
)
def test_options_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        constrained_kl_dro(FOUR, **options)
