"""Tables of probabilities and of preferences, read from whatever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks.arrays import (
    as_float_array,
    check_preference,
    check_probabilities,
    check_shape,
)
from prefsim.checks.tolerance import tolerance_of, widened_preference, widened_probabilities

__all__ = ["as_context_probs", "as_preference", "as_probabilities"]


def as_probabilities(
    value: Any,
    name: str,
    *,
    ndim: int | None = None,
    min_ndim: int = 1,
    graph: bool = False,
) -> np.ndarray:
    """Return distributions along the last axis as a float64 NumPy array, or raise.

    A tensor that requires a gradient is refused, unless the caller keeps its ``graph``. What was
    held in less than double precision is what it rounds, so that it sums to one also here.

    Examples
    --------
    >>> thirds = np.full(3, 1 / 3, dtype=np.float32)
    >>> float(abs(1 - thirds.astype(np.float64).sum())) > 1e-9
    True
    >>> float(abs(1 - as_probabilities(thirds, "policy").sum())) < 1e-15
    True
    """
    table = as_float_array(value, name, ndim=ndim, min_ndim=min_ndim, graph=graph)
    check_probabilities(table, name, tolerance=tolerance_of(value))
    return widened_probabilities(table, value)


def as_preference(
    value: Any,
    name: str = "preference",
    *,
    ndim: int | None = None,
    min_ndim: int = 2,
    graph: bool = False,
) -> np.ndarray:
    """Return preference matrices ``(..., n, n)`` as a float64 NumPy array, or raise.

    A tensor that requires a gradient is refused, unless the caller keeps its ``graph``. What was
    held in less than double precision is what it rounds: ``P + Pᵀ = 1`` also here.
    """
    table = as_float_array(value, name, ndim=ndim, min_ndim=min_ndim, graph=graph)
    check_preference(table, name, tolerance=tolerance_of(value))
    return widened_preference(table, value)


def as_context_probs(value: Any, n_contexts: int) -> np.ndarray:
    """Return a distribution over contexts, float64 ``(n_contexts,)``.

    It is uniform for None, else ``value``, checked.
    """
    if value is None:
        return np.full(n_contexts, 1.0 / n_contexts)
    table = as_probabilities(value, "context_probs", ndim=1)
    check_shape(table, "context_probs", (n_contexts,))
    return table
