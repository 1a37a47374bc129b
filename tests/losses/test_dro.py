"""Distributionally robust means: other routes to the optimum, gradients, limits, extremes."""

import math

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import xlogy
from score_rows import FOUR_SCORES, TWO_PEAKS, numeric_gradient, torch_gradient

from prefsim.losses.adaptive_dro import adaptive_kl_dro
from prefsim.losses.dro import capped_kl_dro, capped_kl_dro_weights, kl_dro, kl_dro_dual
from prefsim.testing.bandits import betas, tables

SCORES = st.integers(1, 7).flatmap(lambda size: tables((3, size), low=-5.0, high=5.0))


# --- the primitive ---


@pytest.mark.parametrize(
    ("lambda_", "value"),
    [
        (0, 1.5),
        (0.1, 1.3613751343667806),
        (1.0, 0.6088875369659654),
        (10.0, 0.18285132249764358),
        (math.inf, 0.125),
    ],
)
def test_kl_dro_reference_values(lambda_, value):
    assert float(kl_dro(FOUR_SCORES, lambda_=lambda_)) == pytest.approx(value, abs=1e-14)


@given(SCORES, betas(0.05, 20.0))
def test_the_dual_attains_the_value(scores, lambda_):
    value, dual = kl_dro(scores, lambda_=lambda_), kl_dro_dual(scores, lambda_=lambda_)
    np.testing.assert_allclose(dual.weights.sum(-1), 1, rtol=1e-13)
    np.testing.assert_allclose(
        (dual.weights * scores).sum(-1) - lambda_ * dual.divergence, value, rtol=1e-12, atol=1e-12
    )
    np.testing.assert_array_equal(dual.slope, -dual.divergence)
    assert (dual.divergence >= 0).all()
    assert (dual.divergence <= math.log(scores.shape[-1]) + 1e-12).all()


@given(SCORES, betas(0.1, 10.0))
def test_weights_and_slope_are_the_gradient(scores, lambda_):
    dual = kl_dro_dual(scores, lambda_=lambda_)
    np.testing.assert_allclose(
        torch_gradient(lambda x: kl_dro(x, lambda_=lambda_), scores), dual.weights, atol=1e-12
    )
    at = torch.full((3,), lambda_, dtype=torch.float64, requires_grad=True)
    kl_dro(torch.tensor(scores), lambda_=at).sum().backward()
    np.testing.assert_allclose(at.grad.numpy(), dual.slope, atol=1e-11)


def test_gradcheck_twice():
    x = torch.tensor(np.random.default_rng(0).standard_normal((4, 5)), requires_grad=True)
    for lambda_ in (0.3, 2.0, 40.0):
        assert torch.autograd.gradcheck(lambda v, t=lambda_: kl_dro(v, lambda_=t), x)
        assert torch.autograd.gradgradcheck(lambda v, t=lambda_: kl_dro(v, lambda_=t), x)
        assert torch.autograd.gradgradcheck(
            lambda v, t=lambda_: capped_kl_dro(v, k=2, lambda_=t), x
        )


def test_an_array_of_temperatures_has_exact_limits_in_it():
    scores = np.broadcast_to(FOUR_SCORES, (5, 4))
    ladder = [0.0, 0.1, 1.0, 10.0, math.inf]
    each = [float(kl_dro(FOUR_SCORES, lambda_=t)) for t in ladder]
    np.testing.assert_allclose(kl_dro(scores, lambda_=np.asarray(ladder)), each, rtol=1e-15)
    duals = [kl_dro_dual(FOUR_SCORES, lambda_=t) for t in ladder]
    together = kl_dro_dual(scores, lambda_=np.asarray(ladder))
    np.testing.assert_allclose(together.weights, [d.weights for d in duals], rtol=1e-14)
    np.testing.assert_allclose(together.divergence, [d.divergence for d in duals], rtol=1e-13)
    assert duals[0].divergence == pytest.approx(math.log(4))
    assert duals[-1].divergence == 0
    moved = torch.tensor(scores.copy(), requires_grad=True)
    kl_dro(moved, lambda_=torch.tensor(ladder, dtype=torch.float64)).sum().backward()
    np.testing.assert_allclose(moved.grad.numpy(), together.weights, atol=1e-15)


