"""Log-softmax statistics of ``hidden @ weight.T`` in tiles.

The (tokens x vocabulary) matrix never exists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

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

__all__ = ["TokenStatistics", "tiled_statistics"]

# Products with fewer columns than this run at a fraction of the machine's rate; fewer rows than
# that read the weights too often.
COLUMNS, ROWS = 1024, 256
# Widths of tiles are multiples of this, so that rows of the weights stay aligned.
ALIGNMENT = 64


class TokenStatistics(NamedTuple):
    """What losses need of the next-token distribution at every scored token.

    Each ``(..., T)``, and 0 where nothing is scored, but for the router's; weights are not in nats.

    Attributes
    ----------
    logp
        Log-probability of the token.
    collision
        ``log Σ_v π(v)²``.
    kl
        ``KL(π_ref‖π)``.
    ref_logp
        Log-probability of the token under the reference.
    router_loss
        A number: the auxiliary loss of a mixture of experts, where it is trained with one.
    reward_weight, kl_weight
        How much the token's log-ratio and its KL divergence count, where the model has masks.
    """

    logp: Tensor
    collision: Tensor | None = None
    kl: Tensor | None = None
    ref_logp: Tensor | None = None
    router_loss: Tensor | None = None
    reward_weight: Tensor | None = None
    kl_weight: Tensor | None = None


class _Sweep:
    """The walk over one head's logits.

    Vocabulary tiles outside, so that a tile's weights are read and its gradient is written once.
    """

    def __init__(
        self, hidden: Tensor, head: Head, tile_bytes: int, like: _Sweep | None = None
    ) -> None:
        self.head = head
        self.wide = accumulator(torch.promote_types(hidden.dtype, head.weight.dtype))
        self.narrow = operands(hidden, head.weight)
        self.hidden = hidden.detach().to(self.narrow)
        if like is None:
            n, v = len(hidden), len(head.weight)
            entries = max(tile_bytes // self.wide.itemsize, 1)
            self.block: int = max(min(n, max(entries // COLUMNS, ROWS)), 1)
            aligned = entries // self.block // ALIGNMENT * ALIGNMENT
            self.width: int = min(v, max(aligned, ALIGNMENT))
        else:
            # Two heads that are compared tile by tile walk in step.
            self.block, self.width = like.block, like.width
        self.buffers: dict[str, Tensor] = {}
        self.current: tuple[slice, Tensor] | None = None

    def columns(self) -> Iterator[slice]:
        """Yield the tiles of the vocabulary."""
        size = len(self.head.weight)
        for start in range(0, size, self.width):
            yield slice(start, min(start + self.width, size))

    def weights(self, columns: slice) -> Tensor:
        """Return the head's weights at a tile as factors of a product, made once for each tile."""
        if self.current is None or self.current[0] != columns:
            self.current = columns, self.head.weight[columns].detach().to(self.narrow)
        return self.current[1]

    def tokens(self) -> Iterator[slice]:
        """Yield the blocks of tokens."""
        n = len(self.hidden)
        for start in range(0, n, self.block):
            yield slice(start, min(start + self.block, n))

    def buffer(self, name: str, rows: int, columns: int) -> Tensor:
        """Return an uninitialised contiguous matrix, in memory that is used again and again.

        Fresh pages cost as much as the arithmetic.
        """
        if name not in self.buffers:
            self.buffers[name] = self.hidden.new_empty(self.block * self.width, dtype=self.wide)
        return self.buffers[name][: rows * columns].view(rows, columns)

    def logits(self, tokens: slice, columns: slice) -> Tensor:
        """Return the logits of one tile, in a buffer that the next call overwrites."""
        hidden, weight = self.hidden[tokens], self.weights(columns)
        z = product(hidden, weight.T, self.buffer("logits", len(hidden), len(weight)))
        if self.head.bias is not None:
            z.add_(self.head.bias[columns].detach())
        if self.head.softcap is not None:
            z.div_(self.head.softcap).tanh_().mul_(self.head.softcap)
        return z

    def cap_slope(self, z: Tensor) -> Tensor | None:
        """Return the derivative of the soft cap at capped logits ``z``."""
        if self.head.softcap is None:
            return None
        slope = self.buffer("slope", *z.shape).copy_(z)
        return slope.div_(self.head.softcap).square_().neg_().add_(1)


class _Normaliser:
    """The running ``max`` and ``Σ exp(z - max)`` of rows seen tile by tile.

    With ``squares`` also ``Σ exp(2(z - max))``.
    """

    def __init__(self, like: Tensor, n: int, wide: torch.dtype, squares: bool = False) -> None:
        # Not -inf, so that a tile of logits that are all -inf (a masked vocabulary) leaves no NaN.
        self.top = like.new_full((n,), torch.finfo(wide).min, dtype=wide)
        self.total = like.new_zeros(n, dtype=wide)
        self.squares = like.new_zeros(n, dtype=wide) if squares else None

    def add(self, tokens: slice, z: Tensor) -> Tensor:
        """Take in a tile and turn it in place into ``exp(z - top)``.

        Returns the factor by which the rows' earlier sums shrank.
        """
        top = torch.maximum(self.top[tokens], z.amax(dim=1))
        shrink = torch.exp(self.top[tokens] - top)
        z.sub_(top[:, None]).exp_()
        self.top[tokens] = top
        self.total[tokens] = self.total[tokens] * shrink + z.sum(dim=1)
        if self.squares is not None:
            squares = torch.linalg.vecdot(z, z)
            self.squares[tokens] = self.squares[tokens] * shrink.square() + squares
        return shrink

    @property
    def logsumexp(self) -> Tensor:
        return self.top + self.total.log()


