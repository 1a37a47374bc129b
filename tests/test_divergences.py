"""The f-divergences.

Generator, derivative and inverse belong together, and nothing overflows before it must.
"""

import math

import numpy as np
import pytest
import torch
from array_api_strict import asarray as strict_asarray
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import rel_entr, wrightomega

from prefsim.divergences import (
    DIVERGENCES,
    derivative,
    derivative_at_one,
    divergence_score,
    f_divergence,
    inverse_derivative,
    pinsker_constant,
    total_variation,
)
from prefsim.numerics import log_softmax
from prefsim.testing.bandits import alphas, divergences, tables

# The generators as the paper's table 1 prints them, as functions of u.
GENERATORS = {
    "reverse_kl": lambda u, alpha: u * np.log(u),
    "forward_kl": lambda u, alpha: -np.log(u),
    "jensen_shannon": lambda u, alpha: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
    "alpha": lambda u, alpha: (u ** (1 - alpha) - (1 - alpha) * u - alpha) / (alpha * (alpha - 1)),
    "mixed_chi_squared": lambda u, alpha: u * np.log(u) - u + 0.5 * u**2 + 0.5,
}
rows = st.integers(2, 6).flatmap(
    lambda n: st.tuples(tables((n,), low=-6.0, high=6.0), tables((n,), low=-6.0, high=6.0))
)


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("forward_kl", [-0.60653066, -3.49034296, -0.22313016]),
        ("jensen_shannon", [-0.47407698, -1.50192908, -0.20141328]),
        ("alpha", [0.44239843, -1.73649191, 1.05526689]),
        ("mixed_chi_squared", [2.14872127, -0.96349520, 5.98168907]),
        ("reverse_kl", [0.5, -1.25, 1.5]),
    ],
)
def test_scores_of_three_log_ratios(divergence, expected):
    np.testing.assert_allclose(
        divergence_score(np.asarray([0.5, -1.25, 1.5]), divergence, alpha=0.5),
        expected,
        atol=5e-9,
        rtol=0,
    )


@given(rows, divergences(), alphas())
def test_the_divergence_is_the_expectation_of_the_generator(logits, divergence, alpha):
    logp, logq = (log_softmax(row) for row in logits)
    u = np.exp(logp - logq)
    expected = np.sum(np.exp(logq) * GENERATORS[divergence](u, alpha))
    assert f_divergence(logp, logq, divergence, alpha=alpha) == pytest.approx(
        expected, rel=1e-9, abs=1e-11
    )


@given(rows, divergences(), alphas())
def test_a_divergence_is_nonnegative_and_zero_on_the_diagonal(logits, divergence, alpha):
    logp, logq = (log_softmax(row) for row in logits)
    assert f_divergence(logp, logq, divergence, alpha=alpha) >= -1e-14
    assert abs(f_divergence(logp, logp, divergence, alpha=alpha)) <= 1e-14


