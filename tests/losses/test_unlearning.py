"""Unlearning with retain terms: by the losses they are made of, by hand, and bad input."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.containers import TokenPairLogps
from prefsim.gradients import loss_gradient
from prefsim.testing import betas

LOSSES = [losses.npo_rt, losses.npo_kl, losses.ga_rt, losses.ga_kl]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)

# Two rows, of two and one tokens to retain and of one and two to forget.
PAIR = TokenPairLogps(
    chosen=np.asarray([[-1.0, -2.0], [-0.5, -7.0]]),
    rejected=np.asarray([[-3.0, -9.0], [-1.0, -2.5]]),
    ref_chosen=np.asarray([[-1.5, -1.0], [-0.5, -7.0]]),
    ref_rejected=np.asarray([[-2.0, -9.0], [-1.5, -1.0]]),
    chosen_mask=np.asarray([[True, True], [True, False]]),
    rejected_mask=np.asarray([[True, False], [True, True]]),
    chosen_kl=np.asarray([[0.3, 0.1], [0.25, 5.0]]),
)


def test_by_hand():
    """Log-ratios of what is forgotten −1 and −1; what is retained −3 in two tokens, −.5 in one."""
    forgetting = 4 * np.log1p(np.exp(-0.5)) * np.ones(2)
    found = losses.npo_rt(PAIR, beta=0.5, retain_weight=2.0)
    np.testing.assert_allclose(found, forgetting + 2 * np.asarray([1.5, 0.5]), rtol=1e-14)
    found = losses.npo_rt(PAIR, beta=0.5, retain_weight=2.0, reduction="sum")
    np.testing.assert_allclose(found, forgetting + 2 * np.asarray([3.0, 0.5]), rtol=1e-14)
    found = losses.npo_kl(PAIR, beta=0.5, retain_weight=2.0)
    np.testing.assert_allclose(found, forgetting + 2 * np.asarray([0.2, 0.25]), rtol=1e-14)
    found = losses.ga_rt(PAIR, retain_weight=2.0)
    np.testing.assert_allclose(found, [-3 + 3.0, -3.5 + 1.0], rtol=1e-14)
    found = losses.ga_kl(PAIR, retain_weight=2.0, reduction="sum")
    np.testing.assert_allclose(found, [-3 + 0.8, -3.5 + 0.5], rtol=1e-14)


@given(st.integers(0, 999), betas(), st.floats(0, 5), st.sampled_from(["mean", "sum"]))
def test_each_is_forgetting_plus_its_retain_term(seed, beta, weight, reduction):
    pair = TokenPairLogps.example(5, seed=seed)
    sums = losses.PairLogps(
        *(
            np.where(mask, values, 0).sum(-1)
            for values, mask in [
                (pair.chosen, pair.chosen_mask),
                (pair.rejected, pair.rejected_mask),
                (pair.ref_chosen, pair.chosen_mask),
                (pair.ref_rejected, pair.rejected_mask),
            ]
        )
    )
    count = pair.chosen_mask.sum(-1) if reduction == "mean" else 1
    likelihood = losses.sft(sums) / count
    divergence = np.where(pair.chosen_mask, pair.chosen_kl, 0).sum(-1) / count
    options = {"retain_weight": weight, "reduction": reduction}
    npo, ascent = losses.npo(sums, beta=beta), losses.gradient_ascent(sums)
    for found, expected in [
        (losses.npo_rt(pair, beta=beta, **options), npo + weight * likelihood),
        (losses.npo_kl(pair, beta=beta, **options), npo + weight * divergence),
        (losses.ga_rt(pair, **options), ascent + weight * likelihood),
        (losses.ga_kl(pair, **options), ascent + weight * divergence),
    ]:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_gradients_of_both_parts():
    """2σ(βb) of what is forgotten, and −λ/|y| of what is retained."""
    slopes = loss_gradient(functools.partial(losses.npo_rt, beta=0.5, retain_weight=3.0), PAIR)
    weight = 2 / (1 + np.exp(0.5))
    np.testing.assert_allclose(slopes.rejected, weight * PAIR.rejected_mask, rtol=1e-14)
    np.testing.assert_allclose(slopes.chosen, [[-1.5, -1.5], [-3.0, 0.0]], rtol=1e-14)
    slopes = loss_gradient(functools.partial(losses.ga_kl, retain_weight=3.0), PAIR)
    np.testing.assert_array_equal(slopes.rejected, 1.0 * PAIR.rejected_mask)
    np.testing.assert_array_equal(slopes.chosen, np.zeros((2, 2)))
    moved = torch.tensor(PAIR.chosen_kl, requires_grad=True)
    tensors = PAIR._replace(
        **{name: torch.tensor(x) for name, x in PAIR._asdict().items() if x is not None}
    )
    losses.npo_kl(tensors._replace(chosen_kl=moved), retain_weight=3.0).sum().backward()
    np.testing.assert_allclose(moved.grad, [[1.5, 1.5], [3.0, 0.0]], rtol=1e-14)


def test_a_retained_response_without_tokens_counts_nothing():
    empty = PAIR._replace(chosen_mask=np.zeros((2, 2), dtype=bool))
    np.testing.assert_array_equal(losses.npo_rt(empty), losses.npo_kl(PAIR, retain_weight=0.0))


@every_loss
def test_bad_options(loss):
    with pytest.raises(ValueError, match="retain_weight must be a finite number >= 0, got -1"):
        loss(PAIR, retain_weight=-1)
    with pytest.raises(ValueError, match="reduction must be one of 'mean', 'sum', got 'max'"):
        loss(PAIR, reduction="max")
    with pytest.raises(ValueError, match="must agree before the last axis"):
        loss(
            PAIR._replace(
                chosen=PAIR.chosen[:1],
                ref_chosen=PAIR.ref_chosen[:1],
                chosen_mask=PAIR.chosen_mask[:1],
                chosen_kl=PAIR.chosen_kl[:1],
            )
        )
    if "kl" in loss.__name__:
        with pytest.raises(ValueError, match="chosen_kl is needed by this loss, got None"):
            loss(PAIR._replace(chosen_kl=None))
    if "npo" in loss.__name__:
        with pytest.raises(ValueError, match="beta must be a finite number > 0"):
            loss(PAIR, beta=0.0)
