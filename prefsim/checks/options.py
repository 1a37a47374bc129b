"""Checks of options: numbers, choices, folders and functions that a caller names."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from prefsim.checks.quoting import shown
from prefsim.checks.values import options_are_trusted
from prefsim.numerics import array_namespace, host_values

__all__ = [
    "check_callable",
    "check_choice",
    "check_directory",
    "check_discount",
    "check_even",
    "check_flag",
    "check_integer",
    "check_interval",
    "check_kind",
    "check_known",
    "check_nonnegative",
    "check_number",
    "check_positive",
    "check_reference_weight",
]


LARGEST_INTEGER = 2**63 - 1  # what arrays can count to

Test = Callable[[Any], Any]  # of a float, or of an array of them, entry by entry


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    """Return a number as a float: NaN, which passes no test, for an integer beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _passes(value: Any, test: Test, *, arrays: bool) -> bool:
    """Return whether a number passes a test or, where arrays may be, all entries of an array do."""
    if options_are_trusted():
        return True
    if _is_number(value):
        return bool(test(_as_float(value)))
    if not (arrays and is_array_api_obj(value)) or isinstance(value, np.ma.MaskedArray):
        return False
    xp = array_namespace(value)
    if not xp.isdtype(value.dtype, ("real floating", "integral")):
        return False
    # Inside a trace there is nothing to look at yet.
    values = host_values(value)
    return values is None or bool(np.all(test(values)))


def _refused(name: str, wanted: str, value: Any, *, arrays: bool) -> ValueError:
    """Return the error of an option; of an array where one number is taken, it says so."""
    if not arrays and is_array_api_obj(value) and value.ndim:
        return ValueError(
            f"{name} must {wanted} and takes no array, got one of shape {tuple(value.shape)}"
        )
    return ValueError(f"{name} must {wanted}, got {shown(value)}")


def check_number(*, arrays: bool = False, **named: Any) -> None:
    """Raise unless every named hyper-parameter is a finite number.

    With ``arrays`` it may be an array of them, of any library.
    """
    for name, value in named.items():
        if not _passes(value, lambda x: abs(x) < math.inf, arrays=arrays):
            raise _refused(name, "be a finite number", value, arrays=arrays)


def check_positive(*, arrays: bool = False, **named: Any) -> None:
    """Raise unless every named hyper-parameter is a finite number > 0.

    With ``arrays`` it may be an array of them, of any library.
    """
    for name, value in named.items():
        if not _passes(value, lambda x: (x > 0) & (x < math.inf), arrays=arrays):
            raise _refused(name, "be a finite number > 0", value, arrays=arrays)


def check_nonnegative(*, arrays: bool = False, **named: Any) -> None:
    """Raise unless every named hyper-parameter is a finite number >= 0.

    With ``arrays`` it may be an array of them, of any library.
    """
    for name, value in named.items():
        if not _passes(value, lambda x: (x >= 0) & (x < math.inf), arrays=arrays):
            raise _refused(name, "be a finite number >= 0", value, arrays=arrays)


def check_interval(
    *, low: float, high: float, closed: str = "left", arrays: bool = False, **named: Any
) -> None:
    """Raise unless every named number lies between ``low`` and ``high``.

    ``closed`` says which ends belong to the range: left, right, both or neither. With ``arrays`` it
    may be an array of numbers, of any library.
    """
    includes_low, includes_high = closed in ("left", "both"), closed in ("right", "both")

    def inside(x: Any) -> Any:
        above = x >= low if includes_low else x > low
        return above & (x <= high if includes_high else x < high)

    for name, value in named.items():
        if not _passes(value, inside, arrays=arrays):
            opening, closing = "[" if includes_low else "(", "]" if includes_high else ")"
            span = f"lie in {opening}{low}, {high}{closing}"
            raise _refused(name, span, value, arrays=arrays)


def check_flag(**named: Any) -> None:
    """Raise unless every named option is True or False."""
    for name, value in named.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {shown(value)}")


def check_reference_weight(step: Any, tau: Any) -> None:
    """Raise unless ``step * tau``, the weight of the reference in a step, is at most 1."""
    if not _passes(step * tau, lambda x: x <= 1, arrays=True):
        raise ValueError(
            f"step * tau must be <= 1, got step={shown(step)} times tau={shown(tau)}: the policy"
            " would get a negative exponent"
        )


def check_discount(discount: float) -> None:
    """Raise unless ``discount`` lies in [0, 1)."""
    check_interval(discount=discount, low=0.0, high=1.0)


def check_integer(*, low: int, high: int | None = None, **named: Any) -> None:
    """Raise unless every named value is an integer >= ``low`` and, if given, <= ``high``."""
    top = LARGEST_INTEGER if high is None else high
    for name, value in named.items():
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integer or not low <= value <= top:
            wanted = f">= {low}" if high is None else f"in [{low}, {high}]"
            if integer and high is None and value > top:
                wanted += " and < 2**63"
            raise ValueError(f"{name} must be an integer {wanted}, got {shown(value)}")


def check_even(value: int, name: str) -> None:
    """Raise unless ``value`` is an even number >= 2."""
    check_integer(low=2, **{name: value})
    if value % 2:
        raise ValueError(f"{name} must be even, got {value!r}")


def check_choice(choices: tuple[str, ...] | list[str], **named: Any) -> None:
    """Raise unless every named option is one of ``choices``."""
    for name, value in named.items():
        if not (isinstance(value, str) and value in choices):
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, choices))}, got {shown(value)}"
            )


def check_known(choices: Iterable[str], **named: Any) -> None:
    """Raise unless every named value is one of ``choices``, naming the closest of them.

    It is :func:`check_choice` for long lists.
    """
    known = list(choices)
    for name, value in named.items():
        if not (isinstance(value, str) and value in known):
            close = difflib.get_close_matches(str(value), known, n=3, cutoff=0.4)
            hint = (
                f"did you mean {' or '.join(map(repr, close))}?"
                if close
                else f"{len(known)} are known, none like it"
            )
            raise ValueError(f"{name} {shown(value)} is not known; {hint}")


def check_directory(path: Path, name: str) -> None:
    """Raise unless ``path`` is a folder that exists."""
    if not path.is_dir():
        raise ValueError(
            f"{name} must be a folder that exists, got {str(path)!r}"
            + (", which is a file" if path.exists() else "")
        )


def check_kind(kind: type[Any], **named: Any) -> None:
    """Raise ``TypeError`` unless every named argument is one of a class."""
    for name, value in named.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def check_callable(**named: Any) -> None:
    """Raise unless every named option is a function."""
    for name, value in named.items():
        if not callable(value):
            raise ValueError(f"{name} must be a function, got {shown(value)}")
