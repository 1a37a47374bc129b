"""Log-softmax statistics of ``hidden @ weight.T`` in tiles, so that the (tokens x vocabulary) matrix never exists."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Head", "accumulator", "default_tile_bytes", "operands", "product", "tiled_statistics"]


class Head(NamedTuple):
    """The last layer of a language model.

    logits ``softcap · tanh((hidden @ weight.T + bias) / softcap)``, uncapped for ``None``.

    ``weight`` is ``(V, d)``, ``bias`` ``(V,)``.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that logits and sums are kept in.

    Float64 for float64, float32 for anything narrower.
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def default_tile_bytes(device: torch.device) -> int:
    """Return a tile that stays near the last-level cache of a CPU, or fills a GPU."""
    return (16 if device.type == "cpu" else 256) * 2**20


def operands(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of the factors of the products.

    Bf16 where tensor cores sum bf16 products in float32, else the accumulator.
    """
    wide = accumulator(torch.promote_types(hidden.dtype, weight.dtype))
    return (
        torch.bfloat16
        if hidden.is_cuda and hidden.dtype == torch.bfloat16 and wide == torch.float32
        else wide
    )


def product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Write ``left @ right``, factors of one dtype, into ``out``, which may be wider.

    A product rounded to bf16 has lost its bits.
    """
    if left.dtype == out.dtype:
        return torch.mm(left, right, out=out)
    return out.copy_(torch.mm(left, right, out_dtype=out.dtype))


def add_product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Add ``left @ right`` to ``out``."""
    if left.dtype == out.dtype:
        return out.addmm_(left, right)
    return out.add_(torch.mm(left, right, out_dtype=out.dtype))


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast from narrowing the products."""
    with torch.autocast(device_type=device.type, enabled=False):
        yield


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
        n, v = len(hidden), len(head.weight)
        entries = max(tile_bytes // self.wide.itemsize, 1)
        # Products with fewer than about 1024 columns run at a fraction of the machine's rate.
        self.block: int = max(min(n, max(entries // 1024, 256)), 1) if like is None else like.block
        self.width: int = (
            min(v, max(entries // self.block // 64 * 64, 64)) if like is None else like.width
        )
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
        """Take in a tile, turn it in place into ``exp(z - top)``, and return the factor by which the rows' earlier sums shrank."""
        top = torch.maximum(self.top[tokens], z.amax(dim=1))
        shrink = torch.exp(self.top[tokens] - top)
        z.sub_(top[:, None]).exp_()
        self.top[tokens] = top
        self.total[tokens] = self.total[tokens] * shrink + z.sum(dim=1)
        if self.squares is not None:
            self.squares[tokens] = self.squares[tokens] * shrink.square() + torch.linalg.vecdot(
                z, z
            )
        return shrink

    @property
    def logsumexp(self) -> Tensor:
        return self.top + self.total.log()


def _at_labels(labels: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Return where the labels lie in a tile, clamped into it ``(n, 1)``, and which lie there at all ``(n,)``."""
    place = labels - columns.start
    inside = (place >= 0) & (labels < columns.stop)
    return place.clamp(0, columns.stop - columns.start - 1)[:, None], inside


class _Statistics(torch.autograd.Function):
    """Per token: log-probability of the label, ``log Σ p²``, and with a reference ``KL(ref‖p)`` and the label's log-probability there.

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
        with full_precision(hidden.device):
            sweep = _Sweep(hidden, Head(weight, bias, softcap), tile_bytes)
            ref_sweep = (
                None
                if ref_hidden is None or reference is None
                else _Sweep(ref_hidden, reference, tile_bytes, like=sweep)
            )
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
            log_collision = (
                None
                if normaliser.squares is None
                else normaliser.squares.log() - 2 * normaliser.total.log()
            )
            kl = ref_logp = ref_lse = None
            if ref_normaliser is not None:
                ref_lse = ref_normaliser.logsumexp
                ref_logp = ref_label - ref_lse
                kl = (gap / ref_normaliser.total - ref_lse + lse).clamp_min_(0)
            if pulled is not None:
                chosen = weight[labels].to(wide)
                pulled = torch.sub(
                    chosen if softcap is None else chosen * own[:, None],
                    pulled.div_(normaliser.total[:, None]),
                )
        ctx.dtype = hidden.dtype
        ctx.settings = (
            softcap,
            tile_bytes,
            direct,
            reference.softcap if reference is not None else None,
        )
        if direct:
            ctx.save_for_backward(pulled)
        else:
            ref_tensors = (None, None) if reference is None else (reference.weight, reference.bias)
            ctx.save_for_backward(
                hidden, weight, bias, labels, lse, log_collision, ref_hidden, *ref_tensors, ref_lse
            )
        if ref_logp is not None:
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
        _: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        softcap, tile_bytes, direct, ref_softcap = ctx.settings
        empty = (None,) * 7
        if direct:
            (pulled,) = ctx.saved_tensors
            return (
                None if g_logp is None else (g_logp[:, None] * pulled).to(ctx.dtype),
                None,
                None,
                *empty,
            )
        (
            hidden,
            weight,
            bias,
            labels,
            lse,
            log_collision,
            ref_hidden,
            ref_weight,
            ref_bias,
            ref_lse,
        ) = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
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
            d_weight = (
                allocate(weight, memory_format=torch.contiguous_format) if need_weight else None
            )
            d_bias = allocate(bias) if need_bias else None
            partial = (
                weight.new_empty((sweep.width, weight.shape[1]), dtype=wide)
                if need_weight and weight.dtype != wide
                else None
            )
            for columns in sweep.columns():
                if d_weight is not None:
                    target = (
                        d_weight[columns]
                        if partial is None
                        else partial[: columns.stop - columns.start]
                    )
                bias_sum = lse.new_zeros(columns.stop - columns.start)
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
                        (add_product if tokens.start else product)(
                            z.T, sweep.hidden[tokens], target
                        )
                if d_weight is not None and partial is not None:
                    d_weight[columns] = target
                if d_bias is not None:
                    d_bias[columns] = bias_sum
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, d_bias, *empty


def tiled_statistics(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    *,
    collision: bool = False,
    ref_hidden: Tensor | None = None,
    reference: Head | None = None,
    tile_bytes: int | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return ``log p(label)``, ``log Σ p²``, ``KL(ref‖p)`` and ``log p_ref(label)`` of tokens ``(n, d)``, each ``(n,)`` or ``None``.

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
        reference = Head(
            reference.weight.detach(),
            None if reference.bias is None else reference.bias.detach(),
            reference.softcap,
        )
        ref_hidden = ref_hidden.detach()
    return _Statistics.apply(
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
