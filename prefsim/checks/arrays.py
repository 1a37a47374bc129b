"""Checks of arrays: what is read as one, shapes, entries, distributions, and the field's tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from prefsim.checks.numbers import NUMBERS, as_array
from prefsim.checks.tolerance import tolerance_of
from prefsim.checks.values import check_entries, first_place, found_at, place_of
from prefsim.numerics import array_namespace, to_numpy

__all__ = [
    "as_box",
    "as_float_array",
    "as_index_array",
    "as_mask",
    "as_token_array",
    "check_boolean",
    "check_broadcast",
    "check_constant",
    "check_counts",
    "check_finite",
    "check_full_support",
    "check_graph_kept",
    "check_label_margins",
    "check_places",
    "check_preference",
    "check_probabilities",
    "check_rankings",
    "check_same_shape",
    "check_shape",
    "check_skew",
    "check_unit_interval",
    "shapes_of",
]


def as_float_array(
    value: Any,
    name: str,
    *,
    ndim: int | None = None,
    min_ndim: int = 0,
    graph: bool = False,
) -> np.ndarray:
    """Return ``value`` as a finite float64 NumPy array, or raise.

    A tensor that requires a gradient is refused, unless the caller keeps its ``graph`` elsewhere or
    wants a plain number of it, as the states of losses are.
    """
    if not graph:
        check_constant(value, name)
    array = to_numpy(as_array(value, name, *NUMBERS)).astype(np.float64, copy=False)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {array.shape}")
    if array.ndim < min_ndim:
        raise ValueError(f"{name} must have at least {min_ndim} axes, got shape {array.shape}")
    check_finite(array, name)
    return array


def as_box(value: Any, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of a box as arrays of ``shape``; they may be infinite.

    The box is ``[-value, value]``, or a pair ``(low, high)``.
    """
    check_constant(value, name)
    try:
        low, high = (-value, value) if np.ndim(value) == 0 else value
        edges = [
            np.broadcast_to(to_numpy(as_array(edge, name, *NUMBERS)).astype(np.float64), shape)
            for edge in (low, high)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a number or a pair (low, high) that broadcasts to {shape}, got"
            f" {value!r}"
        ) from error
    if not (edges[0] < edges[1]).all():
        bad = ~(edges[0] < edges[1])
        raise ValueError(
            f"{name} must have low < high, got {edges[0][first_place(bad)]} and"
            f" {edges[1][first_place(bad)]} at {place_of(bad)}"
        )
    return edges[0], edges[1]


def as_index_array(value: Any, name: str, *, size: int | None = None, low: int = 0) -> np.ndarray:
    """Return ``value`` as an int64 NumPy array with entries in ``[low, size)``, or raise."""
    array = to_numpy(as_array(value, name, "integral", empty=True))
    bad = array < low if size is None else (array < low) | (array >= size)
    if bad.any():
        top = "" if size is None else f" and < {size}"
        raise ValueError(f"{name} must be >= {low}{top}, got {found_at(array, bad)}")
    if array.dtype == np.uint64:
        # What is beyond int64 would come out negative.
        check_entries(array, name, "be below 2**63", lambda x: x <= np.iinfo(np.int64).max)
    return array.astype(np.int64)


def check_places(places: Any, name: str, *, size: int) -> None:
    """Raise unless every entry of an integer array, of any library, lies in ``[0, size)``."""
    xp = array_namespace(places)
    if math.prod(places.shape) and (int(xp.min(places)) < 0 or int(xp.max(places)) >= size):
        as_index_array(places, name, size=size)


def as_mask(value: Any, name: str, *, length: int) -> np.ndarray:
    """Return ``value`` as a boolean NumPy array ``(..., length)``, or raise."""
    array = to_numpy(as_array(value, name, "bool"))
    if array.ndim == 0 or array.shape[-1] != length:
        raise ValueError(f"{name} must have trailing shape ({length}), got {array.shape}")
    return array


def as_token_array(value: Any, name: str) -> tuple[np.ndarray, Any]:
    """Return token sequences ``(..., T)`` as a NumPy array with their padding, or raise.

    Tokens are integers >= -1, padded with -1, or words, padded with "".
    """
    array = to_numpy(value)
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array of tokens with a last axis, got {value!r}")
    if array.dtype.kind == "U":
        return array, ""
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name} must hold integers or words, got dtype {array.dtype}")
    return as_index_array(array, name, low=-1), -1


