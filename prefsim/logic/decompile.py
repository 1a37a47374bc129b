"""From a loss to what it says: the structure of a ratio of multilinear polynomials."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from prefsim.checks import check_callable
from prefsim.checks.quoting import shown
from prefsim.logic.formulas import Formula, truth_values
from prefsim.logic.structures import PAIR_ATOMS, PreferenceStructure

__all__ = ["decompile"]

Polynomial = Callable[..., Any]

# A polynomial that is not multilinear agrees with the one of its vertices on a random point with a
# chance of its degree in a million at most.
_POINTS, _PARTS = 3, 10**6


def decompile(
    numerator: Polynomial, denominator: Polynomial, atoms: Sequence[str] = PAIR_ATOMS
) -> PreferenceStructure:
    r"""Return the structure of a loss whose score is the log-ratio of two polynomials.

    Each must be multilinear in the probabilities of the atoms, and 0 or 1 where all of them are: it
    is then the weighted model count of exactly one formula.

    Parameters
    ----------
    numerator, denominator
        Functions of the probabilities of the atoms, in their order, made of ``+``, ``-``, ``*`` and
        numbers.
    atoms
        Names of the n atoms.

    Returns
    -------
    PreferenceStructure
        Whose :func:`prefsim.logic.log_count_ratio` is the logarithm of their ratio.

    Raises
    ------
    ValueError
        If a polynomial is another than 0 or 1 at a vertex (a sum of what is not exclusive, a
        constant factor), is 0 everywhere, or is not multilinear: a square needs a copy of its atom.

    References
    ----------
    Richardson, Srikumar and Sabharwal 2024, algorithm 1, arXiv:2412.17696.

    Examples
    --------
    >>> odds = decompile(lambda w, r: w * (1 - r), lambda w, r: r * (1 - w))
    >>> odds.labels
    'n+-n'
    >>> decompile(lambda w, r: w + r, lambda w, r: r)
    Traceback (most recent call last):
        ...
    ValueError: numerator must be 0 or 1 at every vertex, got 2 where W = 1, L = 1
    """
    names = tuple(atoms)
    return PreferenceStructure(
        _formula_of(numerator, "numerator", names), _formula_of(denominator, "denominator", names)
    )


def _formula_of(polynomial: Polynomial, name: str, atoms: tuple[str, ...]) -> Formula:
    check_callable(**{name: polynomial})
    worlds = truth_values(len(atoms))
    values = [_value(polynomial, name, [Fraction(int(v)) for v in world]) for world in worlds]
    for world, value in zip(worlds, values, strict=True):
        if value not in (0, 1):
            where = ", ".join(f"{a} = {int(v)}" for a, v in zip(atoms, world, strict=True))
            raise ValueError(f"{name} must be 0 or 1 at every vertex, got {value} where {where}")
    formula = Formula.from_table(atoms, [value == 1 for value in values])
    if formula.is_contradiction:
        raise ValueError(f"{name} must be positive somewhere, got 0 at every vertex")
    # Rational points and exact arithmetic: equal or not, without a tolerance.
    draws = random.Random(0)
    for _ in range(_POINTS):
        point = [Fraction(draws.randrange(1, _PARTS), _PARTS) for _ in atoms]
        found, expected = _value(polynomial, name, point), _count(formula, point)
        if found != expected:
            raise ValueError(
                f"{name} must be multilinear in the probabilities, which a power or a product of an"
                " atom with itself is not: give it a copy of the atom, independent of it; got"
                f" {float(found):.6g} where {float(expected):.6g} is multilinear"
            )
    return formula


def _value(polynomial: Polynomial, name: str, point: list[Fraction]) -> Fraction:
    value = polynomial(*point)
    if not isinstance(value, Fraction | int) or isinstance(value, bool):
        raise ValueError(
            f"{name} must be made of + - * and integers or fractions, got {shown(value)} for"
            " fractions"
        )
    return Fraction(value)


def _count(formula: Formula, point: list[Fraction]) -> Fraction:
    """Return a formula's weighted model count exactly."""
    total = Fraction(0)
    for world in itertools.compress(truth_values(len(point)), formula.table):
        weight = Fraction(1)
        for true, p in zip(world, point, strict=True):
            weight *= p if true else 1 - p
        total += weight
    return total
