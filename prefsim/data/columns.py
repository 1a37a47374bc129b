"""What the data containers share: columns of one length, and the log-probabilities of an absent reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.numerics import array_namespace

Array = Any


def check_columns(name_to_column: dict[str, np.ndarray], n: int) -> None:
    """Raise unless every column ends in an axis of length ``n``."""
    for name, column in name_to_column.items():
        if column.ndim == 0 or column.shape[-1] != n:
            raise ValueError(f"{name} must have n = {n} entries along its last axis, got shape {column.shape}")


def zeros_like_logps(logps: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the log-probabilities of the absent reference: zero everywhere, so that a loss becomes reference-free."""
    return tuple(array_namespace(x).zeros_like(x) for x in logps)
