"""What the entries of an array must be, looked at where that costs nothing and can be switched off.

Values are not looked at inside :func:`trusted_values`, on a device that would have to be waited
for, nor in a trace or a transform of functions, where there are none yet. Types and shapes always
are.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from prefsim.numerics import host_values, is_traced, to_numpy

__all__ = [
    "are_trusted",
    "check_entries",
    "check_no_nan",
    "check_within",
    "first_place",
    "found_at",
    "known_values",
    "options_are_trusted",
    "place_of",
    "trusted_values",
]

_trusted: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "prefsim_trusted_values", default=False
)
_trusted_options: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "prefsim_trusted_options", default=False
)


@contextlib.contextmanager
def trusted_values(*, options: bool = False) -> Iterator[None]:
    """Take the values of arrays as they are, inside a ``with`` block.

    For loops whose arrays have passed once: losses look at neither NaN nor ranges there, and an
    array that is none costs nothing to be told so. Options, types of options and shapes are checked
    as ever.

    Parameters
    ----------
    options
        Whether numbers and arrays that are options have passed once as well, and are taken as they
        are.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim import losses
    >>> pair = losses.PairLogps(*np.full((4, 1), np.nan))
    >>> with trusted_values():
    ...     losses.dpo(pair)
    array([nan])
    >>> losses.dpo(pair)
    Traceback (most recent call last):
        ...
    ValueError: chosen must hold no NaN, got nan at index 0
    """
    token, of_options = _trusted.set(True), _trusted_options.set(options)
    try:
        yield
    finally:
        _trusted.reset(token)
        _trusted_options.reset(of_options)


def are_trusted() -> bool:
    """Return whether values are taken as they are, inside :func:`trusted_values`."""
    return _trusted.get()


def options_are_trusted() -> bool:
    """Return whether options are taken as they are, inside ``trusted_values(options=True)``."""
    # A trace is asked about first: it cannot follow the switch.
    return not is_traced() and _trusted_options.get()


def known_values(array: Any) -> np.ndarray | None:
    """Return the values of an array of any library where they may be looked at, else None."""
    # A trace is asked about first: it cannot follow the switch.
    values = host_values(array)
    return None if values is None or _trusted.get() else values


def check_entries(
    array: Any,
    name: str,
    expected: str,
    allowed: Callable[[np.ndarray], Any],
    *,
    counted: Any = None,
) -> None:
    """Raise at the first entry that is not allowed, where values may be looked at.

    Parameters
    ----------
    array
        Of any library.
    name
        Of the argument.
    expected
        What goes on the sentence "{name} must ...".
    allowed
        Takes the values as a NumPy array and returns booleans.
    counted
        Booleans of the shape of the array: which entries matter; all unless given.
    """
    values = known_values(array)
    if values is None:
        return
    fine = np.atleast_1d(allowed(values))
    if counted is not None:
        fine = fine | ~np.atleast_1d(to_numpy(counted))
    if not fine.all():
        raise ValueError(f"{name} must {expected}, got {found_at(values, ~fine)}")


def check_within(
    array: Any, name: str, expected: str, *, low: float = -math.inf, high: float = math.inf
) -> None:
    """Raise at the first entry outside ``[low, high]``, where values may be looked at.

    As :func:`check_entries`, in one pass over the array for each end: losses ask this of every
    batch.
    """
    values = known_values(array)
    if values is None or not values.size:
        return
    above = low == -math.inf or values.min() >= low
    if not (above and (high == math.inf or values.max() <= high)):
        check_entries(array, name, expected, lambda x: (x >= low) & (x <= high))


def check_no_nan(array: Any, name: str, *, counted: Any = None) -> None:
    """Raise at the first entry that is NaN, where values may be looked at; infinities may be."""
    check_entries(array, name, "hold no NaN", lambda x: ~np.isnan(x), counted=counted)


def first_place(bad: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first true entry."""
    return tuple(int(i) for i in np.argwhere(bad)[0])


def found_at(array: Any, bad: Any) -> str:
    """Return the first entry that is bad and where it is, in words."""
    return f"{np.atleast_1d(array)[first_place(np.atleast_1d(bad))]} at {place_of(bad)}"


def place_of(bad: np.ndarray) -> str:
    """Return the index of the first true entry in words."""
    index = first_place(np.atleast_1d(bad))
    return f"index {index[0] if len(index) == 1 else index}"