def test_ties_at_zero_temperature_share_the_weight():
    dual = kl_dro_dual(np.asarray([1.0, 1.0, 0.0]), lambda_=0.0)
    np.testing.assert_array_equal(dual.weights, [0.5, 0.5, 0.0])
    assert dual.divergence == pytest.approx(math.log(1.5))
    np.testing.assert_array_equal(
        torch_gradient(lambda x: kl_dro(x, lambda_=0.0), np.asarray([1.0, 1.0, 0.0])), dual.weights
    )


@pytest.mark.parametrize("lambda_", [1e4, 1e8, 1e12])
def test_a_high_temperature_does_not_cancel(lambda_):
    """mean + Var/(2λ) + O(λ⁻²), where log(sum) − log K would lose all digits."""
    exact = FOUR_SCORES.mean() + FOUR_SCORES.var() / (2 * lambda_)
    assert float(kl_dro(FOUR_SCORES, lambda_=lambda_)) == pytest.approx(
        exact, rel=1e-8 if lambda_ < 1e5 else 1e-15
    )
    assert float(kl_dro_dual(FOUR_SCORES, lambda_=lambda_).divergence) == pytest.approx(
        FOUR_SCORES.var() / (2 * lambda_**2), rel=3e-4
    )


def test_no_mass_is_lost_in_a_large_vocabulary_of_float32():
    scores = torch.full((1, 50_000), -30.0)
    scores[0, 0] = 0.0
    exact = math.log1p(49_999 * math.exp(-30.0)) - math.log(50_000)
    assert float(kl_dro(scores, lambda_=1.0)) == pytest.approx(exact, rel=1e-6)


# --- capped weights ---


def test_capped_reference_values():
    assert float(capped_kl_dro(FOUR_SCORES, k=2, lambda_=0.8)) == pytest.approx(
        0.6377969749, abs=1e-10
    )
    np.testing.assert_allclose(
        capped_kl_dro_weights(FOUR_SCORES, k=2, lambda_=0.8),
        [0.5, 0.30914836, 0.16547519, 0.02537644],
        atol=5e-9,
    )


@given(SCORES, st.integers(1, 7), betas(0.05, 20.0))
def test_water_filling_is_feasible_and_attains_the_value(scores, k, lambda_):
    size = scores.shape[-1]
    k = min(k, size)
    p = capped_kl_dro_weights(scores, k=k, lambda_=lambda_)
    assert (p <= 1 / k + 1e-12).all()
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    divergence = xlogy(p, size * p).sum(-1)
    np.testing.assert_allclose(
        (p * scores).sum(-1) - lambda_ * divergence,
        capped_kl_dro(scores, k=k, lambda_=lambda_),
        atol=1e-11,
    )
    # No mass can be moved from one class to another with profit: equal marginal values wherever p
    # is below its cap.
    marginal = scores - lambda_ * np.log(np.maximum(p, 1e-300))
    free = (p < 1 / k - 1e-9) & (p > 1e-200)
    for row, loose, weights in zip(marginal, free, p, strict=True):
        if loose.any():
            assert np.ptp(row[loose]) <= 1e-8 * (1 + lambda_)
            assert (row[weights >= 1 / k - 1e-9] >= row[loose].max() - 1e-8 * (1 + lambda_)).all()


def test_water_filling_against_a_constrained_solver():
    rng = np.random.default_rng(4)
    for k in (2, 3):
        v = rng.standard_normal(5) * 2
        start = np.full(5, 0.2)
        objective = lambda p, v=v: -(p @ v) + 0.7 * np.sum(p * np.log(5 * p))  # noqa: E731
        cap = [(1e-12, 1 / k)] * 5
        found = minimize(
            objective,
            start,
            bounds=cap,
            constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
            options={"ftol": 1e-14},
        )
        assert float(capped_kl_dro(v, k=k, lambda_=0.7)) == pytest.approx(-found.fun, abs=1e-8)
        np.testing.assert_allclose(capped_kl_dro_weights(v, k=k, lambda_=0.7), found.x, atol=1e-5)


