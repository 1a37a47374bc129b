"""Checks of options: numbers, choices, folders and functions that a caller names."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "check_callable",
    "check_choice",
    "check_directory",
    "check_discount",
    "check_even",
    "check_integer",
    "check_interval",
    "check_known",
    "check_nonnegative",
    "check_number",
    "check_positive",
    "check_reference_weight",
]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_number(**named: float) -> None:
    """Raise unless every named hyper-parameter is a finite number."""
    for name, value in named.items():
        if not _is_number(value) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")


def check_positive(**named: float) -> None:
    """Raise unless every named hyper-parameter is a finite number > 0."""
    for name, value in named.items():
        if not _is_number(value) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} must be a finite number > 0, got {value!r}")


def check_nonnegative(**named: float) -> None:
    """Raise unless every named hyper-parameter is a finite number >= 0."""
    for name, value in named.items():
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")


def check_interval(*, low: float, high: float, closed: str = "left", **named: float) -> None:
    """Raise unless every named number lies between ``low`` and ``high``.

    ``closed`` says which ends belong to the range: left, right, both or neither.
    """
    for name, value in named.items():
        above = _is_number(value) and (value >= low if closed in ("left", "both") else value > low)
        below = _is_number(value) and (
            value <= high if closed in ("right", "both") else value < high
        )
        if not (above and below):
            opening = "[" if closed in ("left", "both") else "("
            closing = "]" if closed in ("right", "both") else ")"
            raise ValueError(f"{name} must lie in {opening}{low}, {high}{closing}, got {value!r}")


def check_reference_weight(step: float, tau: float) -> None:
    """Raise unless ``step * tau``, the weight of the reference in a step, is at most 1."""
    if step * tau > 1:
        raise ValueError(
            f"step * tau must be <= 1, got step={step!r} times tau={tau!r}: the policy would get a"
            " negative exponent"
        )


def check_discount(discount: float) -> None:
    """Raise unless ``discount`` lies in [0, 1)."""
    check_interval(discount=discount, low=0.0, high=1.0)


def check_integer(*, low: int, high: int | None = None, **named: Any) -> None:
    """Raise unless every named value is an integer >= ``low`` and, if given, <= ``high``."""
    for name, value in named.items():
        integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integer or value < low or (high is not None and value > high):
            wanted = f">= {low}" if high is None else f"in [{low}, {high}]"
            raise ValueError(f"{name} must be an integer {wanted}, got {value!r}")


def check_even(value: int, name: str) -> None:
    """Raise unless ``value`` is an even number >= 2."""
    check_integer(low=2, **{name: value})
    if value % 2:
        raise ValueError(f"{name} must be even, got {value!r}")


def check_choice(choices: tuple[str, ...] | list[str], **named: Any) -> None:
    """Raise unless every named option is one of ``choices``."""
    for name, value in named.items():
        if value not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}"
            )


def check_known(choices: Iterable[str], **named: Any) -> None:
    """Raise unless every named value is one of ``choices``, naming the closest of them.

    It is :func:`check_choice` for long lists.
    """
    known = list(choices)
    for name, value in named.items():
        if value not in known:
            close = difflib.get_close_matches(str(value), known, n=3, cutoff=0.4)
            hint = (
                f"did you mean {' or '.join(map(repr, close))}?"
                if close
                else f"{len(known)} are known, none like it"
            )
            raise ValueError(f"{name} {value!r} is not known; {hint}")


def check_directory(path: Path, name: str) -> None:
    """Raise unless ``path`` is a folder that exists."""
    if not path.is_dir():
        raise ValueError(
            f"{name} must be a folder that exists, got {str(path)!r}"
            + (", which is a file" if path.exists() else "")
        )


def check_callable(**named: Any) -> None:
    """Raise unless every named option is a function."""
    for name, value in named.items():
        if not callable(value):
            raise ValueError(f"{name} must be a function, got {value!r}")
