r"""Numbers kept in eight bits each, with a scale for every block of 256.

The codes are dynamic: of the numbers between :math:`10^{k-1}` and :math:`10^k` of a block's
largest, :math:`2^i` equally spaced ones have a code, twice as many in each decade as in the one
below it, so that six decades have one and large numbers have close ones.

A block lies within one row, an index of the first dimension: however rows are shared out over
processes, the codes are the same.

References
----------
Dettmers et al. 2022, arXiv:2110.02861; dynamic codes: Dettmers 2016, arXiv:1511.04561.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["blocks_of", "decoded", "encoded", "moment_bytes"]

_BLOCK = 256
_DECADES = 7


def blocks_of(shape: Sequence[int]) -> int:
    """Return how many blocks a row of a tensor has, as equal in length as can be."""
    return math.ceil(math.prod(shape[1:]) / _BLOCK)


def moment_bytes(shape: Sequence[int], wide: int = 4) -> int:
    """Return the bytes of one moment of a parameter, scales included.

    That of a vector has no rows, is small, and stays as wide as so many bytes a number.
    """
    numbers = math.prod(shape)
    return wide * numbers if len(shape) < 2 else numbers + 4 * shape[0] * blocks_of(shape)


@functools.cache
def _code(signed: bool, device: torch.device) -> Tensor:
    """Return the numbers in [-1, 1], or [0, 1], that have a code, in their order."""
    parts = []
    for i in range(_DECADES):
        # Without a sign there are twice as many codes to share out.
        numbers = 2 ** (i if signed else i + 1)
        decade = torch.linspace(0.1, 1, numbers + 1, dtype=torch.float64)[1:]
        parts.append(decade * 10.0 ** (i + 1 - _DECADES))
    positive = torch.cat(parts)
    zero = positive.new_zeros(1)
    negative = -positive.flip(0) if signed else positive[:0]
    return torch.cat([negative, zero, positive]).float().to(device)


def decoded(codes: Tensor, scales: Tensor, *, signed: bool) -> Tensor:
    """Return float32 numbers of the shape of their codes.

    Parameters
    ----------
    codes
        uint8 ``(rows, …)``.
    scales
        The largest size in each block, ``(rows, blocks)``.
    signed
        Whether the numbers may be negative.
    """
    values = _code(signed, codes.device)[codes.int()]
    return _from_blocks(_in_blocks(values) * scales[..., None], codes.shape)


def encoded(values: Tensor, generator: torch.Generator, *, signed: bool) -> tuple[Tensor, Tensor]:
    r"""Return codes and scales of float32 numbers, rounded up or down so that the mean is kept.

    A number that is not negative by its nature (``signed`` false) becomes zero only where it is: a
    moment's root that were rounded to zero would be divided by.

    Parameters
    ----------
    values
        ``(rows, …)``.
    generator
        Of the rounding, on their device.
    signed
        Whether there may be negative ones.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.tensor([[4.0, -2.0, 0.003, 0.0]])
    >>> codes, scales = encoded(x, generator, signed=True)
    >>> codes.tolist(), scales.tolist()
    ([[254, 35, 140, 127]], [[4.0]])
    >>> decoded(codes, scales, signed=True)
    tensor([[ 4.0000e+00, -2.0312e+00,  3.1000e-03,  0.0000e+00]])
    """
    blocks = _in_blocks(values)
    scales = blocks.abs().amax(-1)
    # A block of zeros has the scale zero, whatever its codes say.
    shares = _from_blocks(
        blocks / scales.clamp_min(torch.finfo(scales.dtype).tiny)[..., None], values.shape
    )
    code = _code(signed, values.device)
    below = torch.searchsorted(code, shares.contiguous(), right=True, out_int32=True) - 1
    below.clamp_(0, len(code) - 2)
    low = code[below]
    distance = (shares - low) / (code[below + 1] - low)
    noise = torch.rand(shares.shape, generator=generator, device=shares.device)
    codes = below + (noise < distance)
    if not signed:
        codes = torch.where((codes == 0) & (shares > 0), 1, codes)
    return codes.to(torch.uint8), scales


def _in_blocks(values: Tensor) -> Tensor:
    """Return ``(rows, blocks, width)``, the last block of each row filled up with zeros."""
    blocks = blocks_of(values.shape)
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    width = math.ceil(flat.shape[1] / blocks)
    return torch.nn.functional.pad(flat, (0, blocks * width - flat.shape[1])).view(
        len(values), blocks, width
    )


def _from_blocks(blocks: Tensor, shape: Sequence[int]) -> Tensor:
    """Return what was put into blocks in its own shape."""
    return blocks.flatten(1)[:, : math.prod(shape[1:])].reshape(shape)
