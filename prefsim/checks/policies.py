"""What a function of policies takes: the policies themselves, or tables of their probabilities.

Logarithms and probabilities are told apart by what they sum to: probabilities in the place of
logarithms are refused, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from prefsim.checks.arrays import check_preference, check_probabilities, check_shape
from prefsim.checks.numbers import as_floats
from prefsim.checks.tolerance import tolerance_of
from prefsim.checks.values import first_place, known_values

__all__ = ["as_log_policies", "as_policies", "check_game", "check_log_policy", "check_policy"]


def as_log_policies(
    *, tail: tuple[int | None, ...] = (), optional: tuple[str, ...] = (), **named: Any
) -> tuple[Any, ...]:
    """Return log-probabilities ``(..., Y)`` in nats of policies, all of one library, or raise.

    Parameters
    ----------
    tail
        What the last axes of every table must be, as for :func:`check_shape`.
    optional
        Names of the arguments that may be None, which they then stay.
    **named
        By the names of the arguments: policies with an attribute ``log_probs``, or tables of
        log-probabilities of which every row sums to one.
    """
    given = {name: getattr(each, "log_probs", each) for name, each in named.items()}
    return _checked(as_floats(optional=optional, **given), given, tail, check_log_policy)


def check_log_policy(table: Any, name: str) -> None:
    """Raise unless the exponentials of every row sum to one, where values may be looked at."""
    _check_rows(table, name)
    values = known_values(table)
    if values is None:
        return
    with np.errstate(over="ignore"):
        totals = np.atleast_1d(np.exp(values.astype(np.float64, copy=False)).sum(axis=-1))
    tolerance = tolerance_of(table)
    bad = ~(np.abs(totals - 1) <= tolerance)
    if bad.any():
        place = first_place(bad)
        where = f"row {place}" if values.ndim > 1 else "the only row"
        raise ValueError(
            f"{name} must hold the logarithms of probabilities that sum to 1 within {tolerance:g},"
            f" got a sum of {float(totals[place]):.12g} in {where}"
        )


def as_policies(
    *, tail: tuple[int | None, ...] = (), optional: tuple[str, ...] = (), **named: Any
) -> tuple[Any, ...]:
    """Return probabilities ``(..., Y)`` of policies, all of one library, or raise.

    Parameters
    ----------
    tail
        What the last axes of every table must be, as for :func:`check_shape`.
    optional
        Names of the arguments that may be None, which they then stay.
    **named
        By the names of the arguments: policies with an attribute ``probs``, or tables of
        probabilities of which every row sums to one.
    """
    given = {name: getattr(each, "probs", each) for name, each in named.items()}
    return _checked(as_floats(nan=True, optional=optional, **given), given, tail, check_policy)


def _checked(
    tables: tuple[Any, ...],
    names: Iterable[str],
    tail: tuple[int | None, ...],
    check: Callable[[Any, str], None],
) -> tuple[Any, ...]:
    """Return tables of which those that are given passed a check."""
    for name, table in zip(names, tables, strict=True):
        if table is not None:
            check_shape(table, name, tail)
            check(table, name)
    return tables


def check_policy(table: Any, name: str) -> None:
    """Raise unless every row is a distribution, where values may be looked at."""
    _check_rows(table, name)
    values = known_values(table)
    if values is not None:
        check_probabilities(values, name, tolerance=tolerance_of(table))


def check_game(table: Any, name: str = "preference") -> None:
    """Raise unless ``(..., n, n)`` with ``P + Pᵀ = 1`` and entries in [0, 1].

    Entries are looked at where they may be.
    """
    if table.ndim < 2 or table.shape[-1] != table.shape[-2] or table.shape[-1] == 0:
        raise ValueError(
            f"{name} must have shape (..., n, n) with n >= 1, got {tuple(table.shape)}"
        )
    values = known_values(table)
    if values is not None:
        check_preference(values, name, tolerance=tolerance_of(table))


def _check_rows(table: Any, name: str) -> None:
    if table.ndim == 0 or table.shape[-1] == 0:
        raise ValueError(
            f"{name} must hold at least one entry in every row, got shape {tuple(table.shape)}"
        )
