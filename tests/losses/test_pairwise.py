"""Losses on pairs.

Identities, population minimisers, extremes, bad input; values are in test_reference_values.
"""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_references import BATCH, EIGHT_DIGITS, REFERENCES

from prefsim.checks import trusted_values
from prefsim.containers import map_fields
from prefsim.losses import (
    PairLogps,
    dpo,
    f_dpo,
    hinge,
    ipo,
    log_ratios,
    rdpo,
    reward_margin,
    rpo,
    sft,
    soft_logistic,
)
from prefsim.testing.bandits import alphas, betas, flip_rates, margins, pair_logps

PAIRWISE = [
    reference
    for reference in REFERENCES
    if reference.loss.func.__module__
    in ("prefsim.losses.pairwise", "prefsim.losses.flipped_labels")
]
every_loss = pytest.mark.parametrize("reference", PAIRWISE, ids=lambda reference: reference.label)


def as_torch(logps: PairLogps, dtype: torch.dtype = torch.float64) -> PairLogps:
    """Return the batch in torch, with gradients for the policy's part."""
    moved = map_fields(logps, lambda x: torch.tensor(np.asarray(x), dtype=dtype))
    moved.chosen.requires_grad_()
    moved.rejected.requires_grad_()
    return moved


def pairs_of_margin(margin: np.ndarray) -> PairLogps:
    """Return pairs whose log-ratio margin is ``margin``, with log-probabilities <= 0."""
    zero = np.zeros_like(margin)
    return PairLogps(np.minimum(margin, 0), np.minimum(-margin, 0), zero, zero)


def test_values_of_the_robust_paper():
    one = pairs_of_margin(np.asarray([2.0]))
    assert dpo(one, beta=0.5)[0] == pytest.approx(0.31326168751822286, abs=1e-16)
    assert dpo(one, beta=0.5, label_smoothing=0.2)[0] == pytest.approx(
        0.5132616875182229, abs=1e-15
    )
    assert rdpo(one, beta=0.5, flip_rate=0.2)[0] == pytest.approx(-0.02007164581511049, abs=1e-15)
    losses = {
        dpo: (0.0, [0.47502081, 0.56831998, 0.40131234]),
        rdpo: (0.1, [0.60002081, 0.69331998, 0.52631234]),
        functools.partial(dpo, label_smoothing=0.1): (None, [0.37502081, 0.46831998, 0.30131234]),
    }
    for loss, (flip_rate, expected) in losses.items():
        batch = as_torch(pairs_of_margin(np.asarray([1.0, -2.75, 4.0])))
        options = {"flip_rate": flip_rate} if loss is rdpo else {}
        loss(batch, beta=0.1, **options).sum().backward()
        np.testing.assert_allclose(-batch.chosen.grad.numpy() / 0.1, expected, atol=EIGHT_DIGITS)


def test_log_ratios_and_margin():
    chosen, rejected = log_ratios(BATCH)
    np.testing.assert_array_equal(chosen, [0.5, -1.25, 1.5])
    np.testing.assert_array_equal(rejected, [-0.5, 1.5, -2.5])
    np.testing.assert_array_equal(reward_margin(BATCH), [1.0, -2.75, 4.0])


def test_sft_in_both_reductions():
    np.testing.assert_array_equal(sft(BATCH), [12.5, 30.25, 8.0])
    np.testing.assert_allclose(sft(BATCH, reduction="mean"), [1.25, 1.21, 4 / 3], rtol=1e-15)


# --- identities ---


@given(margins(100.0), flip_rates(), betas())
def test_plain_conservative_and_robust_are_one_function_of_a_target(margin, flip, beta):
    logps = pairs_of_margin(margin)
    z = beta * margin
    scale = 1 + np.abs(z) / (1 - 2 * flip)
    for found, target in [
        (dpo(logps, beta=beta), 1),
        (dpo(logps, beta=beta, label_smoothing=flip), 1 - flip),
        (rdpo(logps, beta=beta, flip_rate=flip), (1 - flip) / (1 - 2 * flip)),
    ]:
        assert np.max(np.abs(found - soft_logistic(z, target)) / scale) <= 1e-14
        # ℓ(z) + (1 − t) z, the same by ℓ(−z) = ℓ(z) + z
        assert np.max(np.abs(found - (np.logaddexp(0, -z) + (1 - target) * z)) / scale) <= 1e-14


@given(margins(30.0), flip_rates(0.01), betas())
def test_conservative_loss_has_its_minimum_at_the_smoothed_log_odds(margin, flip, beta):
    best = math.log((1 - flip) / flip) / beta
    at_best = dpo(pairs_of_margin(np.asarray([best])), beta=beta, label_smoothing=flip)
    assert np.all(dpo(pairs_of_margin(margin), beta=beta, label_smoothing=flip) >= at_best - 1e-12)


