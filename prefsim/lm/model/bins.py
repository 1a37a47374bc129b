"""Which sequences share a row, by their lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["packed_rows", "packed_size"]


def packed_rows(sizes: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Return the numbers of sequences by the row that they go into: first fit, the longest first.

    Parameters
    ----------
    sizes
        Tokens of each sequence, none above ``capacity``.
    capacity
        Most tokens of a row.

    Examples
    --------
    >>> packed_rows([5, 1, 4, 2, 3], 5)
    [[0], [2, 1], [4, 3]]
    """
    order = np.argsort(-np.asarray(sizes), kind="stable").tolist()
    rows: list[list[int]] = []
    left: list[int] = []
    for i in order:
        size = int(sizes[i])
        row = next((k for k, room in enumerate(left) if room >= size), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(capacity)
        rows[row].append(i)
        left[row] -= size
    return rows


def packed_size(sizes: Sequence[int] | np.ndarray) -> int:
    """Return the tokens of a batch of packed sequences with its padding: rows times the longest."""
    longest = int(np.max(sizes))
    return len(packed_rows(sizes, longest)) * longest
