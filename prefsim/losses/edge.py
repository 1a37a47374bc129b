"""The edge of every loss: what comes in is numbers, and what goes out is none of a hidden NaN.

A loss is a pure formula. :func:`checked` puts a door before it: the container is the one that the
loss takes, its fields are real arrays of one library in floating point (integers are converted, so
that no difference wraps round), and a value that is NaN because a field is, is an error that names
the field.

Inside :func:`prefsim.checks.trusted_values`, and where a function is traced, the door is open.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from array_api_compat import is_torch_array

from prefsim.checks import (
    are_trusted,
    as_array,
    as_one_library,
    as_signed,
    check_broadcast,
    check_entries,
    check_no_nan,
    in_floats,
    is_array,
    is_floating,
    is_plain_float,
    known_values,
)
from prefsim.losses.registry import container_of
from prefsim.numerics import is_traced, to_numpy

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["checked", "received"]

# By the last word of a field's name; every other field holds real numbers.
BOOLEAN, INTEGER = {"desirable", "mask"}, {"label", "degree"}

# A loss that is made of others has been through the door once.
_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("prefsim_loss_inside", default=False)


def checked(loss: F) -> F:
    """Return a loss that looks at what it is given.

    For a loss of your own, above ``def``: what it needs beyond numbers is its own to check, by
    :mod:`prefsim.checks`.

    Parameters
    ----------
    loss
        A function of one container of :mod:`prefsim.losses`, named by its annotation, and options.

    Returns
    -------
    The loss with the door before it, of the same name and signature. It raises ``TypeError`` for
    another container and ``ValueError`` for a field that holds no numbers, or NaN that reaches a
    value.

    Examples
    --------
    >>> import numpy as np
    >>> from prefsim.losses import PairLogps
    >>> @checked
    ... def gap(logps: PairLogps) -> np.ndarray:
    ...     return logps.rejected - logps.chosen
    >>> gap(PairLogps([-1], [-3], [0], [0]))
    array([-2.])
    >>> gap(PairLogps([-1], [float("nan")], [0], [0]))
    Traceback (most recent call last):
        ...
    ValueError: rejected must hold no NaN, got nan at index 0
    """
    kind, first = container_of(loss), next(iter(inspect.signature(loss).parameters))

    @functools.wraps(loss)
    def at_the_edge(*given: Any, **options: Any) -> Any:
        if is_traced() or _inside.get() or not (given or first in options):
            return loss(*given, **options)
        # An option that is an array follows the library of the fields, whoever has looked at it.
        if are_trusted() and not any(is_array(option) for option in options.values()):
            return loss(*given, **options)
        logps = given[0] if given else options.pop(first)
        logps, options = received(logps, kind, loss.__name__, options)
        token = _inside.set(True)
        try:
            values = loss(logps, *given[1:], **options)
        finally:
            _inside.reset(token)
        for each in values if isinstance(values, tuple) else (values,):
            _refuse_nan(each, logps)
        return values

    return at_the_edge  # type: ignore[return-value]


def received(
    logps: Any, kind: Any, loss: str, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return a container of real arrays in floating point and options, all of one library.

    Raises
    ------
    TypeError
        If it is another container.
    ValueError
        If a field holds no numbers, or one that cannot be left out is None.
    """
    if not isinstance(logps, kind):
        raise TypeError(f"{loss} takes {kind.__name__}, got {type(logps).__name__}")
    given = logps._asdict()
    for name in kind._fields:
        if given[name] is None and name not in kind._field_defaults:
            raise ValueError(f"{name} must be an array, got None")
    fields = {name: value for name, value in given.items() if value is not None}
    beside = {name: value for name, value in options.items() if is_array(value)}
    if beside:
        shape = np.shape(fields[kind._fields[0]])
        values = np.empty(shape[: len(shape) - _axes_of_a_row(kind)])
        for name, value in beside.items():
            check_broadcast(**{name: value, "values": values})
    libraries = {_plain_library(value, name) for name, value in fields.items()}
    if True not in libraries:
        options = {name: _as_number(value) for name, value in options.items()}
    libraries |= {is_torch_array(value) for value in beside.values()}
    if len(libraries) == 1 and None not in libraries:
        return logps, options
    arrays = {name: as_array(value, name, *_kinds(name)) for name, value in fields.items()}
    together = as_one_library(arrays | beside)
    dtype = next((each.dtype for each in together.values() if is_floating(each)), None)
    read = {name: _read(together[name], name, dtype) for name in fields}
    return logps._replace(**read), options | {name: together[name] for name in beside}


def _as_number(option: Any) -> Any:
    """Return a torch number without a gradient as NumPy's, and anything else as it is.

    Beside NumPy's arrays torch would be asked for one of its own type, which bfloat16 has not.
    """
    is_number = is_torch_array(option) and option.ndim == 0 and not option.requires_grad
    return to_numpy(option)[()] if is_number else option


@functools.cache
def _axes_of_a_row(kind: Any) -> int:
    """Return how many axes one example has in the first field of a container."""
    return len(kind.example(rows=1)[0].shape) - 1


@functools.cache
def _kinds(name: str) -> tuple[str, ...]:
    """Return which entries a field may hold, by the last word of its name."""
    word = name.rpartition("_")[2]
    if word in BOOLEAN:
        return ("bool",)
    return ("integral",) if word in INTEGER else ("real floating", "integral")


_PLAIN = {("bool",): "b", ("integral",): "i", ("real floating", "integral"): "f"}


def _plain_library(value: Any, name: str) -> bool | None:
    """Return whether a field is torch's or, else, NumPy's, told at no cost.

    None where there is more to look at than that.
    """
    kinds = _kinds(name)
    if type(value) is np.ndarray:
        plain = is_plain_float(value) if len(kinds) > 1 else value.dtype.kind == _PLAIN[kinds]
        return False if plain and value.dtype.isnative else None
    return True if is_torch_array(value) and len(kinds) > 1 and value.is_floating_point() else None


def _read(array: Any, name: str, dtype: Any) -> Any:
    """Return the entries of a field in the one type that losses calculate with."""
    kinds = _kinds(name)
    if kinds == ("bool",):
        return array
    # Unsigned integers wrap round: what is left out has a negative degree.
    return in_floats(array, dtype) if len(kinds) > 1 else as_signed(array, name)


def _refuse_nan(values: Any, logps: Any) -> None:
    """Raise where a value is NaN because a field is, naming the field."""
    seen = known_values(values)
    # The smallest of several numbers is NaN where one is.
    if seen is None or not seen.size or not np.isnan(seen.min()):
        return
    for name, field in logps._asdict().items():
        if field is not None and is_floating(field):
            check_no_nan(field, name, counted=_mask_of(logps, name))
    # Of infinite scores a difference or a share is none.
    for name, field in logps._asdict().items():
        if field is not None and "score" in name:
            check_entries(field, name, "be finite, for a value that is no NaN", np.isfinite)


def _mask_of(logps: Any, name: str) -> Any:
    """Return which entries of a field are scored, None for all: padding may hold anything."""
    response = name.removeprefix("ref_").partition("_")[0]
    masks = {"mask", f"{response}_mask"} & set(logps._fields)
    mask = getattr(logps, masks.pop()) if masks else None
    return mask if mask is not None and mask.shape == getattr(logps, name).shape else None
