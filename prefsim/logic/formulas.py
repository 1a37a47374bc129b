"""Formulas of propositional logic as truth tables: a bit for every world, in a fixed order.

The worlds of n atoms are all their truth values, from all true to all false: of two atoms
``(W, L)`` they are 11, 10, 01, 00. A formula is the set of the worlds in which it is true, so that
connectives are operations on bits and two formulas are equal exactly if they are equivalent.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefsim.checks import as_mask, check_choice, check_kind
from prefsim.logic.minimal import minimal_text

MOST_ATOMS = 8

__all__ = ["MOST_ATOMS", "Formula", "atoms", "truth_values"]


@functools.cache
def truth_values(n_atoms: int) -> np.ndarray:
    """Return the truth values of the atoms in every world, ``(2 ** n_atoms, n_atoms)``, read-only.

    Examples
    --------
    >>> truth_values(2).astype(int).tolist()
    [[1, 1], [1, 0], [0, 1], [0, 0]]
    """
    worlds = np.arange(2**n_atoms - 1, -1, -1)
    values = (worlds[:, None] >> np.arange(n_atoms - 1, -1, -1)) % 2 == 1
    values.setflags(write=False)
    return values


@dataclass(frozen=True)
class Formula:
    """A formula over named atoms, by the worlds in which it is true.

    ``&``, ``|``, ``^``, ``~`` and :meth:`implies` connect formulas over the same atoms, and ``==``
    is equivalence.

    Attributes
    ----------
    atoms
        Names of the atoms, one to eight, in the order of the worlds' truth values.
    bits
        The truth table as a number: the most significant of its ``2 ** n`` bits is the first world,
        in which all atoms are true.

    Raises
    ------
    ValueError
        If the atoms are no distinct names or too many, or the bits do not fit.

    Examples
    --------
    >>> valid, other = atoms("W", "L")
    >>> known = other.implies(valid)
    >>> print(known, f"{known.bits:04b}")
    L → W 1101
    >>> (valid & ~other).entails(known)
    True
    """

    atoms: tuple[str, ...]
    bits: int

    def __post_init__(self) -> None:
        _check_atoms(self.atoms)
        integer = isinstance(self.bits, int) and not isinstance(self.bits, bool)
        if not integer or not 0 <= self.bits < 2**self.n_worlds:
            raise ValueError(
                f"bits must be an integer in [0, 2**{self.n_worlds}), a bit for each world, got"
                f" {self.bits!r}"
            )

    @classmethod
    def from_table(cls, atoms: Sequence[str], table: Any) -> Formula:
        """Return the formula with a truth table, booleans ``(2 ** n,)`` in the order of worlds."""
        names = tuple(atoms)
        _check_atoms(names)
        values = as_mask(table, "table", length=2 ** len(names))
        if values.ndim != 1:
            raise ValueError(f"table must have one axis, got shape {values.shape}")
        return cls(names, int("".join("01"[int(value)] for value in values), 2))

    @property
    def n_worlds(self) -> int:
        """How many worlds there are."""
        return int(2 ** len(self.atoms))

    @property
    def table(self) -> np.ndarray:
        """The truth table, booleans ``(2 ** n,)``."""
        return np.array([bit == "1" for bit in f"{self.bits:0{self.n_worlds}b}"])

    @property
    def is_contradiction(self) -> bool:
        """Whether it is true in no world."""
        return self.bits == 0

    @property
    def is_tautology(self) -> bool:
        """Whether it is true in every world."""
        return self.bits == 2**self.n_worlds - 1

    def __and__(self, other: Formula) -> Formula:
        return Formula(self.atoms, self.bits & self._bits_of(other))

    def __or__(self, other: Formula) -> Formula:
        return Formula(self.atoms, self.bits | self._bits_of(other))

    def __xor__(self, other: Formula) -> Formula:
        return Formula(self.atoms, self.bits ^ self._bits_of(other))

    def __invert__(self) -> Formula:
        return Formula(self.atoms, self.bits ^ (2**self.n_worlds - 1))

    def implies(self, other: Formula) -> Formula:
        """Return the formula that is false only where this one is true and the other is not."""
        return ~self | other

    def entails(self, other: Formula) -> bool:
        """Return whether the other is true in every world in which this one is."""
        return self.bits & ~self._bits_of(other) == 0

    def over(self, atoms: Sequence[str]) -> Formula:
        """Return the same statement over more atoms, or over the same in another order.

        Raises
        ------
        ValueError
            If an atom of the formula is not among them.
        """
        names = tuple(atoms)
        for name in self.atoms:
            check_choice(names, **{"atom of the formula": name})
        places = [names.index(name) for name in self.atoms]
        own = truth_values(len(names))[:, places] @ (1 << np.arange(len(places))[::-1])
        return Formula.from_table(names, self.table[self.n_worlds - 1 - own])

    @property
    def essential_atoms(self) -> tuple[str, ...]:
        """The atoms that its truth depends on, the others left out."""
        values = self.table.reshape((2,) * len(self.atoms))
        return tuple(
            name
            for axis, name in enumerate(self.atoms)
            if (values.take(0, axis=axis) != values.take(1, axis=axis)).any()
        )

    def reduced(self) -> Formula:
        """Return the same statement over its essential atoms alone, or itself if it has none.

        Examples
        --------
        >>> valid, other = atoms("W", "L")
        >>> ((valid & other) | (valid & ~other)).reduced() == atoms("W")[0]
        True
        """
        kept = self.essential_atoms
        if not kept:
            return self
        values = self.table.reshape((2,) * len(self.atoms))
        # Of the others any value does.
        first = tuple(slice(None) if name in kept else 0 for name in self.atoms)
        return Formula.from_table(kept, values[first].ravel())

    def text(self, *, where: Formula | None = None) -> str:
        """Return a short way to write the formula.

        A disjunction of prime implicants, the negated atoms among them as the left side of an
        implication.

        Parameters
        ----------
        where
            Only the worlds in which this is true count; of the others the text may say anything.

        Examples
        --------
        >>> valid, other = atoms("W", "L")
        >>> other.implies(valid).text(where=valid ^ other)
        'W'
        """
        counted = 2**self.n_worlds - 1 if where is None else self._bits_of(where)
        return minimal_text(self.atoms, self.bits & counted, self.bits | ~counted)

    def __str__(self) -> str:
        return self.text()

    def _bits_of(self, other: Formula) -> int:
        check_kind(Formula, **{"the other formula": other})
        if other.atoms != self.atoms:
            raise ValueError(
                "formulas must be over the same atoms, got"
                f" {', '.join(self.atoms)} and {', '.join(other.atoms)}: use over(...)"
            )
        return other.bits


def _check_atoms(names: tuple[str, ...]) -> None:
    right = isinstance(names, tuple) and all(
        isinstance(name, str) and name.isidentifier() for name in names
    )
    if not right or not 1 <= len(names) <= MOST_ATOMS or len(set(names)) < len(names):
        raise ValueError(f"atoms must be one to {MOST_ATOMS} distinct names, got {names!r}")


def atoms(*names: str) -> tuple[Formula, ...]:
    """Return a formula for each atom, over all of them.

    Examples
    --------
    >>> for atom in atoms("W", "L"):
    ...     print(atom, f"{atom.bits:04b}")
    W 1100
    L 1010
    """
    _check_atoms(names)
    values = truth_values(len(names))
    return tuple(Formula.from_table(names, column) for column in values.T)
