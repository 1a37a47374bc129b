"""The words that criteria are written in: a bound is written once, for the text and the test."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from prefsim.backend import to_numpy
from prefsim.papers.stated import check_stated

__all__ = [
    "Criterion",
    "at_least",
    "at_most",
    "below",
    "between",
    "falling",
    "holds",
    "near",
    "rising",
]

MANY = 8
"""More numbers than this are shown by their range: a reader cannot take them in."""


class Criterion(NamedTuple):
    """One line of a reproduction's verdict: what is expected, what was measured, do they agree.

    Attributes
    ----------
    name
        What is measured, unique within the reproduction.
    bound
        What is expected of it, such as ``"at most 0.02"``.
    stated
        Where that comes from: the ``"paper"``, ``"derived"`` here, or ``"chosen"`` here.
    measured
        What was measured, to be read.
    passed
        Whether it is as expected.
    paper
        What the paper says of it, where that is more, or less exact, than the bound.
    """

    name: str
    bound: str
    stated: str
    measured: str
    passed: bool
    paper: str = ""


def _numbers(name: str, measured: Any, least: int = 1) -> np.ndarray:
    numbers = np.ravel(np.asarray(to_numpy(measured), dtype=np.float64))
    if numbers.size < least:
        raise ValueError(
            f"criterion {name!r} must be given at least {least} measured numbers,"
            f" got {numbers.size}"
        )
    return numbers


def _shown(numbers: np.ndarray, form: str = ".4g") -> str:
    if numbers.size <= MANY:
        return ", ".join(format(float(x), form) for x in numbers)
    low, high = float(np.min(numbers)), float(np.max(numbers))
    return f"{low:{form}} to {high:{form}} ({numbers.size} numbers)"


def _made(name: str, bound: str, stated: str, measured: str, passed: Any, paper: str) -> Criterion:
    check_stated(f"criterion {name!r}", stated)
    return Criterion(name, bound, stated, measured, bool(passed), paper)


def at_most(name: str, measured: Any, bound: float, *, stated: str, paper: str = "") -> Criterion:
    """Expect every number measured to be at most ``bound``.

    Parameters
    ----------
    name
        What is measured.
    measured
        A number or an array of numbers; NaN fails.
    bound
        The largest number that passes.
    stated
        Where the bound comes from: ``"paper"``, ``"derived"`` or ``"chosen"``.
    paper
        What the paper says of it, where that differs from the bound.

    Returns
    -------
    Criterion

    Raises
    ------
    ValueError
        If nothing was measured or ``stated`` is unknown.

    Examples
    --------
    >>> at_most("total variation", [0.01, 0.015], 0.02, stated="chosen")[1:5]
    ('at most 0.02', 'chosen', '0.01, 0.015', True)
    """
    numbers = _numbers(name, measured)
    passed = np.max(numbers) <= bound
    return _made(name, f"at most {bound:g}", stated, _shown(numbers), passed, paper)


def at_least(name: str, measured: Any, bound: float, *, stated: str, paper: str = "") -> Criterion:
    """Expect every number measured to be at least ``bound``; the rest as in :func:`at_most`."""
    numbers = _numbers(name, measured)
    passed = np.min(numbers) >= bound
    return _made(name, f"at least {bound:g}", stated, _shown(numbers), passed, paper)


def between(
    name: str, measured: Any, low: float, high: float, *, stated: str, paper: str = ""
) -> Criterion:
    """Expect every number measured to lie in ``[low, high]``; the rest as in :func:`at_most`."""
    numbers = _numbers(name, measured)
    passed = ((numbers >= low) & (numbers <= high)).all()
    return _made(name, f"{low:g} to {high:g}", stated, _shown(numbers), passed, paper)


def near(
    name: str, measured: Any, expected: Any, *, within: float, stated: str, paper: str = ""
) -> Criterion:
    """Expect every number measured to be within ``within`` of its expected value.

    ``expected`` is a number, or one for each number measured; the rest as in :func:`at_most`.

    Examples
    --------
    >>> near("slope", -0.512, -0.5, within=0.05, stated="paper")[1:5]
    ('-0.5 ± 0.05', 'paper', '-0.512', True)
    """
    numbers, wanted = _numbers(name, measured), _numbers(name, expected)
    passed = np.max(np.abs(numbers - wanted)) <= within
    # As many digits as the comparison looks at.
    size = np.max(np.abs(wanted), initial=within, where=np.isfinite(wanted))
    digits = max(4, math.ceil(math.log10(max(size / within, 1.0))) + 2) if within > 0 else 17
    form = f".{digits}g"
    bound = f"{_shown(wanted, form)} ± {within:g}"
    return _made(name, bound, stated, _shown(numbers, form), passed, paper)


def below(
    name: str,
    measured: Any,
    others: Any,
    *,
    stated: str,
    paper: str = "",
    by: float = 0.0,
) -> Criterion:
    """Expect each number measured to be below its counterpart, by more than ``by``.

    Examples
    --------
    >>> below("KL", [0.1, 0.2], [0.3, 0.4], stated="paper")[1:5]
    ('each below its counterpart', 'paper', '0.1 < 0.3, 0.2 < 0.4', True)
    """
    numbers, bounds = np.broadcast_arrays(_numbers(name, measured), _numbers(name, others))
    margin = bounds - numbers
    bound = "each below its counterpart" + (f" by more than {by:g}" if by else "")
    signs = ["<" if less else "≥" for less in margin > 0]
    pairs = [f"{a:.3g} {sign} {b:.3g}" for a, sign, b in zip(numbers, signs, bounds, strict=True)]
    count = f"{int((margin > by).sum())} of {margin.size}, smallest margin {np.min(margin):.3g}"
    shown = ", ".join(pairs) if margin.size <= MANY else count
    return _made(name, bound, stated, shown, (margin > by).all(), paper)


def rising(name: str, measured: Any, *, stated: str, paper: str = "") -> Criterion:
    """Expect each number measured to be above the one before it; the rest as in :func:`at_most`."""
    numbers = _numbers(name, measured, least=2)
    return _made(name, "rising", stated, _shown(numbers), (np.diff(numbers) > 0).all(), paper)


def falling(name: str, measured: Any, *, stated: str, paper: str = "") -> Criterion:
    """Expect each number measured to be below the one before it; the rest as in :func:`at_most`."""
    numbers = _numbers(name, measured, least=2)
    return _made(name, "falling", stated, _shown(numbers), (np.diff(numbers) < 0).all(), paper)


def holds(
    name: str, statements: Iterable[Any], expected: str, *, stated: str, paper: str = ""
) -> Criterion:
    """Expect every one of some statements to be true, where they are no comparison of numbers.

    Parameters
    ----------
    name
        What is looked at.
    statements
        Truth values, one for each world, seed or method.
    expected
        What each of them says, in words.
    stated, paper
        As in :func:`at_most`.

    Examples
    --------
    >>> holds("ranking", [True, True, False], "DPO above IPO", stated="paper")[1:5]
    ('DPO above IPO', 'paper', '2 of 3', False)
    """
    truths = [bool(statement) for statement in statements]
    if not truths:
        raise ValueError(f"criterion {name!r} must be given at least one statement, got none")
    return _made(name, expected, stated, f"{sum(truths)} of {len(truths)}", all(truths), paper)
