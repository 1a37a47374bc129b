"""Perturbed leaders: values, closed forms of two actions, samples, and posterior draws."""

import array_api_strict
import numpy as np
import pytest
import torch
from scipy.special import ndtr

from prefsim.solvers.online_learning.ftpl import NOISES, ftpl, posterior_scale
from prefsim.solvers.online_learning.hedge import hedge

L = np.array([0.3, 1.2, -0.4])
DRAWS = {
    "gumbel": lambda rng, shape: rng.gumbel(size=shape),
    "gaussian": lambda rng, shape: rng.standard_normal(shape),
    "logistic": lambda rng, shape: rng.logistic(size=shape),
    "laplace": lambda rng, shape: rng.laplace(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "uniform": lambda rng, shape: rng.random(shape),
}


def test_values():
    np.testing.assert_allclose(
        ftpl(L, scale=2.0, noise="gaussian"), [0.32580722, 0.17690252, 0.49729026], atol=5e-9
    )
    assert ftpl(L[:2], scale=2.0, noise="gaussian")[0] == pytest.approx(0.6248326447, abs=5e-11)


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_probabilities_are_those_of_samples(noise):
    rng = np.random.default_rng(0)
    draws = 200_000
    scale = 1.5
    best = (L - scale * DRAWS[noise](rng, (draws, 3))).argmin(axis=-1)
    shares = np.bincount(best, minlength=3) / draws
    # Five standard errors.
    np.testing.assert_allclose(ftpl(L, scale=scale, noise=noise), shares, atol=5 * 0.5 / draws**0.5)


def test_two_actions_have_closed_forms():
    gaps = np.linspace(-3.0, 3.0, 13)
    pairs = np.stack([np.zeros_like(gaps), gaps], axis=-1)

    def first(noise):
        return ftpl(pairs, scale=1.0, noise=noise)[:, 0]

    np.testing.assert_allclose(first("gaussian"), ndtr(gaps / np.sqrt(2)), atol=1e-13)
    np.testing.assert_allclose(first("gumbel"), 1 / (1 + np.exp(-gaps)), atol=1e-13)
    # The difference of two exponentials is Laplace's law, that of two uniforms a triangle.
    laplace = np.where(gaps < 0, np.exp(gaps) / 2, 1 - np.exp(-gaps) / 2)
    np.testing.assert_allclose(first("exponential"), laplace, atol=1e-13)
    inside = np.clip(gaps, -1, 1)
    triangle = np.where(inside < 0, (1 + inside) ** 2 / 2, 1 - (1 - inside) ** 2 / 2)
    np.testing.assert_allclose(first("uniform"), triangle, atol=1e-13)


def test_gumbel_noise_is_hedge_by_both_ways():
    rows = np.random.default_rng(1).normal(size=(4, 2, 5))
    expected = hedge(rows, step=1 / 0.7)
    np.testing.assert_allclose(ftpl(rows, scale=0.7), expected, atol=1e-15)
    np.testing.assert_allclose(ftpl(rows, scale=0.7, noise=NOISES["gumbel"]), expected, atol=1e-12)


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_what_all_share_and_far_losses(noise):
    found = ftpl(L, scale=1.0, noise=noise)
    np.testing.assert_allclose(ftpl(L + 7.0, scale=1.0, noise=noise), found, atol=1e-12)
    np.testing.assert_allclose(ftpl(3 * L, scale=3.0, noise=noise), found, atol=1e-12)
    np.testing.assert_allclose(ftpl(np.zeros(4), scale=1.0, noise=noise), 0.25, atol=1e-13)
    assert (ftpl([0.0, 1e7, -1e7], scale=1.0, noise=noise) == [0.0, 0.0, 1.0]).all()


def test_scales_broadcast_and_other_libraries():
    scales = np.array([0.5, 2.0])
    both = ftpl(np.stack([L, L]), scale=scales, noise="gaussian")
    for row, scale in zip(both, scales, strict=True):
        np.testing.assert_allclose(row, ftpl(L, scale=float(scale), noise="gaussian"), atol=1e-15)
    strict = ftpl(array_api_strict.asarray(L), scale=2.0, noise="laplace")
    np.testing.assert_allclose(np.asarray(strict), ftpl(L, scale=2.0, noise="laplace"), rtol=1e-12)
    moving = torch.tensor(L, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ftpl(x, scale=2.0, noise="gaussian"), moving)


def test_a_posterior_draw():
    assert posterior_scale(24, prior=1.0, noise=1.0) == pytest.approx(5.0)
    # The scale of means of one loss: L/(1 + τ²/σ²) has the deviation τ/√(1 + τ²/σ²).
    loss, prior, noise = L, 0.8, 1.7
    mean, deviation = loss / (1 + (noise / prior) ** 2), noise / (1 + (noise / prior) ** 2) ** 0.5
    np.testing.assert_allclose(
        ftpl(mean, scale=deviation, noise="gaussian"),
        ftpl(loss, scale=posterior_scale(1, prior=prior, noise=noise), noise="gaussian"),
        atol=1e-13,
    )


def test_bad_input():
    with pytest.raises(ValueError, match="scale must be a finite number > 0"):
        ftpl(L, scale=0.0)
    with pytest.raises(ValueError, match="noise"):
        ftpl(L, scale=1.0, noise="cauchy")


@pytest.mark.parametrize("actions", [3, 100])
def test_many_actions_one_of_which_leads(actions):
    lead = 0.05
    losses = np.append(0.0, np.full(actions - 1, lead))
    # Where its own noise is within the lead of the end it wins for sure.
    expected = lead + (1.0 - lead**actions) / actions
    assert ftpl(losses, scale=1.0, noise="uniform")[0] == pytest.approx(expected, rel=1e-10)


def test_what_is_no_law_is_refused():
    with pytest.raises(ValueError, match="noise"):
        ftpl(L, scale=1.0, noise=3)