def check_boolean(array: Any, name: str) -> None:
    """Raise unless ``array``, of any array library, holds booleans."""
    if not array_namespace(array).isdtype(array.dtype, "bool"):
        raise ValueError(f"{name} must hold booleans, got dtype {array.dtype}")


def check_constant(array: Any, name: str) -> None:
    """Raise where a torch tensor asks for a gradient, which NumPy would lose without a word."""
    if getattr(array, "requires_grad", False):
        raise ValueError(
            f"{name} is a torch tensor that requires a gradient, which is lost in NumPy: give"
            f" {name}.detach(), or make worlds and policies inside use_backend('torch')"
        )


def check_graph_kept(array: Any, name: str, beside: Any) -> None:
    """Raise where a torch tensor asks for a gradient and meets what is in NumPy (``beside``)."""
    if not is_torch_array(beside):
        check_constant(array, name)


def check_finite(array: np.ndarray, name: str) -> None:
    """Raise at the first entry that is NaN or infinite, and where entries are masked."""
    as_array(array, name, *NUMBERS)
    bad = ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"{name} must be finite, got {found_at(array, bad)}")


def check_shape(array: Any, name: str, expected: tuple[int | None, ...]) -> None:
    """Raise unless the trailing axes of ``array`` match ``expected``.

    ``None`` matches any length.
    """
    tail = tuple(array.shape)[-len(expected) :] if expected else ()
    if len(tail) != len(expected) or any(
        e is not None and e != t for e, t in zip(expected, tail, strict=True)
    ):
        wanted = ", ".join("any" if e is None else str(e) for e in expected)
        raise ValueError(f"{name} must have trailing shape ({wanted}), got {tuple(array.shape)}")


def check_same_shape(**named: Any) -> None:
    """Raise unless every named array (``None`` is skipped) has one shape."""
    shapes = {name: tuple(array.shape) for name, array in named.items() if array is not None}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "arrays must have one shape, got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )


def check_broadcast(**named: Any) -> None:
    """Raise unless the shapes of all named arrays broadcast; numbers have none."""
    try:
        np.broadcast_shapes(*(getattr(array, "shape", ()) for array in named.values()))
    except ValueError as error:
        raise ValueError(f"shapes must broadcast, got {shapes_of(**named)}") from error


def shapes_of(**named: Any) -> str:
    """Return the names of arrays with their shapes, in words; numbers have none.

    Examples
    --------
    >>> shapes_of(reward=np.ones((2, 3)), value=0.5)
    'reward (2, 3), value ()'
    """
    return ", ".join(
        f"{name} {tuple(getattr(array, 'shape', ()))}" for name, array in named.items()
    )


def check_unit_interval(array: np.ndarray, name: str) -> None:
    """Raise at the first entry outside [0, 1]."""
    bad = ~((array >= 0) & (array <= 1))
    if bad.any():
        raise ValueError(f"{name} must lie in [0, 1], got {found_at(array, bad)}")


def check_probabilities(array: np.ndarray, name: str, *, tolerance: float | None = None) -> None:
    """Raise unless every row along the last axis is a distribution (never renormalises).

    The tolerance is that of the array's own precision, unless that of what it was made of is given.
    """
    if array.ndim == 0 or array.shape[-1] == 0:
        raise ValueError(
            f"{name} must hold at least one entry in every row, got shape {array.shape}"
        )
    check_finite(array, name)
    if (array < 0).any():
        bad = array < 0
        raise ValueError(f"{name} must be >= 0, got {found_at(array, bad)}")
    tolerance = tolerance_of(array) if tolerance is None else tolerance
    totals = array.sum(axis=-1)
    bad = np.abs(totals - 1) > tolerance
    if np.any(bad):
        where = f"row {first_place(np.atleast_1d(bad))}" if array.ndim > 1 else "the only row"
        total = float(np.atleast_1d(totals)[first_place(np.atleast_1d(bad))])
        raise ValueError(f"{name} must sum to 1 within {tolerance:g}, got {total!r} in {where}")


def check_full_support(array: np.ndarray, name: str, *, tolerance: float | None = None) -> None:
    """Raise unless every row along the last axis is a distribution without a zero."""
    check_probabilities(array, name, tolerance=tolerance)
    bad = array <= 0
    if bad.any():
        raise ValueError(f"{name} must be > 0 everywhere, got {found_at(array, bad)}")