@given(pair_logps(), betas(), flip_rates(0.01))
def test_label_free_combinations_of_a_pair_and_its_reverse(logps, beta, flip):
    """ℓ(z) − ℓ(−z) = −z, and the robust loss of a pair and its reverse add up to the plain ones."""
    forward, backward = dpo(logps, beta=beta), dpo(logps.swapped(), beta=beta)
    z = beta * reward_margin(logps)
    np.testing.assert_allclose(forward - backward, -z, atol=1e-12 * (1 + np.abs(z).max()))
    robust = rdpo(logps, beta=beta, flip_rate=flip) + rdpo(
        logps.swapped(), beta=beta, flip_rate=flip
    )
    np.testing.assert_allclose(
        robust, forward + backward, atol=1e-12 * (1 + np.abs(z).max() / (1 - 2 * flip))
    )


@given(pair_logps(lengths=True), betas(), alphas())
def test_special_cases_are_dpo(logps, beta, alpha):
    plain = dpo(logps, beta=beta)
    np.testing.assert_allclose(
        rdpo(logps, beta=beta, flip_rate=0.0), plain, rtol=1e-13, atol=1e-300
    )
    np.testing.assert_array_equal(
        f_dpo(logps, beta=beta, divergence="reverse_kl", alpha=alpha), plain
    )
    np.testing.assert_array_equal(rpo(logps, beta=beta, eta=0.0), plain)


@given(pair_logps(lengths=True), betas(), st.floats(0, 2))
def test_rpo_adds_the_sft_term(logps, beta, eta):
    plain = dpo(logps, beta=beta)
    total = rpo(logps, beta=beta, eta=eta)
    np.testing.assert_allclose(
        total - plain, eta * beta * sft(logps), atol=1e-12 * (1 + np.abs(total).max())
    )
    mean = rpo(logps, beta=beta, eta=eta, reduction="mean")
    np.testing.assert_allclose(
        mean - plain, eta * sft(logps, reduction="mean"), atol=1e-12 * (1 + np.abs(mean).max())
    )
    np.testing.assert_array_equal(rpo(logps, beta=beta, eta=eta, scale_by_beta=True), total)
    np.testing.assert_array_equal(
        rpo(logps, beta=beta, eta=eta, reduction="mean", scale_by_beta=False), mean
    )


@given(pair_logps(lengths=True), betas())
def test_averaged_ipo_on_one_token_is_the_summed_one(logps, beta):
    one = np.ones_like(logps.chosen)
    single = logps._replace(chosen_length=one, rejected_length=one)
    np.testing.assert_array_equal(ipo(single, tau=beta, average=True), ipo(logps, tau=beta))


@given(pair_logps(), betas(), st.floats(-20, 20))
def test_losses_of_the_margin_ignore_a_prompt_constant(logps, beta, constant):
    shifted = logps._replace(chosen=logps.chosen + constant, rejected=logps.rejected + constant)
    for loss in (
        functools.partial(dpo, beta=beta),
        functools.partial(rdpo, beta=beta),
        functools.partial(ipo, tau=beta),
        hinge,
    ):
        np.testing.assert_allclose(loss(shifted), loss(logps), rtol=1e-10, atol=1e-10)


# --- population minimisers of one pair ---


@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_population_minimisers_of_the_margin(p):
    """Both orders of a pair weighted p and 1 − p.

    The margin where the derivative vanishes is the stated one.
    """
    beta, flip = 0.5, 0.2
    noisy = flip + (1 - 2 * flip) * p
    smoothed = p * (1 - flip) + (1 - p) * flip

    def logit(q):
        return math.log(q / (1 - q))

    stated = [
        (functools.partial(dpo, beta=beta), p, logit(p) / beta),
        (functools.partial(dpo, beta=beta, label_smoothing=flip), p, logit(smoothed) / beta),
        (functools.partial(rdpo, beta=beta, flip_rate=flip), noisy, logit(p) / beta),
        (functools.partial(ipo, tau=beta), p, (2 * p - 1) / (2 * beta)),
    ]
    for loss, weight, margin in stated:
        m = torch.tensor([margin], dtype=torch.float64, requires_grad=True)
        zero = torch.zeros_like(m)
        (
            weight * loss(PairLogps(m, zero, zero, zero))
            + (1 - weight) * loss(PairLogps(zero, m, zero, zero))
        ).sum().backward()
        assert abs(m.grad.item()) <= 1e-14


def test_hinge_minimiser_is_the_sign():
    grid = np.linspace(-4, 4, 1601)
    for p, best in ((0.7, 2.0), (0.3, -2.0)):
        logps = pairs_of_margin(grid)
        value = p * hinge(logps, beta=0.5) + (1 - p) * hinge(logps.swapped(), beta=0.5)
        assert grid[np.argmin(value)] == pytest.approx(best, abs=1e-12)


# --- extremes and precision ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@every_loss
def test_values_and_gradients_are_finite_at_extremes(reference, dtype):
    extreme = PairLogps(
        chosen=np.asarray([-1e-6, -1e4, -1e4, 0.0, -1e4]),
        rejected=np.asarray([-1e4, -1e-6, -1e4, 0.0, -1e4]),
        ref_chosen=np.asarray([-1e-6, -1e-6, -1e4, 0.0, 0.0]),
        ref_rejected=np.asarray([-1e-6, -1e-6, -1e4, 0.0, 0.0]),
        chosen_length=np.asarray([1.0, 1.0, 500.0, 2.0, 3.0]),
        rejected_length=np.asarray([1.0, 500.0, 1.0, 2.0, 4.0]),
    )
    batch = as_torch(extreme, dtype)
    value = reference.loss(batch)
    value.sum().backward()
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert batch.chosen.grad.isfinite().all()
    assert batch.rejected.grad.isfinite().all()