@given(SCORES, st.integers(1, 7))
def test_capped_limits(scores, k):
    size = scores.shape[-1]
    k = min(k, size)
    top = np.sort(scores, axis=-1)[:, ::-1][:, :k].mean(-1)
    np.testing.assert_allclose(capped_kl_dro(scores, k=k, lambda_=0.0), top, atol=1e-13)
    weights = capped_kl_dro_weights(scores, k=k, lambda_=0.0)
    np.testing.assert_allclose((weights * scores).sum(-1), top, atol=1e-13)
    assert (weights <= 1 / k + 1e-15).all()
    np.testing.assert_allclose(capped_kl_dro(scores, k=k, lambda_=1e-9), top, atol=1e-7)
    np.testing.assert_allclose(
        capped_kl_dro(scores, k=size, lambda_=0.7), scores.mean(-1), atol=1e-12
    )
    np.testing.assert_allclose(
        capped_kl_dro_weights(scores, k=size, lambda_=0.7), 1 / size, rtol=1e-12
    )
    np.testing.assert_array_equal(
        capped_kl_dro(scores, k=1, lambda_=0.7), kl_dro(scores, lambda_=0.7)
    )
    np.testing.assert_array_equal(
        capped_kl_dro(scores, k=k, lambda_=math.inf), kl_dro(scores, lambda_=math.inf)
    )


@pytest.mark.parametrize("k", [2, 3, 4])
def test_scores_tied_at_the_edge_share_what_is_left(k):
    """The limit of a low temperature, at which none of them is ahead."""
    for scores in ([2.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]):
        found = capped_kl_dro_weights(np.asarray(scores), k=k, lambda_=0.0)
        near = capped_kl_dro_weights(np.asarray(scores), k=k, lambda_=1e-3)
        np.testing.assert_allclose(found, near, atol=1e-12)
        assert found.sum() == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("lambda_", [0.0, 0.2, 3.0, math.inf])
def test_capped_gradient_is_the_weights(k, lambda_):
    scores = np.random.default_rng(3).standard_normal((4, 5))
    weights = capped_kl_dro_weights(scores, k=k, lambda_=lambda_)
    np.testing.assert_allclose(
        torch_gradient(lambda x: capped_kl_dro(x, k=k, lambda_=lambda_), scores),
        weights,
        atol=1e-13,
    )
    np.testing.assert_allclose(
        numeric_gradient(lambda x: capped_kl_dro(x, k=k, lambda_=lambda_), scores),
        weights,
        atol=1e-8,
    )


FUNCTIONS = {
    "zero": lambda x: kl_dro(x, lambda_=0),
    "tempered": lambda x: kl_dro(x, lambda_=0.7),
    "infinite": lambda x: kl_dro(x, lambda_=math.inf),
    "weights": lambda x: kl_dro_dual(x, lambda_=0.7).weights,
    "divergence": lambda x: kl_dro_dual(x, lambda_=0.7).divergence,
    "capped": lambda x: capped_kl_dro(x, k=2, lambda_=0.7),
    "capped weights": lambda x: capped_kl_dro_weights(x, k=2, lambda_=0.7),
    "top-2": lambda x: capped_kl_dro(x, k=2, lambda_=0.0),
    "top-2 weights": lambda x: capped_kl_dro_weights(x, k=2, lambda_=0.0),
    "adaptive": lambda x: adaptive_kl_dro(x, lambda_0=1.0, alpha=1.2 * math.log(10)).value,
    "temperature": lambda x: adaptive_kl_dro(x, lambda_0=1.0, alpha=1.2 * math.log(10)).lambda_,
}


# --- every function: libraries, precisions, extremes, bad input ---