def _at_labels(labels: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Return where the labels lie in a tile, clamped into it ``(n, 1)``, and which do ``(n,)``."""
    place = labels - columns.start
    inside = (place >= 0) & (labels < columns.stop)
    return place.clamp(0, columns.stop - columns.start - 1)[:, None], inside


class _Statistics(torch.autograd.Function):
    """Per token: log-probability of the label, ``log Σ p²``, ``KL(ref‖p)`` and the reference's.

    The backward recomputes each tile of logits from the saved normalisers. With ``direct`` (a
    frozen head, log-probabilities alone) the forward keeps
    ``∂ log p / ∂ hidden = W[label] - Σ p W`` instead, which spares the recomputation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        softcap: float | None,
        tile_bytes: int,
        collision: bool,
        direct: bool,
        ref_hidden: Tensor | None,
        reference: Head | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        ref_sweep = None
        with full_precision(hidden.device):
            sweep = _Sweep(hidden, Head(weight, bias, softcap), tile_bytes)
            if ref_hidden is not None and reference is not None:
                ref_sweep = _Sweep(ref_hidden, reference, tile_bytes, like=sweep)
            n, wide = len(hidden), sweep.wide
            normaliser = _Normaliser(hidden, n, wide, collision)
            at_label = hidden.new_zeros(n, dtype=wide)
            pulled = hidden.new_zeros(hidden.shape, dtype=wide) if direct else None
            own = torch.zeros_like(at_label)
            ref_normaliser = None if ref_sweep is None else _Normaliser(hidden, n, wide)
            ref_label, gap = at_label.clone(), at_label.clone()
            for columns in sweep.columns():
                for tokens in sweep.tokens():
                    z = sweep.logits(tokens, columns)
                    place, inside = _at_labels(labels[tokens], columns)
                    at_label[tokens] = torch.where(
                        inside, z.gather(1, place)[:, 0], at_label[tokens]
                    )
                    if ref_sweep is not None and ref_normaliser is not None:
                        z_ref = ref_sweep.logits(tokens, columns)
                        ref_label[tokens] = torch.where(
                            inside, z_ref.gather(1, place)[:, 0], ref_label[tokens]
                        )
                        difference = torch.sub(z_ref, z, out=sweep.buffer("difference", *z.shape))
                        shrink = ref_normaliser.add(tokens, z_ref)
                        gap[tokens] = gap[tokens] * shrink + torch.linalg.vecdot(z_ref, difference)
                    slope = sweep.cap_slope(z) if direct else None
                    shrink = normaliser.add(tokens, z)
                    if pulled is not None:
                        if slope is not None:
                            own[tokens] += torch.where(inside, slope.gather(1, place)[:, 0], 0)
                            z.mul_(slope)
                        pulled[tokens] *= shrink[:, None]
                        add_product(z.to(sweep.narrow), sweep.weights(columns), pulled[tokens])
            lse = normaliser.logsumexp
            logp = at_label - lse
            log_collision = None
            if normaliser.squares is not None:
                log_collision = normaliser.squares.log() - 2 * normaliser.total.log()
            kl = ref_logp = ref_lse = None
            if ref_normaliser is not None:
                ref_lse = ref_normaliser.logsumexp
                ref_logp = ref_label - ref_lse
                # Rounding alone makes it negative, where the two agree.
                kl = (gap / ref_normaliser.total - ref_lse + lse).clamp_min_(0)
            if pulled is not None:
                chosen = weight[labels].to(wide)
                if softcap is not None:
                    chosen = chosen * own[:, None]
                pulled = torch.sub(chosen, pulled.div_(normaliser.total[:, None]))
        ctx.dtype = hidden.dtype
        ref_softcap = None if reference is None else reference.softcap
        ctx.settings = (softcap, tile_bytes, direct, ref_softcap)
        if direct:
            ctx.save_for_backward(pulled)
        else:
            ref_tensors = (None, None) if reference is None else (reference.weight, reference.bias)
            ctx.save_for_backward(
                hidden, weight, bias, labels, lse, log_collision, ref_hidden, *ref_tensors, ref_lse
            )
        if ref_logp is not None:
            # A reference is a constant.
            ctx.mark_non_differentiable(ref_logp)
        ctx.set_materialize_grads(False)
        return logp, log_collision, kl, ref_logp

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,
        g_logp: Tensor | None,
        g_collision: Tensor | None,
        g_kl: Tensor | None,
        g_ref_logp: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        softcap, tile_bytes, direct, ref_softcap = ctx.settings
        no_gradients = (None,) * 7  # of everything behind hidden states, weight and bias
        if direct:
            (pulled,) = ctx.saved_tensors
            d_states = None if g_logp is None else (g_logp[:, None] * pulled).to(ctx.dtype)
            return d_states, None, None, *no_gradients
        hidden, weight, bias, labels, lse, log_collision, *of_reference = ctx.saved_tensors
        ref_hidden, ref_weight, ref_bias, ref_lse = of_reference
        need_hidden, need_weight, need_bias, *_ = ctx.needs_input_grad
        with full_precision(hidden.device):
            sweep = _Sweep(hidden, Head(weight, bias, softcap), tile_bytes)
            wide = sweep.wide
            zero = lse.new_zeros(())
            at_label = (zero if g_logp is None else g_logp).expand(len(lse))
            # d/dz = p · per_p + p² · per_square + p_ref · per_ref + [label] · at_label
            per_p = zero - at_label
            per_square = None
            if g_collision is not None:
                per_p = per_p - 2 * g_collision
                per_square = 2 * g_collision * torch.exp(-log_collision)
            ref_sweep = None
            if g_kl is not None:
                per_p = per_p + g_kl
                ref_sweep = _Sweep(
                    ref_hidden, Head(ref_weight, ref_bias, ref_softcap), tile_bytes, like=sweep
                )
            d_hidden = hidden.new_zeros(hidden.shape, dtype=wide) if need_hidden else None
            # Written tile by tile, and by nobody if there is no token.
            allocate = torch.empty_like if len(labels) else torch.zeros_like
            d_weight = d_bias = partial = None
            if need_weight:
                d_weight = allocate(weight, memory_format=torch.contiguous_format)
                # Sums over the blocks of tokens are kept wide until a tile is done.
                if weight.dtype != wide:
                    partial = weight.new_empty((sweep.width, weight.shape[1]), dtype=wide)
            if need_bias:
                d_bias = allocate(bias)
            for columns in sweep.columns():
                width = columns.stop - columns.start
                if d_weight is not None:
                    target = d_weight[columns] if partial is None else partial[:width]
                bias_sum = lse.new_zeros(width)
                for tokens in sweep.tokens():
                    z = sweep.logits(tokens, columns)
                    slope = sweep.cap_slope(z)
                    z.sub_(lse[tokens, None]).exp_()
                    if per_square is None:
                        z.mul_(per_p[tokens, None])
                    else:
                        factor = torch.mul(
                            z, per_square[tokens, None], out=sweep.buffer("difference", *z.shape)
                        )
                        z.mul_(factor.add_(per_p[tokens, None]))
                    if ref_sweep is not None and g_kl is not None:
                        z_ref = ref_sweep.logits(tokens, columns).sub_(ref_lse[tokens, None]).exp_()
                        z.sub_(z_ref.mul_(g_kl[tokens, None]))
                    if g_logp is not None:
                        place, inside = _at_labels(labels[tokens], columns)
                        z.scatter_add_(1, place, torch.where(inside, at_label[tokens], 0)[:, None])
                    if slope is not None:
                        z.mul_(slope)
                    if need_bias:
                        bias_sum += z.sum(dim=0)
                    z = z.to(sweep.narrow)
                    if d_hidden is not None:
                        add_product(z, sweep.weights(columns), d_hidden[tokens])
                    if d_weight is not None:
                        # The first block of tokens writes what was allocated empty.
                        put = add_product if tokens.start else product
                        put(z.T, sweep.hidden[tokens], target)
                if d_weight is not None and partial is not None:
                    d_weight[columns] = target
                if d_bias is not None:
                    d_bias[columns] = bias_sum
        if d_hidden is not None:
            d_hidden = d_hidden.to(hidden.dtype)
        return d_hidden, d_weight, d_bias, *no_gradients


def tiled_statistics(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    *,
    collision: bool = False,
    ref_hidden: Tensor | None = None,
    reference: Head | None = None,
    tile_bytes: int | None = None,
) -> TokenStatistics:
    """Return the statistics of tokens ``(n, d)``, each ``(n,)`` or ``None``.

    Differentiable in ``hidden`` and the head's weight and bias; a reference is a constant.
    """
    frozen = not head.weight.requires_grad and (head.bias is None or not head.bias.requires_grad)
    direct = (
        torch.is_grad_enabled()
        and hidden.requires_grad
        and frozen
        and not collision
        and reference is None
    )
    if tile_bytes is None:
        tile_bytes = default_tile_bytes(hidden.device)
    if reference is not None and ref_hidden is not None:
        bias = None if reference.bias is None else reference.bias.detach()
        reference = Head(reference.weight.detach(), bias, reference.softcap)
        ref_hidden = ref_hidden.detach()
    logp, log_collision, kl, ref_logp = _Statistics.apply(
        hidden,
        head.weight,
        head.bias,
        labels,
        head.softcap,
        tile_bytes,
        collision,
        direct,
        ref_hidden,
        reference,
    )
    return TokenStatistics(logp=logp, collision=log_collision, kl=kl, ref_logp=ref_logp)
