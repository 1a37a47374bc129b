"""Log-probabilities by liger-kernel's Triton cross-entropy, on CUDA where it is installed.

The gradient is written over the logits.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from prefsim.lm.model.head import (
    Head,
    accumulator,
    add_product,
    default_tile_bytes,
    full_precision,
    operands,
    product,
)
from prefsim.lm.model.tiled import tiled_statistics

__all__ = ["faster_path", "fused_log_probs", "has_liger"]


@functools.cache
def has_liger() -> bool:
    """Return whether liger-kernel can be imported (its operators also need Triton)."""
    return (
        importlib.util.find_spec("liger_kernel") is not None
        and importlib.util.find_spec("triton") is not None
    )


def _negative_logps(z: Tensor, labels: Tensor, softcap: float | None, gradient: bool) -> Tensor:
    """Return ``-log p(label)`` of rows of float32 logits.

    With ``gradient`` overwrite them by ``p - [label]`` (through the soft cap).
    """
    from liger_kernel.ops.cross_entropy import cross_entropy_forward

    z.requires_grad_(gradient)  # the kernel reads from this flag whether it is to write gradients
    loss = cross_entropy_forward(z, labels, None, -1, 0.0, 0.0, "none", softcap, False)[0]
    z.requires_grad_(False)
    return loss


class _FusedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        softcap: float | None,
        tile_bytes: int,
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight, bias, labels)
        ctx.settings = (softcap, tile_bytes)
        logp = hidden.new_empty(len(hidden), dtype=torch.float32)
        with full_precision(hidden.device):
            for rows, z, *_ in _logits(hidden, weight, bias, tile_bytes):
                logp[rows] = -_negative_logps(z, labels[rows], softcap, gradient=False)
        return logp

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels = ctx.saved_tensors
        softcap, tile_bytes = ctx.settings
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32) if need_hidden else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if need_bias else None
        with full_precision(hidden.device):
            for rows, z, narrow_hidden, narrow_weight in _logits(hidden, weight, bias, tile_bytes):
                _negative_logps(z, labels[rows], softcap, gradient=True)
                z.mul_(-grad[rows, None])
                if d_bias is not None:
                    d_bias += z.sum(dim=0)
                z = z.to(narrow_hidden.dtype)
                if d_hidden is not None:
                    add_product(z, narrow_weight, d_hidden[rows])
                if d_weight is not None:
                    add_product(z.T, narrow_hidden, d_weight)
        return (
            None if d_hidden is None else d_hidden.to(hidden.dtype),
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(bias.dtype),
            *(None,) * 3,  # of labels, soft cap and tile size
        )


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, tile_bytes: int) -> Any:
    """Yield blocks of tokens with their float32 logits, and the factors of the product.

    A block has the logits of the whole vocabulary, as the kernel takes them.
    """
    narrow = operands(hidden, weight)
    narrow_weight = weight.detach().to(narrow)
    block = max(tile_bytes // (4 * len(weight)), 1)
    for start in range(0, len(hidden), block):
        rows = slice(start, min(start + block, len(hidden)))
        part = hidden[rows].detach().to(narrow)
        z = product(
            part, narrow_weight.T, part.new_empty((len(part), len(weight)), dtype=torch.float32)
        )
        if bias is not None:
            z.add_(bias.detach())
        yield rows, z, part, narrow_weight


def fused_log_probs(
    hidden: Tensor, head: Head, labels: Tensor, *, tile_bytes: int | None = None
) -> Tensor:
    """Return ``log p(label)`` of tokens ``hidden`` ``(n, d)``, float32 ``(n,)``.

    Differentiable in hidden states, weight and bias.
    """
    if len(hidden) == 0:
        return tiled_statistics(hidden, head, labels).logp
    size = default_tile_bytes(hidden.device) if tile_bytes is None else tile_bytes
    return _FusedLogProb.apply(hidden, head.weight, head.bias, labels, head.softcap, size)


@functools.cache
def _faster_of_both(
    device: torch.device,
    hidden_dtype: torch.dtype,
    weight_dtype: torch.dtype,
    d: int,
    v: int,
    capped: bool,
) -> str:
    # Tokens enough to fill a tile; how long a product takes does not depend on its numbers.
    hidden = torch.zeros((1024, d), device=device, dtype=hidden_dtype, requires_grad=True)
    head = Head(
        torch.zeros((v, d), device=device, dtype=weight_dtype, requires_grad=True),
        softcap=30.0 if capped else None,
    )
    labels = torch.zeros(1024, device=device, dtype=torch.int64)
    times = {}
    for name in ("tiled", "liger"):
        for _ in range(3):  # the first calls compile
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            if name == "liger":
                logp = fused_log_probs(hidden, head, labels)
            else:
                logp = tiled_statistics(hidden, head, labels).logp
            torch.autograd.grad(logp.sum(), (hidden, head.weight))
            stop.record()
            torch.cuda.synchronize(device)
            times[name] = start.elapsed_time(stop)
    # What the last call took.
    return min(times, key=lambda name: times[name])


def faster_path(hidden: Tensor, head: Head) -> str:
    """Return ``"liger"`` or ``"tiled"``, the faster one.

    It is measured once for each device, dtype and size. Only ``"tiled"`` runs without CUDA or
    liger-kernel and in float64, and it alone makes use of a frozen head.
    """
    wide = accumulator(torch.promote_types(hidden.dtype, head.weight.dtype))
    if (
        not hidden.is_cuda
        or not has_liger()
        or wide == torch.float64
        or not head.weight.requires_grad
    ):
        return "tiled"
    v, d = head.weight.shape
    with torch.enable_grad():
        return _faster_of_both(
            hidden.device, hidden.dtype, head.weight.dtype, d, v, head.softcap is not None
        )
