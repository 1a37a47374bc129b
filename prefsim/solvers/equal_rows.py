"""Equal rows of data as one row of their weight: the same objective, evaluated once."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import numpy as np

from prefsim._frozen import set_fields
from prefsim.data.comparisons import Comparisons
from prefsim.data.feedback import Feedback
from prefsim.data.scored import ScoredPairs
from prefsim.losses.catalogue import couples_batch
from prefsim.losses.running import RunningLoss
from prefsim.typing import Loss

__all__ = ["merged"]

# Below so many rows nothing is gained that would be worth another order of summation.
FEWEST = 5000
MERGED = (Comparisons, Feedback, ScoredPairs)


def merged(data: Any, loss: Loss) -> Any:
    """Return data in which rows that differ in nothing but their weight are one row.

    Data come back as they are where that would not be the same: for a loss that couples its batch
    or keeps a state, and for data sets with rows of their own.
    """
    if type(data) not in MERGED or len(data) < FEWEST or isinstance(loss, RunningLoss):
        return data
    columns = {field.name: getattr(data, field.name) for field in fields(data)}
    weight = columns.pop("weight")
    given = {name: column for name, column in columns.items() if column is not None}
    if any(column.ndim != 1 for column in given.values()) or couples_batch(loss):
        return data
    key, groups = np.zeros(len(data), dtype=np.int64), 1
    for column in given.values():
        code, values = _codes(column)
        if groups * values >= 2**62:
            # Renumbered, the groups so far are no more than there are rows.
            _, key = np.unique(key, return_inverse=True)
            groups = len(data)
        key, groups = key * values + code, groups * values
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    if first.size == len(data):
        return data
    rows = weight.reshape(-1, weight.shape[-1])
    sums = np.stack([np.bincount(group, weights=each, minlength=first.size) for each in rows])
    smaller = copy.copy(data)
    set_fields(
        smaller,
        weight=sums.reshape(*weight.shape[:-1], -1),
        **{name: column[first] for name, column in given.items()},
    )
    return smaller


def _codes(column: np.ndarray) -> tuple[np.ndarray, int]:
    """Return integers that are equal where the entries of a column are, and a bound above them."""
    if column.dtype.kind == "i":
        return column, int(column.max()) + 1
    if (column == column[0]).all():
        return np.zeros(column.size, dtype=np.int64), 1
    values, code = np.unique(column, return_inverse=True)
    return code, values.size
