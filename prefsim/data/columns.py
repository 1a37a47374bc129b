"""What the data containers share.

Columns of one length, and the log-probabilities of an absent reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prefsim.numerics import array_namespace

Array = Any


def check_columns(name_to_column: dict[str, np.ndarray], n: int) -> None:
    """Raise unless every column ends in an axis of length ``n``."""
    for name, column in name_to_column.items():
        if column.ndim == 0 or column.shape[-1] != n:
            raise ValueError(
                f"{name} must have n = {n} entries along its last axis, got shape {column.shape}"
            )


def zeros_like_logps(logps: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the log-probabilities of the absent reference.

    Zero everywhere, so that a loss becomes reference-free.
    """
    return tuple(array_namespace(x).zeros_like(x) for x in logps)


def supported(logps: Array, weight: Array) -> Array:
    """Return log-probabilities with −1 in place of rows without weight.

    A response outside the support carries no weight, but −inf − (−inf) would poison the sum.
    """
    xp = array_namespace(logps)
    return xp.where(weight > 0, logps, -xp.ones_like(logps))


def both_ways(
    columns: Sequence[Array | None], weight: Array, prob: Array, *, axis: int = -1
) -> tuple[list[Array | None], Array]:
    """Return rows as they stand with weight ``weight · prob``, then reversed with weight ``weight · (1 − prob)``.

    Parameters
    ----------
    columns
        In twos, one for each of two responses, or None for what is not there; a reversed row has
        the two exchanged.
    weight, prob
        ``(..., n)``, of the rows.
    axis
        Of the rows in the columns.

    Returns
    -------
    Columns of 2n rows, and their weights ``(..., 2n)``.
    """
    xp = array_namespace(weight)
    twins = ((columns[i], columns[i ^ 1]) for i in range(len(columns)))
    both = [
        None if here is None or there is None else xp.concat([here, there], axis=axis)
        for here, there in twins
    ]
    return both, xp.concat([weight * prob, weight * (1 - prob)], axis=-1)
