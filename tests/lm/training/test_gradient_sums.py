"""Gradients of micro-batches in bfloat16 are summed without losing the small ones."""

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim import losses
from prefsim.lm import CausalLM, TextDemonstrations
from prefsim.lm.training.gradient_sums import GradientSums
from prefsim.solvers import fit


def summed(parameters, passes, *, seed=0):
    """Sum the gradients of so many equal passes."""
    sums = GradientSums(parameters, seed)
    for k in range(passes):
        with sums.of_micro_batch(k, is_last=k == passes - 1):
            sum((p * p.detach()).sum() for p in parameters).backward()
    sums.put_back()
    return [p.grad for p in parameters]


def parameters():
    numbers = torch.randn(3, 2000, generator=torch.Generator().manual_seed(1))
    narrow, wide = numbers.bfloat16().requires_grad_(), numbers.clone().requires_grad_()
    return [narrow, wide]


def test_a_thousand_small_gradients_add_up():
    narrow, wide = parameters()
    found, exact = summed([narrow, wide], 1000)
    assert found.dtype == torch.bfloat16 and exact.dtype == torch.float32
    # Autograd sums what is not in bfloat16 itself.
    torch.testing.assert_close(exact, 1000 * wide.detach(), rtol=1e-4, atol=1e-4)
    each = narrow.detach().double()
    share = (found.double() * each).sum() / each.square().sum()
    assert float(share) == pytest.approx(1000, rel=0.003)
    to_nearest = torch.zeros_like(narrow)
    for _ in range(1000):
        to_nearest += narrow.detach()
    assert float((to_nearest.double() / each).mean()) < 800


def test_sums_follow_from_the_seeds_alone():
    first, again, other = (summed(parameters(), 20, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_what_was_summed_is_left_where_the_last_micro_batch_is_empty():
    (narrow, _), sums = parameters(), None
    sums = GradientSums([narrow], 0)
    with sums.of_micro_batch(0, is_last=False):
        (narrow * 2).sum().backward()
    assert narrow.grad is None
    sums.put_back()
    assert torch.equal(narrow.grad, torch.full_like(narrow, 2.0))
    # And no hook stays behind.
    narrow.sum().backward()
    assert torch.equal(narrow.grad, torch.full_like(narrow, 3.0))


def test_a_step_in_many_parts_has_the_gradient_of_the_whole():
    policy = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    rows = TextDemonstrations([[3, 4]] * 256, [[5, 6, 7]] * 256)
    how = {
        "steps": 1,
        "batch_size": 256,
        "optimizer": "adamw_bf16",
        "precision": "bf16_weights",
        "max_grad_norm": None,
        "progress": False,
    }
    whole, parts = (
        fit(policy, losses.sft, rows, gradient_accumulation=k, **how).grad_norm for k in (1, 256)
    )
    assert parts == pytest.approx(whole, rel=0.01)
    assert np.isfinite(whole)