@pytest.mark.parametrize("f", FUNCTIONS.values(), ids=FUNCTIONS)
def test_libraries_and_precisions_agree(f):
    rows = np.concatenate(
        [
            np.random.default_rng(2).standard_normal((2, 3, 10)) * 3,
            np.broadcast_to(TWO_PEAKS, (2, 1, 10)),
        ],
        axis=1,
    )
    expected = f(rows)
    np.testing.assert_allclose(f(torch.tensor(rows)).numpy(), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        np.asarray(f(array_api_strict.asarray(rows))), expected, rtol=1e-12, atol=1e-13
    )
    single, half = f(torch.tensor(rows, dtype=torch.float32)), f(torch.tensor(rows).bfloat16())
    assert (single.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-5, atol=2e-6)
    # The inputs carry up to 2⁻⁹ relative rounding; the arithmetic is in single precision.
    np.testing.assert_allclose(
        half.float().numpy(),
        f(torch.tensor(rows).bfloat16().double().numpy()),
        rtol=2**-8,
        atol=1e-4,
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["zero", "tempered", "infinite", "capped", "top-2", "adaptive"])
def test_extremes_are_finite(name, dtype):
    rows = 1e4 * np.sign(np.random.default_rng(5).standard_normal((5, 10)))
    rows[0] = 1e4
    rows[1] = 0.0
    moved = torch.tensor(rows, dtype=dtype, requires_grad=True)
    value = FUNCTIONS[name](moved)
    value.sum().backward()
    assert value.isfinite().all()
    assert moved.grad.isfinite().all()
    np.testing.assert_allclose(
        moved.grad.sum(-1).float().numpy(), 1, atol=0.03 if dtype == torch.bfloat16 else 1e-5
    )


def test_an_empty_batch():
    for f in FUNCTIONS.values():
        assert f(np.zeros((0, 10))).shape[0] == 0


def test_nan_is_not_hidden():
    rows = np.zeros((2, 10))
    rows[0, 3] = np.nan
    for f in FUNCTIONS.values():
        with np.errstate(invalid="ignore"):
            found = f(rows)
        assert np.isnan(found[0]).any()
        assert not np.isnan(found[1]).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_dro(FOUR_SCORES, lambda_=-0.1), r"lambda_ must lie in \[0.0, inf\], got -0.1"),
        (
            lambda: kl_dro(FOUR_SCORES, lambda_=math.nan),
            r"lambda_ must lie in \[0.0, inf\], got nan",
        ),
        (
            lambda: kl_dro_dual(FOUR_SCORES, lambda_="warm"),
            r"lambda_ must lie in \[0.0, inf\], got 'warm'",
        ),
        (
            lambda: kl_dro(np.stack([FOUR_SCORES] * 2), lambda_=np.asarray([0.5, -0.5])),
            r"^lambda_ must lie in \[0, inf\], got -0.5 at index 1",
        ),
        (
            lambda: kl_dro(np.stack([FOUR_SCORES] * 2), lambda_=np.ones(3)),
            r"^shapes must broadcast, got scores \(2,\), lambda_ \(3,\)",
        ),
        (
            lambda: kl_dro_dual(np.stack([FOUR_SCORES] * 2), lambda_=np.ones(3)),
            r"^shapes must broadcast, got scores \(2,\), lambda_ \(3,\)",
        ),
        (
            lambda: capped_kl_dro(FOUR_SCORES, k=0, lambda_=1.0),
            r"k must be an integer in \[1, 4\], got 0",
        ),
        (
            lambda: kl_dro(FOUR_SCORES, lambda_=np.float64("nan")),
            r"lambda_ must lie in \[0.0, inf\], got np.float64\(nan\)",
        ),
        (
            lambda: kl_dro_dual(FOUR_SCORES, lambda_=np.float32("nan")),
            r"lambda_ must lie in \[0.0, inf\], got np.float32\(nan\)",
        ),
        (
            lambda: capped_kl_dro(FOUR_SCORES, k=5, lambda_=1.0),
            r"k must be an integer in \[1, 4\], got 5",
        ),
        (
            lambda: capped_kl_dro_weights(FOUR_SCORES, k=1.5, lambda_=1.0),
            r"k must be an integer in \[1, 4\], got 1.5",
        ),
        (
            lambda: capped_kl_dro(FOUR_SCORES, k=2, lambda_=-1.0),
            r"lambda_ must lie in \[0.0, inf\], got -1.0",
        ),
        (
            lambda: adaptive_kl_dro(FOUR_SCORES, lambda_0=0.0, alpha=1.0),
            "lambda_0 must be a finite number > 0, got 0.0",
        ),
        (
            lambda: adaptive_kl_dro(FOUR_SCORES, lambda_0=1.0, alpha=math.inf),
            "alpha must be a finite number > 0, got inf",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
