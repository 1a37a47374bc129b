"""The worst case over an anchor's negatives as one node of torch's graph, in blocks of anchors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["negatives_worst_case"]

# Of one block: a CPU's caches, or enough work for a GPU.
BLOCK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}


class _Inputs(NamedTuple):
    """What the similarities are made of, without a graph."""

    anchors: Tensor
    candidates: Tensor
    label: Tensor
    temperature: Tensor
    excluded: Tensor | None


class _Block(NamedTuple):
    """A block of anchors: ``weights`` are ``exp(exponent)``, and 0 where nothing is a negative."""

    rows: slice
    exponent: Tensor
    weights: Tensor
    top: Tensor
    own: Tensor


def _blocks(given: _Inputs, block_bytes: int | None) -> Iterator[_Block]:
    """Yield blocks of ``exp(s/τ - top)``, in memory that the next block overwrites.

    Fresh pages would cost as much as the arithmetic.
    """
    n, size = len(given.anchors), len(given.candidates)
    if block_bytes is None:
        block_bytes = BLOCK_BYTES.get(given.anchors.device.type, BLOCK_BYTES["cuda"])
    count = max(1, min(n, block_bytes // (size * given.anchors.element_size())))
    scores, exps = (given.anchors.new_empty(count, size) for _ in range(2))
    tempered = given.anchors / given.temperature[:, None]
    # Far below every score, and finite: its product with a weight of zero is zero.
    nothing = -0.25 * torch.finfo(scores.dtype).max
    for start in range(0, n, count):
        rows = slice(start, min(start + count, n))
        length = rows.stop - start
        z = torch.mm(tempered[rows], given.candidates.T, out=scores[:length])
        label = given.label[rows, None]
        own = z.gather(1, label)[:, 0]
        z.scatter_(1, label, nothing)
        if given.excluded is not None:
            z.scatter_(1, given.excluded[rows], nothing)
        top = z.amax(dim=1)
        z.sub_(top[:, None])
        yield _Block(rows, z, torch.exp(z, out=exps[:length]), top, own)


class _WorstCase(torch.autograd.Function):
    """``τ log mean exp`` of an anchor's negatives less its positive, and the divergence.

    The backward computes each block once more from the saved normalisers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchors: Tensor,
        candidates: Tensor,
        label: Tensor,
        temperature: Tensor,
        excluded: Tensor | None,
        block_bytes: int | None,
    ) -> tuple[Tensor, Tensor]:
        given = _Inputs(anchors, candidates, label, temperature, excluded)
        left_out = 1 if excluded is None else 1 + excluded.shape[1]
        log_size = math.log(len(candidates) - left_out)
        value, divergence = anchors.new_empty(len(anchors)), anchors.new_empty(len(anchors))
        log_total = anchors.new_empty(len(anchors))
        for block in _blocks(given, block_bytes):
            total = block.weights.sum(dim=1)
            log_mean = total.log() - log_size
            mean = torch.linalg.vecdot(block.weights, block.exponent) / total
            # The two are compared as they are, so that equal scores leave rounding alone.
            divergence[block.rows] = (mean - log_mean).clamp_min_(0)
            value[block.rows] = temperature[block.rows] * (block.top - block.own + log_mean)
            log_total[block.rows] = total.log()
        ctx.block_bytes = block_bytes
        ctx.save_for_backward(*given, divergence, log_total)
        ctx.mark_non_differentiable(divergence)
        return value, divergence

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, divergence, log_total = ctx.saved_tensors
        given = _Inputs(*inputs)
        wanted = ctx.needs_input_grad
        if not (wanted[0] or wanted[1]):
            return None, None, None, -gradient * divergence, None, None
        anchors, candidates, label = given.anchors, given.candidates, given.label
        to_anchors = torch.empty_like(anchors) if wanted[0] else None
        to_candidates = torch.zeros_like(candidates) if wanted[1] else None
        for block in _blocks(given, ctx.block_bytes):
            scale = gradient[block.rows] * torch.exp(-log_total[block.rows])
            weights = block.weights.mul_(scale[:, None])
            if to_anchors is not None:
                torch.mm(weights, candidates, out=to_anchors[block.rows])
            if to_candidates is not None:
                to_candidates.addmm_(weights.T, anchors[block.rows])
        pulled = gradient[:, None]
        if to_anchors is not None:
            to_anchors -= pulled * candidates[label]
        if to_candidates is not None:
            to_candidates.index_add_(0, label, pulled * anchors, alpha=-1)
        to_temperature = -gradient * divergence if wanted[3] else None
        return to_anchors, to_candidates, None, to_temperature, None, None


def negatives_worst_case(
    anchors: Tensor,
    candidates: Tensor,
    label: Tensor,
    temperature: Tensor,
    excluded: Tensor | None,
    block_bytes: int | None,
) -> tuple[Tensor, Tensor]:
    """Return value and divergence ``(n,)`` for embeddings ``(n, d)`` and ``(N, d)``."""
    return _WorstCase.apply(anchors, candidates, label, temperature, excluded, block_bytes)