def check_preference(
    array: np.ndarray, name: str = "preference", *, tolerance: float | None = None
) -> None:
    """Raise unless ``array`` is ``(..., n, n)`` with entries in [0, 1] and ``P + Pᵀ = 1``.

    The tolerance is that of the array's own precision, unless that of what it was made of is given.
    """
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., n, n) with n >= 1, got {array.shape}")
    check_finite(array, name)
    check_unit_interval(array, name)
    tolerance = tolerance_of(array) if tolerance is None else tolerance
    bad = np.abs(array + np.swapaxes(array, -1, -2) - 1) > tolerance
    if bad.any():
        *lead, i, j = first_place(bad)
        total = array[(*lead, i, j)] + array[(*lead, j, i)]
        where = (*lead, i, j)
        raise ValueError(
            f"{name} must satisfy P + Pᵀ = 1 within {tolerance:g}, got P[i, j] + P[j, i] ="
            f" {total:.12g} at index {where}"
        )


def check_skew(array: np.ndarray, name: str, *, tolerance: float | None = None) -> None:
    """Raise unless ``array`` is ``(..., n, n)``, finite and skew-symmetric.

    ``S + Sᵀ = 0`` up to ``tolerance`` of its largest entry, that of the array's own precision
    unless given.
    """
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., n, n) with n >= 1, got {array.shape}")
    check_finite(array, name)
    tolerance = tolerance_of(array) if tolerance is None else tolerance
    total = array + np.swapaxes(array, -1, -2)
    bad = np.abs(total) > tolerance * np.abs(array).max(axis=(-2, -1), keepdims=True, initial=0.0)
    if bad.any():
        where = first_place(bad)
        raise ValueError(
            f"{name} must satisfy S + Sᵀ = 0, got S[i, j] + S[j, i] = {total[where]:.12g} at index"
            f" {where}"
        )


def check_counts(array: np.ndarray, name: str) -> None:
    """Raise unless ``array`` is ``(..., n, n)`` of finite counts >= 0 with a zero diagonal.

    No item meets itself.
    """
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (..., n, n) with n >= 1, got {array.shape}")
    check_finite(array, name)
    if array.size and array.min() < 0:
        bad = array < 0
        raise ValueError(f"{name} must be >= 0, got {found_at(array, bad)}")
    own = np.diagonal(array, axis1=-2, axis2=-1)
    if own.any():
        *lead, i = first_place(own != 0)
        raise ValueError(
            f"{name} must have a zero diagonal: item {i} is compared with itself at index"
            f" {(*lead, i, i)}"
        )


def check_rankings(array: np.ndarray, name: str, n_items: int) -> np.ndarray:
    """Return ``array`` as int64 ``(m, K)`` rankings of distinct items, or raise.

    Items are in ``[0, n_items)``, and -1 fills the ends.
    """
    array = to_numpy(as_array(array, name, *NUMBERS))
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers of shape (m, K) with K >= 1, got dtype {array.dtype}, shape"
            f" {array.shape}"
        )
    bad = (array < -1) | (array >= n_items)
    if bad.any():
        raise ValueError(
            f"{name} must hold items in [0, {n_items}) or -1, got {array[first_place(bad)]} at"
            f" {place_of(bad)}"
        )
    array = array.astype(np.int64)
    bad = (array[:, 1:] >= 0) & (array[:, :-1] < 0)
    if bad.any():
        raise ValueError(
            f"{name} may hold -1 only after the last item, got an item after -1 in row"
            f" {first_place(bad)[0]}"
        )
    ordered = np.sort(array, axis=1)
    bad = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bad.any():
        row, column = first_place(bad)
        raise ValueError(
            f"{name} must not repeat an item, got item {ordered[row, column]} twice in row {row}"
        )
    return array


def check_label_margins(margin: np.ndarray, label: np.ndarray, name: str = "margin") -> None:
    """Raise unless class margins ``(..., K)`` are >= 0 and 0 at the label ``(...)``."""
    if (margin < 0).any():
        raise ValueError(
            f"{name} must be >= 0, got {margin[first_place(margin < 0)]} at {place_of(margin < 0)}"
        )
    own = np.take_along_axis(margin, label[..., None], axis=-1)[..., 0]
    if (own != 0).any():
        raise ValueError(f"{name} must be 0 at the label, got {found_at(own, own != 0)}")