@given(rows)
def test_kl_and_jensen_shannon_against_scipy(logits):
    logp, logq = (log_softmax(row) for row in logits)
    p, q = np.exp(logp), np.exp(logq)
    middle = 0.5 * (p + q)
    assert f_divergence(logp, logq, "reverse_kl") == pytest.approx(
        rel_entr(p, q).sum(), rel=1e-10, abs=1e-12
    )
    assert f_divergence(logp, logq, "forward_kl") == pytest.approx(
        rel_entr(q, p).sum(), rel=1e-10, abs=1e-12
    )
    both = rel_entr(p, middle).sum() + rel_entr(q, middle).sum()
    assert f_divergence(logp, logq, "jensen_shannon") == pytest.approx(both, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("u", [0.3, 2.5])
def test_the_generator_integrates_the_derivative(divergence, u):
    area, _ = quad(
        lambda t: float(derivative(np.asarray(math.log(t)), divergence, alpha=0.3)), 1.0, u
    )
    assert area == pytest.approx(
        GENERATORS[divergence](u, 0.3) - GENERATORS[divergence](1.0, 0.3), abs=1e-10
    )


@given(st.floats(-8, 8), divergences(), alphas())
def test_the_inverse_undoes_the_derivative(a, divergence, alpha):
    v = derivative(np.asarray([a]), divergence, alpha=alpha)
    assert inverse_derivative(v, divergence, alpha=alpha)[0] == pytest.approx(a, abs=1e-8)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_derivative_at_one(divergence):
    assert derivative_at_one(divergence) == pytest.approx(
        float(derivative(np.asarray(0.0), divergence, alpha=0.3)), abs=1e-15
    )


@pytest.mark.parametrize(
    ("divergence", "above"), [("forward_kl", 0.0), ("jensen_shannon", math.log(2)), ("alpha", 2.0)]
)
def test_the_inverse_is_infinite_above_the_range(divergence, above):
    at_and_above = inverse_derivative(
        np.asarray([above + 1e-12, above + 1.0]), divergence, alpha=0.5
    )
    assert np.all(at_and_above == math.inf)
    assert np.isfinite(inverse_derivative(np.asarray([above - 1e-6]), divergence, alpha=0.5)).all()


def test_the_mixed_inverse_is_the_wright_omega_function():
    v = np.concatenate([np.linspace(-700, 700, 1401), [1e-9, 1e4, 1e300]])
    np.testing.assert_allclose(
        np.exp(inverse_derivative(v, "mixed_chi_squared")), wrightomega(v), rtol=1e-12
    )


@given(st.floats(-30, 30), divergences(), alphas())
def test_scores_increase(a, divergence, alpha):
    low, high = divergence_score(np.asarray([a, a + 0.1]), divergence, alpha=alpha)
    assert high > low or (divergence == "jensen_shannon" and high == low and a > 25)


@pytest.mark.parametrize("alpha", [1e-4, 1e-7, 1e-12])
def test_small_alpha_falls_back_to_the_reverse_kl_without_cancelling(alpha):
    a = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(
        divergence_score(a, "alpha", alpha=alpha), a, atol=2.1 * alpha, rtol=1e-14
    )
    logp, logq = log_softmax(a), log_softmax(a[::-1] * 0.5)
    assert f_divergence(logp, logq, "alpha", alpha=alpha) == pytest.approx(
        f_divergence(logp, logq, "reverse_kl"), rel=3 * alpha + 1e-13
    )


@pytest.mark.parametrize("gap", [1e-4, 1e-7, 1e-12])
def test_alpha_near_one_falls_back_to_the_forward_kl_without_cancelling(gap):
    a = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(
        divergence_score(a, "alpha", alpha=1 - gap), 1 - np.exp(-a), atol=20 * gap + 1e-14
    )
    logp, logq = log_softmax(a), log_softmax(a[::-1] * 0.5)
    assert f_divergence(logp, logq, "alpha", alpha=1 - gap) == pytest.approx(
        f_divergence(logp, logq, "forward_kl"), rel=3 * gap + 1e-13
    )


@pytest.mark.parametrize(
    ("divergence", "missing_in_p", "missing_in_q"),
    [
        ("reverse_kl", math.log(2), math.inf),
        ("forward_kl", math.inf, math.log(2)),
        (
            "jensen_shannon",
            math.log(4 / 3) + 0.5 * math.log(2) + 0.5 * math.log(2 / 3),
            math.log(4 / 3) + 0.5 * math.log(4 / 3),
        ),
        ("alpha", 4 * (1 - math.sqrt(0.5)), 4 * (1 - math.sqrt(0.5))),
        ("mixed_chi_squared", math.log(2) + 0.5 * (2 - 1), math.inf),
    ],
)
def test_zero_probabilities_have_the_limiting_value(divergence, missing_in_p, missing_in_q):
    """Against a half–half distribution.

    The values of arithmetic by hand, and the same by continuity.
    """
    corner, half = np.asarray([-math.inf, 0.0]), np.log([0.5, 0.5])
    assert f_divergence(corner, half, divergence, alpha=0.5) == pytest.approx(
        missing_in_p, rel=1e-14
    )
    assert f_divergence(half, corner, divergence, alpha=0.5) == pytest.approx(
        missing_in_q, rel=1e-14
    )
    assert f_divergence(corner, corner, divergence, alpha=0.5) == 0
    nearly = np.asarray([math.log(1e-30), 0.0])
    if math.isfinite(missing_in_p):
        assert f_divergence(nearly, half, divergence, alpha=0.5) == pytest.approx(
            missing_in_p, rel=1e-9
        )


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_extreme_log_ratios_give_finite_values_and_gradients(divergence):
    """Ratios of e^800 overflow as u long before the divergence does."""
    rows_ = [
        ([-1.0, math.log(1 - math.exp(-1))], [-800.0, 0.0]),
        ([-800.0, 0.0], [-1.0, math.log(1 - math.exp(-1))]),
    ]
    for row, (logp, logq) in enumerate(rows_):
        p = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
        value = f_divergence(p, torch.tensor(logq, dtype=torch.float64), divergence, alpha=0.3)
        if divergence == "mixed_chi_squared" and row == 0:
            assert value.item() == math.inf  # p²/q is 1e346
            continue
        value.backward()
        assert value.isfinite()
        assert value >= 0
        assert p.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_scores_and_their_gradients_are_finite_at_extremes(divergence, dtype):
    a = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], dtype=dtype, requires_grad=True)
    score = divergence_score(a, divergence, alpha=0.3)
    score.sum().backward()
    assert score.isfinite().all()
    assert a.grad.isfinite().all()
    assert (a.grad >= 0).all()
    assert (score.diff() >= 0).all()