@pytest.mark.parametrize("margin", [1e4, 1e8])
def test_tails_are_exact(margin):
    """Linear on one side, an exponentially small number on the other: nothing rounds to log(1)."""
    far = pairs_of_margin(np.asarray([-margin, 300.0]))
    np.testing.assert_allclose(dpo(far, beta=1.0), [margin, math.exp(-300)], rtol=1e-14)
    assert rdpo(pairs_of_margin(np.asarray([margin])), beta=0.1, flip_rate=0.1)[0] == pytest.approx(
        -0.125 * 0.1 * margin, rel=1e-12
    )


@every_loss
def test_float32_keeps_six_digits(reference):
    exact = reference.loss(BATCH)
    np.testing.assert_allclose(
        reference.loss(as_torch(BATCH, torch.float32)).detach().numpy(), exact, rtol=2e-6, atol=2e-6
    )


def test_any_leading_shape_and_an_empty_batch():
    stacked = map_fields(BATCH, lambda x: np.stack([x, x[::-1]]))
    for reference in PAIRWISE:
        expected = [reference.values, reference.values[::-1]]
        np.testing.assert_allclose(reference.loss(stacked), expected, atol=EIGHT_DIGITS)
        assert reference.loss(map_fields(BATCH, lambda x: x[:0])).shape == (0,)


# --- bad input ---


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "0.1", None, True])
@pytest.mark.parametrize(
    ("loss", "name"),
    [(dpo, "beta"), (rdpo, "beta"), (hinge, "beta"), (f_dpo, "beta"), (rpo, "beta"), (ipo, "tau")],
)
def test_a_penalty_that_is_not_positive_is_refused(loss, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number > 0, got"):
        loss(BATCH, **{name: value})


@pytest.mark.parametrize("value", [0.5, 0.7, -0.1, math.nan, "0.1"])
@pytest.mark.parametrize(("loss", "name"), [(dpo, "label_smoothing"), (rdpo, "flip_rate")])
def test_a_flip_rate_outside_zero_to_one_half_is_refused(loss, name, value):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0.0, 0.5\), got"):
        loss(BATCH, **{name: value})


def test_other_bad_options_are_refused():
    with pytest.raises(ValueError, match=r"eta must be a finite number >= 0, got -0\.1"):
        rpo(BATCH, eta=-0.1)
    with pytest.raises(ValueError, match="reduction must be one of 'sum', 'mean', got 'average'"):
        rpo(BATCH, reduction="average")
    with pytest.raises(ValueError, match="reduction must be one of 'sum', 'mean', got 'none'"):
        sft(BATCH, reduction="none")
    with pytest.raises(ValueError, match=r"divergence must be one of .* got 'tv'"):
        f_dpo(BATCH, divergence="tv")
    with pytest.raises(ValueError, match=r"alpha must lie in \(0.0, 1.0\), got 1.0"):
        f_dpo(BATCH, divergence="alpha", alpha=1.0)


@pytest.mark.parametrize("loss", [dpo, rdpo, ipo, hinge, f_dpo, rpo, reward_margin])
def test_shapes_that_differ_are_refused(loss):
    with pytest.raises(
        ValueError, match=r"arrays must have one shape, got chosen \(3,\), rejected \(2,\)"
    ):
        loss(BATCH._replace(rejected=np.zeros(2), chosen_length=None, rejected_length=None))
    with pytest.raises(ValueError, match=r"chosen_length \(1,\)"):
        loss(BATCH._replace(chosen_length=np.ones(1)))


@pytest.mark.parametrize(
    ("loss", "missing"),
    [
        (functools.partial(ipo, average=True), "chosen_length"),
        (functools.partial(ipo, average=True), "rejected_length"),
        (functools.partial(rpo, reduction="mean"), "chosen_length"),
        (functools.partial(sft, reduction="mean"), "chosen_length"),
    ],
)
def test_a_mean_without_lengths_is_refused(loss, missing):
    with pytest.raises(ValueError, match=f"{missing} is needed by this loss, got None"):
        loss(BATCH._replace(**{missing: None}))


def test_a_mean_over_the_chosen_response_needs_its_length_alone():
    alone = BATCH._replace(rejected_length=None)
    np.testing.assert_array_equal(
        rpo(alone, eta=0.2, reduction="mean"), rpo(BATCH, eta=0.2, reduction="mean")
    )


def test_nan_is_not_hidden():
    poisoned = BATCH._replace(chosen=np.asarray([-12.5, math.nan, -8.0]))
    for reference in PAIRWISE:
        with pytest.raises(ValueError, match="chosen must hold no NaN, got nan at index 1"):
            reference.loss(poisoned)
        with trusted_values():
            np.testing.assert_array_equal(np.isnan(reference.loss(poisoned)), [False, True, False])
