"""Draws from many finite distributions at once."""

from __future__ import annotations

import numpy as np

__all__ = ["inverse_transform"]


def inverse_transform(cumulative: np.ndarray, row: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return for each height how many sums of its row of ``cumulative`` it has reached.

    Where the heights are uniform up to the last sum of a row, these are draws from the
    distribution that was summed.

    Parameters
    ----------
    cumulative
        ``(R, K)``, rising along each row.
    row
        Integers in ``[0, R)``, of any shape that broadcasts with ``height``.
    height
        Any shape.

    Returns
    -------
    Integers, found by bisection: in memory as much as the heights, however long the rows.

    Examples
    --------
    >>> sums = np.array([[0.25, 1.0], [0.5, 1.0]])
    >>> inverse_transform(sums, np.array([0, 1]), np.array([0.3, 0.3]))
    array([1, 0])
    """
    size = cumulative.shape[-1]
    row, height = np.broadcast_arrays(row, height)
    low = np.zeros(height.shape, dtype=np.int64)
    high = np.full(height.shape, size, dtype=np.int64)
    for _ in range(size.bit_length()):
        middle = (low + high) // 2
        # What is found already stays: behind the last sum there is none to compare with.
        reached = height >= cumulative[row, np.minimum(middle, size - 1)]
        open_ = low < high
        low = np.where(open_ & reached, middle + 1, low)
        high = np.where(open_ & ~reached, middle, high)
    return low
