"""The adaptive temperature: global maxima, searched rows and gradients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy
from score_rows import FOUR_SCORES, TWO_PEAKS, numeric_gradient, torch_gradient

from prefsim.losses import adaptive_dro
from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.testing.bandits import betas, tables


def brute_force(v, lambda_0, alpha, points=20_001):
    """Return the best of many temperatures, 0 among them."""
    grid = np.concatenate([[0.0], np.geomspace(1e-8 * lambda_0, lambda_0, points)])
    height = (
        kl_dro(np.broadcast_to(v, (grid.size, v.size)), lambda_=grid)
        - alpha / (2 * lambda_0) * (grid - lambda_0) ** 2
    )
    return grid[height.argmax()], height.max()


@given(
    st.integers(2, 8).flatmap(lambda size: tables((size,), low=-8.0, high=8.0)),
    betas(0.1, 10.0),
    st.sampled_from([0.1, 0.6, 1.01, 1.2, 2.0]),
)
def test_adaptive_is_the_global_maximum(v, lambda_0, ratio):
    alpha = ratio * math.log(v.size)
    found = adaptive_kl_dro(v, lambda_0=lambda_0, alpha=alpha)
    _, height = brute_force(v, lambda_0, alpha, 2001)
    assert float(found.value) >= height - 1e-12 * (1 + abs(height))
    assert float(found.value) <= height + 1e-4 * (lambda_0 + abs(height))
    assert found.residual <= 1e-10
    assert 0 <= found.lambda_ <= lambda_0 * (1 + 1e-12)


def test_adaptive_reference_values():
    v, w = FOUR_SCORES - 1.5, FOUR_SCORES
    alpha = 2 * math.log(4)
    # The temperature of the first is 0.82543814484597623973... in arithmetic of 40 digits.
    for scores, lambda_0, value, lambda_ in (
        (v, 1.0, -0.8592454611, 0.82543814484597624),
        (w, 1.0, 0.6407545389, 0.82543814484597624),
        (v, 10.0, -1.3170897378, 9.979338502839613),
        (w, 10.0, 0.1829102622, 9.979338502839613),
    ):
        found = adaptive_kl_dro(scores, lambda_0=lambda_0, alpha=alpha)
        assert float(found.value) == pytest.approx(value, abs=6e-11)
        assert float(found.lambda_) == pytest.approx(lambda_, rel=1e-13)
    flat = adaptive_kl_dro(np.zeros(4), lambda_0=3.0, alpha=alpha)
    assert (float(flat.value), float(flat.lambda_)) == (0.0, 3.0)


def test_two_peaks_of_which_the_lower_one_is_higher():
    found = adaptive_kl_dro(TWO_PEAKS, lambda_0=1.0, alpha=1.2 * math.log(10))
    best, height = brute_force(TWO_PEAKS, 1.0, 1.2 * math.log(10))
    assert float(found.lambda_) == pytest.approx(best, rel=2e-3)
    assert best < 0.2
    assert float(found.value) == pytest.approx(height, abs=1e-8)


@pytest.mark.parametrize("ratio", [1.01, 1.15, 1.18, 1.2, 1.25])
def test_a_searched_temperature_is_stationary(ratio):
    """On either peak, to rounding and not to a cell of the grid."""
    found = adaptive_kl_dro(
        TWO_PEAKS * np.linspace(0.9, 1.1, 21)[:, None], lambda_0=1.0, alpha=ratio * math.log(10)
    )
    assert (found.residual <= 1e-13).all()


@pytest.mark.parametrize(
    ("near", "count", "far", "size", "ratio"),
    [(-1.9077, 20, -2.51097, 50, 1.05), (-2.4622, 23, -3.3669, 50, 1.4)],
)
def test_the_search_finds_what_no_iteration_ends_at(near, count, far, size, ratio):
    v = np.full(size, far)
    v[0], v[1 : 1 + count] = 0.0, near
    alpha = ratio * math.log(size)
    found = adaptive_kl_dro(v, lambda_0=1.0, alpha=alpha)
    best, height = brute_force(v, 1.0, alpha)
    assert float(found.lambda_) == pytest.approx(best, rel=2e-3)
    assert height - 1e-12 <= float(found.value) <= height + 1e-6
    assert found.residual <= 1e-13


def test_one_score_is_its_own_worst_case():
    found = adaptive_kl_dro(np.asarray([[3.0], [-2.0]]), lambda_0=0.5, alpha=1.0)
    np.testing.assert_array_equal(found.value, [3.0, -2.0])
    np.testing.assert_array_equal(found.lambda_, [0.5, 0.5])
    np.testing.assert_array_equal(found.residual, [0.0, 0.0])


def test_searched_rows_do_not_touch_the_settled_ones(monkeypatch):
    """Rows with one stationary point never reach the grid, and all keep their places."""
    rows = np.stack([np.zeros(10), TWO_PEAKS, 0.1 * np.arange(10.0), TWO_PEAKS, TWO_PEAKS])
    searched = []
    original = adaptive_dro._search
    monkeypatch.setattr(
        adaptive_dro,
        "_search",
        lambda few, *rest: searched.append(few.shape[0]) or original(few, *rest),
    )
    monkeypatch.setattr(adaptive_dro, "GRID_ELEMENTS", 2 * adaptive_dro.GRID * 10)
    options = {"lambda_0": 1.0, "alpha": 1.2 * math.log(10)}
    together = adaptive_kl_dro(rows, **options)
    assert searched == [2, 1]
    np.testing.assert_allclose(
        together.lambda_, [adaptive_kl_dro(row, **options).lambda_ for row in rows], rtol=1e-14
    )


@given(tables((5,), low=-4.0, high=4.0), betas(0.3, 5.0), st.floats(0.3, 3.0))
def test_eliminating_the_temperature(v, lambda_0, ratio):
    """The same worst case over p alone.

    Σpv − λ₀KL + (λ₀/2α)KL², at p of the best temperature and at no other p more.
    """
    alpha = max(ratio, 1.01) * math.log(5)
    found = adaptive_kl_dro(v, lambda_0=lambda_0, alpha=alpha)

    def objective(p):
        divergence = np.sum(xlogy(p, 5 * p), axis=-1)
        return p @ v - lambda_0 * divergence + lambda_0 / (2 * alpha) * divergence**2

    p = kl_dro_dual(v, lambda_=found.lambda_).weights
    assert objective(p) == pytest.approx(float(found.value), abs=1e-9)
    others = np.random.default_rng(0).dirichlet(np.ones(5), 500)
    assert objective(others).max() <= float(found.value) + 1e-9


def test_adaptive_gradient_is_the_envelope():
    scores = np.random.default_rng(1).standard_normal((6, 5)) * 2
    f = lambda x: adaptive_kl_dro(x, lambda_0=1.3, alpha=1.1 * math.log(5)).value  # noqa: E731
    gradient = torch_gradient(f, scores)
    np.testing.assert_allclose(gradient, numeric_gradient(f, scores), rtol=1e-7, atol=1e-8)
    lambda_ = adaptive_kl_dro(scores, lambda_0=1.3, alpha=1.1 * math.log(5)).lambda_
    np.testing.assert_allclose(gradient, kl_dro_dual(scores, lambda_=lambda_).weights, atol=1e-12)
