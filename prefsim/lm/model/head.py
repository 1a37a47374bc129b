"""The last layer of a language model, and its matrix products in the precision that sums need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Head",
    "accumulator",
    "add_product",
    "default_tile_bytes",
    "full_precision",
    "operands",
    "product",
]


class Head(NamedTuple):
    """The last layer of a language model.

    Its logits are ``softcap · tanh((hidden @ weight.T + bias) / softcap)``, uncapped for ``None``.
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
    if hidden.is_cuda and hidden.dtype == torch.bfloat16 and wide == torch.float32:
        return torch.bfloat16
    return wide


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
