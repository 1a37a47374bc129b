"""The elementary functions.

Against mpmath-free identities, at extremes, on three array libraries.
"""

import math
import warnings

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from prefsim import numerics

finite = st.floats(-1e4, 1e4)
vectors = arrays(np.float64, st.integers(1, 8), elements=st.floats(-50, 50))


@given(finite)
def test_log_sigmoid_and_softplus_match_scipy(x):
    a = np.asarray(x)
    np.testing.assert_allclose(numerics.log_sigmoid(a), special.log_expit(x), rtol=1e-14)
    np.testing.assert_allclose(numerics.softplus(a), -special.log_expit(-x), rtol=1e-14)
    np.testing.assert_allclose(numerics.sigmoid(a), special.expit(x), rtol=1e-14)


@given(vectors)
def test_logsumexp_and_log_softmax_match_scipy(x):
    np.testing.assert_allclose(numerics.logsumexp(x), special.logsumexp(x), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(
        numerics.log_softmax(x), special.log_softmax(x), rtol=1e-13, atol=1e-13
    )
    np.testing.assert_allclose(numerics.softmax(x).sum(), 1.0, rtol=1e-14)


def test_logsumexp_carries_no_mass_at_minus_infinity():
    x = np.asarray([[-np.inf, 0.0], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(numerics.logsumexp(x), [0.0, -np.inf])
    np.testing.assert_array_equal(numerics.logsumexp(x, keepdims=True), [[0.0], [-np.inf]])


@given(vectors)
def test_a_row_by_itself_is_a_row_of_many(x):
    rows = np.stack([x, x[::-1]])
    for function in (numerics.log_softmax, numerics.logsumexp, numerics.row_sums):
        np.testing.assert_allclose(function(x), function(rows)[0], rtol=1e-14, atol=1e-14)
        assert function(x).ndim == function(rows).ndim - 1


@pytest.mark.parametrize(
    ("row", "total"),
    [([-np.inf, -np.inf], -np.inf), ([np.inf, 0.0], np.inf), ([np.nan, 0.0], np.nan), ([2], 2.0)],
)
def test_logsumexp_of_a_row_that_is_not_finite(row, total):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(numerics.logsumexp(np.asarray(row)), total)


@pytest.mark.parametrize("shape", [(5000, 3), (2, 40, 60, 2), (1, 4096, 1), (4097, 32)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_many_short_rows_are_summed_as_few_are(shape, dtype):
    x = np.random.default_rng(0).normal(0, 30, shape).astype(dtype)
    x[..., :7, 0] = -np.inf
    x[..., 3, :] = -np.inf
    x[..., 5:7, :] = 0.0
    x[..., 5, 0], x[..., 6, 0] = np.inf, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = numerics.logsumexp(x)
        rows = [numerics.logsumexp(row) for row in x.reshape(-1, shape[-1])]
    assert together.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(together.ravel(), rows, rtol=4 * eps, atol=4 * eps)
    kept = numerics.logsumexp(x, keepdims=True)
    np.testing.assert_array_equal(kept[..., 0], together)
    # A view whose entries are not beside each other, and the last axis by its other name.
    np.testing.assert_array_equal(numerics.logsumexp(x[..., ::-1, :]), together[..., ::-1])
    np.testing.assert_array_equal(numerics.logsumexp(x, axis=len(shape) - 1), together)


def test_array_namespace_knows_the_library():
    x = np.ones(2)
    assert numerics.array_namespace(x) is numerics.array_namespace(x, x)
    assert numerics.array_namespace(array_api_strict.asarray([1.0])) is array_api_strict
    for wrong in ((x, torch.ones(2)), ([1.0],), ()):
        with pytest.raises(TypeError):
            numerics.array_namespace(*wrong)


@given(st.floats(-40, -1e-12))
def test_log1mexp_inverts(x):
    value = numerics.log1mexp(np.asarray(x))
    np.testing.assert_allclose(np.logaddexp(x, value), 0.0, atol=1e-14)


def test_log1mexp_keeps_digits_at_both_ends():
    np.testing.assert_allclose(
        numerics.log1mexp(np.asarray([-1e-10, -50.0])), [math.log(1e-10), -math.exp(-50)], rtol=1e-9
    )
    x = torch.tensor([-1e-300, -1e4, -math.log(2)], dtype=torch.float64, requires_grad=True)
    numerics.log1mexp(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("library", [torch.as_tensor, array_api_strict.asarray])
def test_log1mexp_of_other_libraries(library):
    x = -np.geomspace(1e-300, 1e4, 400)
    expected = numerics.log1mexp(x)
    np.testing.assert_allclose(
        np.asarray(numerics.log1mexp(library(x))), expected, rtol=1e-13, atol=1e-300
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_log1mexp_and_its_slope_in_low_precision(dtype):
    x = torch.tensor([-500.0, -100.0, -80.0, -9.0, -1.0, -0.5, -0.01], dtype=dtype)
    exact, x = x.double().requires_grad_(), x.requires_grad_()
    for each in (exact, x):
        numerics.log1mexp(each).sum().backward()
    near = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 8 * torch.finfo(dtype).tiny}
    torch.testing.assert_close(numerics.log1mexp(x), numerics.log1mexp(exact).to(dtype), **near)
    torch.testing.assert_close(x.grad, exact.grad.to(dtype), **near | {"rtol": 0.02})


@given(st.floats(0.001, 0.999))
def test_log_odds_is_logit(p):
    np.testing.assert_allclose(
        numerics.log_odds(np.log(np.asarray(p))), special.logit(p), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_bounded_exp_is_exact_then_finite_and_increasing(dtype):
    x = torch.tensor([-1e4, -1.0, 0.0, 5.0, 60.0, 1e3, 1e4], dtype=dtype, requires_grad=True)
    y = numerics.bounded_exp(x)
    assert torch.equal(y[:4].detach(), x[:4].detach().exp())
    assert y.isfinite().all() and (y[1:] > y[:-1]).all()
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_xlogy_at_zero():
    x = torch.tensor([0.0, 0.5], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([0.0, 2.0], dtype=torch.float64)
    value = numerics.xlogy(x, y)
    np.testing.assert_allclose(value.detach(), [0.0, 0.5 * math.log(2)])
    value.sum().backward()
    assert x.grad.isfinite().all()


@given(vectors, st.integers(0, 2**31))
def test_entropy_and_kl(x, seed):
    logp, logq = (
        numerics.log_softmax(x),
        numerics.log_softmax(np.random.default_rng(seed).standard_normal(x.shape)),
    )
    np.testing.assert_allclose(
        numerics.categorical_entropy(logp), special.entr(np.exp(logp)).sum(), atol=1e-12
    )
    np.testing.assert_allclose(
        numerics.categorical_kl(logp, logq),
        special.rel_entr(np.exp(logp), np.exp(logq)).sum(),
        atol=1e-11,
    )
    assert numerics.categorical_kl(logp, logp) == 0


def test_kl_is_infinite_never_nan_where_mass_is_missed():
    with np.errstate(divide="ignore"):
        p, q = np.log([[0.5, 0.5, 0.0]]), np.log([[1.0, 0.0, 0.0]])
    assert numerics.categorical_kl(p, q) == np.inf
    np.testing.assert_allclose(numerics.categorical_kl(q, p), math.log(2))
    np.testing.assert_allclose(numerics.categorical_entropy(p), math.log(2))


def test_normal_log_cdf_keeps_the_tail():
    x = np.asarray([-40.0, -1.0, 0.0, 8.0])
    np.testing.assert_allclose(numerics.normal_log_cdf(x), special.log_ndtr(x))
    np.testing.assert_allclose(
        numerics.normal_log_cdf(torch.as_tensor(x)).numpy(), special.log_ndtr(x), rtol=1e-12
    )


FUNCTIONS = [
    "log_sigmoid",
    "softplus",
    "sigmoid",
    "logsumexp",
    "log_softmax",
    "softmax",
    "bounded_exp",
    "categorical_entropy",
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_three_libraries_agree(name):
    x = np.random.default_rng(0).standard_normal((3, 5)) * 4
    function = getattr(numerics, name)
    expected = function(x)
    np.testing.assert_allclose(
        function(torch.as_tensor(x)).numpy(), expected, rtol=1e-13, atol=1e-14
    )
    np.testing.assert_allclose(
        np.asarray(function(array_api_strict.asarray(x))), expected, rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor, array_api_strict.asarray])
def test_gather_shared_and_per_member_indices(library):
    table = np.arange(24.0).reshape(2, 3, 4)
    row, column = np.asarray([0, 2]), np.asarray([3, 1])
    shared = numerics.gather(library(table), library(row), library(column))
    np.testing.assert_array_equal(np.asarray(shared), [[3, 9], [15, 21]])
    rows, columns = np.asarray([[0, 2], [1, 1]]), np.asarray([[3, 1], [0, 2]])
    own = numerics.gather(library(table), library(rows), library(columns))
    np.testing.assert_array_equal(np.asarray(own), [[3, 9], [16, 18]])
    grid = numerics.gather(library(table[0]), library(rows), library(columns))
    np.testing.assert_array_equal(np.asarray(grid), [[3, 9], [4, 6]])
    with pytest.raises(ValueError, match="indices have shape"):
        numerics.gather(
            library(table), library(np.zeros((3, 2), int)), library(np.zeros((3, 2), int))
        )


def test_stop_gradient():
    x = torch.ones(2, requires_grad=True)
    assert not numerics.stop_gradient(x).requires_grad
    assert numerics.stop_gradient(np.ones(2)).shape == (2,)


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [("log_odds", -20.0, -0.1), ("bounded_exp", -3.0, 3.0), ("log1mexp", -20.0, -0.1)],
)
def test_hand_written_derivatives_up_to_the_second(function, low, high):
    f = getattr(numerics, function)
    x = torch.linspace(low, high, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(f, (x,), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, (x,), check_batched_grad=True)
    one_by_one = torch.stack([torch.func.grad(f)(part.detach()) for part in x])
    torch.testing.assert_close(
        torch.vmap(torch.func.grad(f))(x.detach()), one_by_one, rtol=1e-14, atol=0.0
    )
    (fast,) = torch.autograd.grad(f(x).sum(), x)
    (slow,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
    torch.testing.assert_close(fast, slow.detach(), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_saturated_log_odds_have_value_and_no_slope(dtype):
    x = torch.tensor([-1.0, -0.01 * torch.finfo(dtype).eps, 0.0], dtype=dtype, requires_grad=True)
    y = numerics.log_odds(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y.isfinite().all()
    assert y[1] == y[2] == y.max()
    assert slope[0] > 1
    assert (slope[1:] == 0).all()


def test_beyond_its_cap_bounded_exp_is_a_line():
    x = torch.tensor([690.0, 700.0, 1e4], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(numerics.bounded_exp(x).sum(), x, create_graph=True)
    cap = np.log(np.finfo(float).max) - 16
    np.testing.assert_allclose(slope.detach(), np.exp([690.0, cap, cap]), rtol=1e-12)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    np.testing.assert_allclose(bend, [np.exp(690.0), 0.0, 0.0], rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(9,), (3, 40), (2, 3, 5), (0,), (4, 0)])
def test_sort_is_torch_sort(dtype, shape):
    rng = np.random.default_rng(0)
    # rounded, so that there are ties; with both zeros and infinities
    values = np.where(
        rng.random(shape) < 0.1,
        rng.choice([np.inf, -np.inf, 0.0, -0.0], shape),
        rng.standard_normal(shape).round(1),
    )
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    weight = torch.arange(1.0, values.size + 1).to(dtype).reshape(shape)
    found, expected = numerics.sort(x), torch.sort(x, dim=-1, stable=True)[0]
    assert torch.equal(found, expected)
    assert torch.equal(numerics.sort(x.detach()), expected)
    gradients = [torch.autograd.grad((part * weight).sum(), x)[0] for part in (found, expected)]
    if not (values == 0).any():  # the two zeros are equal to one sort and not to the other
        assert torch.equal(*gradients)
    np.testing.assert_array_equal(numerics.sort(values), np.sort(values, axis=-1))


def test_sort_keeps_nans_last_and_second_derivatives():
    x = torch.tensor(
        [float("nan"), 1.0, -float("nan"), -2.0], dtype=torch.float32, requires_grad=True
    )
    assert torch.equal(numerics.sort(x)[:2], torch.tensor([-2.0, 1.0]))
    assert numerics.sort(x)[2:].isnan().all()
    y = torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda v: numerics.sort(v) ** 3, (y,), check_batched_grad=True
    )
    rows = torch.tensor([[3.0, -1.0], [0.0, 5.0]])
    assert torch.equal(torch.vmap(numerics.sort)(rows), rows.sort(dim=-1)[0])


def test_what_is_traced_is_not_looked_at(monkeypatch):
    assert not numerics.is_traced()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert numerics.is_traced()
