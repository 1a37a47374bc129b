"""Truth tables as short text: prime implicants, with rows of which nothing is asked.

References
----------
McCluskey 1956, "Minimization of Boolean functions", Bell System Technical Journal 35.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["minimal_text"]


class Term(NamedTuple):
    """A conjunction of literals: worlds as numbers agree with ``value`` on the atoms of ``care``.

    Both have a bit for each atom, the first atom the most significant.
    """

    value: int
    care: int

    def holds_in(self, world: int) -> bool:
        """Return whether a world satisfies all its literals."""
        return world & self.care == self.value


def minimal_text(atoms: Sequence[str], needed: int, allowed: int) -> str:
    """Return a formula that is true where ``needed`` says so, and nowhere but where it may be.

    Parameters
    ----------
    atoms
        Names, in the order of the worlds' truth values.
    needed, allowed
        Truth tables as numbers, the first world (all true) the most significant bit.
    """
    # The bit of a world stands at its own number: the last world, all false, is number 0.
    worlds = range(2 ** len(atoms))
    ones = [world for world in worlds if needed >> world & 1]
    may = {world for world in worlds if allowed >> world & 1}
    if not ones:
        return "⊥"
    if len(may) == len(worlds):
        return "⊤"
    terms = _cover(_prime_implicants(may, len(atoms)), ones)
    return _written(atoms, terms)


def _prime_implicants(worlds: set[int], n_atoms: int) -> list[Term]:
    """Return the terms that are true in some of these worlds alone and cannot lose a literal."""
    level = {Term(world, 2**n_atoms - 1) for world in worlds}
    prime: list[Term] = []
    while level:
        shorter, absorbed = set(), set()
        for term in level:
            for place in range(n_atoms):
                bit = 1 << place
                other = Term(term.value ^ bit, term.care)
                if term.care & bit and other in level:
                    shorter.add(Term(term.value & ~bit, term.care & ~bit))
                    absorbed.add(term)
        prime += sorted(level - absorbed)
        level = shorter
    return prime


def _cover(terms: list[Term], worlds: list[int]) -> list[Term]:
    """Return terms that are true in all these worlds, of which none can be left out.

    The term that brings most is taken first, and the shorter of two that bring as much.
    """
    chosen: list[Term] = []
    left = set(worlds)
    while left:
        best = max(
            terms,
            key=lambda term: (
                sum(term.holds_in(world) for world in left),
                -term.care.bit_count(),
                term.value,
                term.care,
            ),
        )
        chosen.append(best)
        left = {world for world in left if not best.holds_in(world)}
    for term in list(chosen):
        rest = [other for other in chosen if other is not term]
        if all(any(other.holds_in(world) for other in rest) for world in worlds):
            chosen = rest
    return chosen


def _written(atoms: Sequence[str], terms: list[Term]) -> str:
    bits = {name: 1 << len(atoms) - 1 - place for place, name in enumerate(atoms)}
    denied = [name for name in atoms if Term(0, bits[name]) in terms]
    others = sorted(
        (term for term in terms if term.value or term.care.bit_count() > 1),
        key=lambda term: [-(term.value & bit) for bit in bits.values()],
    )
    if not denied or not others:
        return " ∨ ".join(itertools.chain(_conjunctions(bits, others), (f"¬{a}" for a in denied)))
    # ¬a ∨ ¬b ∨ rest reads as a ∧ b → rest.
    return f"{' ∧ '.join(denied)} → {' ∨ '.join(_conjunctions(bits, others))}"


def _conjunctions(bits: dict[str, int], terms: list[Term]) -> list[str]:
    """Return each term as text, in brackets where it stands beside others."""
    texts = []
    for term in terms:
        literals = [
            name if term.value & bit else f"¬{name}"
            for name, bit in bits.items()
            if term.care & bit
        ]
        joined = " ∧ ".join(literals)
        texts.append(f"({joined})" if len(terms) > 1 and len(literals) > 1 else joined)
    return texts
