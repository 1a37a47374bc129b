"""What NumPy does several times faster than by the functions of the array API.

Rows that come one at a time, by the thousand, and tables of many short rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

# Of a block that stays in the cache.
BLOCK_ENTRIES = 32_768


def logsumexp(x: np.ndarray, axis: int | tuple[int, ...], keepdims: bool) -> Any:
    """Return ``log(sum(exp(x)))`` along ``axis``, a number for one row."""
    # Play makes many thousands of small steps: NumPy's ufuncs by themselves, whose wrappers take
    # longer than rows of a hundred entries.
    if x.ndim == 1 and not keepdims:
        # With numbers NumPy computes faster than with arrays of one entry.
        peak = np.maximum.reduce(x)
        if math.isfinite(peak):
            return peak + math.log(np.add.reduce(np.exp(x - peak)))
    if axis in (-1, x.ndim - 1) and has_short_rows(x):
        return _logsumexp_of_short_rows(x, keepdims)
    peak = np.maximum.reduce(x, axis=axis, keepdims=True)
    if np.isfinite(peak).all():
        result = np.log(np.add.reduce(np.exp(x - peak), axis=axis, keepdims=True))
    else:
        peak = np.where(np.isfinite(peak), peak, 0.0)
        total = np.exp(x - peak).sum(axis=axis, keepdims=True)
        # The logarithm of no mass is -inf, and no reason for a warning.
        with np.errstate(divide="ignore"):
            result = np.log(total)
    result += peak
    return result if keepdims else result.squeeze(axis=axis)


def _logsumexp_of_short_rows(x: np.ndarray, keepdims: bool) -> np.ndarray:
    total = np.empty(x.shape[:-1], dtype=np.result_type(x, np.float16))
    flat = total.reshape(-1)
    for block, columns in columns_of_short_rows(x):
        flat[block] = logsumexp(columns, 0, keepdims=False)
    return total[..., None] if keepdims else total


def has_short_rows(x: Any) -> bool:
    """Return whether an array is NumPy's and better gone through by columns, for its short rows.

    NumPy reduces along a short last axis an entry at a time, along the first one whole rows.
    """
    return isinstance(x, np.ndarray) and x.ndim > 1 and x.shape[-1] <= 32 and x.size >= 4096


def range_of_rows(x: np.ndarray) -> tuple[Any, Any]:
    """Return the smallest and the largest entry along the last axis."""
    if not has_short_rows(x):
        return x.min(axis=-1), x.max(axis=-1)
    low, high = (np.empty(x.shape[:-1], dtype=x.dtype) for _ in range(2))
    flat_low, flat_high = low.reshape(-1), high.reshape(-1)
    for block, columns in columns_of_short_rows(x):
        np.minimum.reduce(columns, axis=0, out=flat_low[block])
        np.maximum.reduce(columns, axis=0, out=flat_high[block])
    return low, high


def columns_of_short_rows(x: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of rows, which stay in the cache, as columns ``(n, rows of the block)``.

    Each comes with its place among all rows, those of the leading axes in one.
    """
    rows = x.reshape(-1, x.shape[-1])
    length = BLOCK_ENTRIES // x.shape[-1]
    for start in range(0, rows.shape[0], length):
        block = slice(start, start + length)
        # A copy also of a single row, so that what is done to it stays here.
        yield block, np.array(rows[block].T, order="C")
