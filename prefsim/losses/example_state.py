"""State that a method keeps of every training example, in arrays indexed by the example's place."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import as_index_array
from prefsim.numerics import array_namespace, like
from prefsim.typing import Array, ArrayT

__all__ = ["batch_places", "scattered"]


def batch_places(ids: Any, *, size: int, batch: Array, name: str) -> np.ndarray:
    """Return the places ``(n,)`` of a batch in a state of ``size`` examples, or raise.

    ``batch`` holds one entry an example, and is called ``name`` in the error.
    """
    places = as_index_array(ids, "ids", size=size)
    if places.ndim != 1 or places.shape != tuple(batch.shape):
        raise ValueError(
            f"ids must have the shape (n,) of {name}, got ids {places.shape} and {name}"
            f" {tuple(batch.shape)}"
        )
    return places


def scattered(base: ArrayT, places: np.ndarray, values: Array) -> ArrayT:
    """Return a copy of ``base`` ``(n,)`` with ``values`` at ``places``.

    Of a place named twice the last value counts.
    """
    xp = array_namespace(base)
    source = np.full(base.shape[0], -1)
    source[places] = np.arange(len(places))
    index = like(source, base, integer=True)
    taken = values[xp.where(index < 0, xp.zeros_like(index), index)]
    return xp.where(index < 0, base, taken)