@given(rows, divergences(), alphas())
def test_numpy_torch_and_the_strict_namespace_agree(logits, divergence, alpha):
    logp, logq = (log_softmax(row) for row in logits)
    expected = [
        divergence_score(logp, divergence, alpha=alpha),
        f_divergence(logp, logq, divergence, alpha=alpha),
    ]
    v = derivative(logp, divergence, alpha=alpha)
    expected.append(inverse_derivative(v, divergence, alpha=alpha))
    for convert in (torch.as_tensor, strict_asarray):
        p, q = convert(logp.copy()), convert(logq.copy())
        found = [
            divergence_score(p, divergence, alpha=alpha),
            f_divergence(p, q, divergence, alpha=alpha),
        ]
        found.append(inverse_derivative(convert(v), divergence, alpha=alpha))
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(one, np.asarray(other), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5, 1.5, math.nan, None, "half"])
def test_alpha_outside_the_open_interval_is_refused(alpha):
    with pytest.raises(ValueError, match=r"alpha must lie in \(0.0, 1.0\)"):
        divergence_score(np.zeros(2), "alpha", alpha=alpha)
    with pytest.raises(ValueError, match=r"alpha must lie in \(0.0, 1.0\)"):
        f_divergence(np.zeros(1), np.zeros(1), "alpha", alpha=alpha)


def test_an_unknown_divergence_is_refused():
    with pytest.raises(
        ValueError, match=r"divergence must be one of 'reverse_kl'.*got 'chi_squared'"
    ):
        divergence_score(np.zeros(2), "chi_squared")
    with pytest.raises(ValueError, match="got 'kl'"):
        f_divergence(np.zeros(1), np.zeros(1), "kl")


def test_nan_is_not_hidden():
    nan = np.asarray([0.5, math.nan])
    for divergence in DIVERGENCES:
        np.testing.assert_array_equal(np.isnan(divergence_score(nan, divergence)), [False, True])
        np.testing.assert_array_equal(np.isnan(inverse_derivative(-nan, divergence)), [False, True])


def test_the_pinsker_constants():
    """c² = 1/(2 f''(1)), with the second derivative from differences of the first."""
    for divergence in DIVERGENCES:
        a = np.log1p(np.asarray([-1e-4, 1e-4]))
        low, high = derivative(a, divergence, alpha=0.3)
        assert pinsker_constant(divergence) == pytest.approx(
            math.sqrt(0.5 / ((high - low) / 2e-4)), rel=1e-6
        )
    with pytest.raises(ValueError, match="divergence must be one of"):
        pinsker_constant("chi_squared")


@given(rows)
def test_total_variation_is_the_largest_difference_on_an_event(pair):
    p, q = (np.exp(log_softmax(x)) for x in pair)
    found = float(total_variation(p, q))
    # Of all events the one of what p holds likelier tells the two apart best.
    assert found == pytest.approx((p - q)[p > q].sum(), abs=1e-15)
    assert float(total_variation(strict_asarray(p), strict_asarray(q))) == pytest.approx(found)
    batch = total_variation(np.stack([p, p]), np.stack([q, p]))
    np.testing.assert_allclose(batch, [found, 0.0], atol=1e-15)
