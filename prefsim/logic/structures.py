r"""Preference structures: what a loss of pairs says about them, as two formulas.

A loss whose score is :math:`\log T/B`, T and B the weighted model counts of two formulas, rewards
the worlds of the one and punishes those of the other. It says "P, given P_C, and P_A either way".

References
----------
Richardson, Srikumar and Sabharwal 2024, arXiv:2412.17696.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefsim.checks import check_choice, check_kind
from prefsim.logic.counting import log_weighted_counts
from prefsim.logic.formulas import Formula, truth_values
from prefsim.typing import ArrayT

__all__ = [
    "LABELS",
    "LIFTS",
    "PAIR_ATOMS",
    "PreferenceStructure",
    "all_structures",
    "check_has_score",
    "covering_pairs",
    "log_count_ratio",
]

PAIR_ATOMS = ("W", "L")
"""The model deems the chosen response valid; it deems the rejected one valid."""

REFERENCE_ATOMS = ("Rw", "Rl")
"""The same of the reference."""

LABELS = "+-nb"
"""What a world does: counts for, counts against, neither, both."""

LIFTS = ("log_ratio", "full")
"""How a reference enters: by its log-ratio of the pair, or by the whole structure."""

# What a label is raised to by one step of the diamond: against < neither, both < for.
_HIGHER = {"-": "nb", "n": "+", "b": "+", "+": ""}
_LOWER = {high: "".join(low for low in LABELS if high in _HIGHER[low]) for high in LABELS}


@dataclass(frozen=True)
class PreferenceStructure:
    """A preference structure: the worlds that count for a preference, and those against it.

    Attributes
    ----------
    numerator
        T, true where a world counts for.
    denominator
        B, true where it counts against; a world may be in both or in neither.

    Raises
    ------
    ValueError
        If the formulas are over different atoms.

    Examples
    --------
    The odds ratio of ORPO says "if the rejected response is valid, so is the chosen one", of the
    worlds in which exactly one of them is:

    >>> from prefsim.logic import atoms
    >>> valid, other = atoms("W", "L")
    >>> odds = PreferenceStructure.of(other.implies(valid), given=valid ^ other)
    >>> odds.labels, str(odds.core), str(odds.given)
    ('n+-n', 'L → W', '(W ∧ ¬L) ∨ (¬W ∧ L)')
    """

    numerator: Formula
    denominator: Formula

    def __post_init__(self) -> None:
        check_kind(Formula, numerator=self.numerator, denominator=self.denominator)
        # It raises where the atoms differ.
        self.numerator & self.denominator

    @classmethod
    def of(
        cls, core: Formula, *, given: Formula | None = None, additive: Formula | None = None
    ) -> PreferenceStructure:
        """Return the structure that says a core formula.

        Parameters
        ----------
        core
            P, what is said.
        given
            P_C, the worlds of which it is said; all unless given.
        additive
            P_A, the worlds that count both for and against; none unless given.
        """
        counted = core | ~core if given is None else given
        both = core & ~core if additive is None else additive
        return cls((core | both) & counted, (~core | both) & counted)

    @classmethod
    def from_labels(cls, labels: str, atoms: Sequence[str] = PAIR_ATOMS) -> PreferenceStructure:
        """Return the structure with a label for each world, all atoms true first.

        Parameters
        ----------
        labels
            A sign for each world: ``+`` for, ``-`` against, ``n`` neither, ``b`` both.
        atoms
            Names of the n atoms.

        Raises
        ------
        ValueError
            If there is not one of the four labels for each world.
        """
        names = tuple(atoms)
        if not isinstance(labels, str) or set(labels) - set(LABELS):
            raise ValueError(f"labels must be a word of {' '.join(LABELS)}, got {labels!r}")
        if len(labels) != 2 ** len(names):
            raise ValueError(
                f"labels must be {2 ** len(names)}, one for each world of {', '.join(names)}, got"
                f" {labels!r}"
            )
        return cls(
            Formula.from_table(names, [label in "+b" for label in labels]),
            Formula.from_table(names, [label in "-b" for label in labels]),
        )

    @property
    def atoms(self) -> tuple[str, ...]:
        """Names of the atoms."""
        return self.numerator.atoms

    @property
    def labels(self) -> str:
        """The label of each world, as :meth:`from_labels` reads them."""
        signs = {(True, False): "+", (False, True): "-", (False, False): "n", (True, True): "b"}
        pairs = zip(self.numerator.table.tolist(), self.denominator.table.tolist(), strict=True)
        return "".join(signs[pair] for pair in pairs)

    @property
    def core(self) -> Formula:
        """P, the weakest: the numerator holds if the denominator does.

        Only its worlds inside ``decided`` are the structure's own to say.
        """
        return self.denominator.implies(self.numerator)

    @property
    def given(self) -> Formula:
        """P_C, the worlds that count at all."""
        return self.numerator | self.denominator

    @property
    def additive(self) -> Formula:
        """P_A, the worlds that count both for and against."""
        return self.numerator & self.denominator

    @property
    def decided(self) -> Formula:
        """P_C ∧ ¬P_A, the worlds that count for or against and not both."""
        return self.numerator ^ self.denominator

    @property
    def has_score(self) -> bool:
        """Whether both counts are positive, so that there is a score."""
        return not (self.numerator.is_contradiction or self.denominator.is_contradiction)

    def entails(self, other: PreferenceStructure) -> bool:
        """Return whether this structure is as strong as the other, or stronger.

        Its numerator entails the other's, and its denominator is entailed by the other's. Its score
        is then at most the other's, whatever the probabilities.
        """
        check_kind(PreferenceStructure, **{"the other structure": other})
        rewards_less = self.numerator.entails(other.numerator)
        return rewards_less and other.denominator.entails(self.denominator)

    def join(self, other: PreferenceStructure) -> PreferenceStructure:
        """Return the strongest structure that both entail."""
        return PreferenceStructure(
            self.numerator | other.numerator, self.denominator & other.denominator
        )

    def meet(self, other: PreferenceStructure) -> PreferenceStructure:
        """Return the weakest structure that entails both."""
        return PreferenceStructure(
            self.numerator & other.numerator, self.denominator | other.denominator
        )

    def weaker_neighbours(self, *, keep: Formula | None = None) -> tuple[PreferenceStructure, ...]:
        """Return the structures that this one entails with nothing between: one label, one step.

        Parameters
        ----------
        keep
            Worlds whose labels stay; none unless given.

        Examples
        --------
        >>> odds = PreferenceStructure.from_labels("n+-n")
        >>> [each.labels for each in odds.weaker_neighbours(keep=odds.given)]
        ['++-n', 'n+-+']
        """
        return self._neighbours(_HIGHER, keep)

    def stronger_neighbours(
        self, *, keep: Formula | None = None
    ) -> tuple[PreferenceStructure, ...]:
        """Return the structures that entail this one with nothing between; as the weaker ones."""
        return self._neighbours(_LOWER, keep)

    def _neighbours(
        self, steps: Mapping[str, str], keep: Formula | None
    ) -> tuple[PreferenceStructure, ...]:
        if keep is not None:
            check_kind(Formula, keep=keep)
            # It raises where the atoms differ.
            keep & self.numerator
        labels = self.labels
        free = range(len(labels)) if keep is None else np.flatnonzero(~keep.table)
        return tuple(
            PreferenceStructure.from_labels(
                labels[:world] + label + labels[world + 1 :], self.atoms
            )
            for world in free
            for label in steps[labels[world]]
        )

    def with_reference(self, lift: str = "log_ratio") -> PreferenceStructure:
        r"""Return the structure of the loss relative to a reference, over its atoms as well.

        Parameters
        ----------
        lift
            ``"log_ratio"`` for the score less :math:`\log q_w/q_l`: the numerator and "the
            reference deems the rejected one valid" against the denominator and "it deems the chosen
            one valid". ``"full"`` for the score less that of the reference.

        Raises
        ------
        ValueError
            If the structure is not over the two atoms of a pair, or the lift is not known.

        Examples
        --------
        >>> dpo = PreferenceStructure.from_labels("b+-n").with_reference()
        >>> print(dpo.core)
        L ∧ Rw → W ∧ Rl
        """
        check_choice(LIFTS, lift=lift)
        if self.atoms != PAIR_ATOMS:
            raise ValueError(
                f"a reference is for structures over {', '.join(PAIR_ATOMS)}, got"
                f" {', '.join(self.atoms)}"
            )
        every = PAIR_ATOMS + REFERENCE_ATOMS
        if lift == "log_ratio":
            own = PreferenceStructure.from_labels("b+-n", REFERENCE_ATOMS)
        else:
            own = PreferenceStructure.from_labels(self.labels, REFERENCE_ATOMS)
        return PreferenceStructure(
            self.numerator.over(every) & own.denominator.over(every),
            self.denominator.over(every) & own.numerator.over(every),
        )

    def __str__(self) -> str:
        said = f"P: {self.core}"
        if not self.given.is_tautology:
            said += f"; given {self.given}"
        return said if self.additive.is_contradiction else f"{said}; both ways {self.additive}"


def log_count_ratio(structure: PreferenceStructure, log_probs: ArrayT) -> ArrayT:
    r"""Return the score of a structure, :math:`\log T - \log B` of its two weighted model counts.

    Parameters
    ----------
    structure
        Over n atoms, with worlds both for and against.
    log_probs
        log p of the atoms, ``(..., n)`` in nats, at most 0.

    Returns
    -------
    Array ``(...)`` in nats.

    Raises
    ------
    ValueError
        If no world counts for, or none against: the score is then infinite; or if a log-probability
        is positive, or there is not one for each atom.

    References
    ----------
    Richardson, Srikumar and Sabharwal 2024, section 5, arXiv:2412.17696.

    Examples
    --------
    >>> import numpy as np
    >>> odds = PreferenceStructure.from_labels("n+-n")
    >>> log_count_ratio(odds, np.log([[0.6, 0.3], [0.5, 0.5]])).round(8)
    array([1.25276297, 0.        ])
    """
    check_has_score(structure)
    above, below = log_weighted_counts((structure.numerator, structure.denominator), log_probs)
    return above - below


def check_has_score(structure: PreferenceStructure) -> None:
    """Raise unless it is a structure with a world for and one against, and so with a score."""
    check_kind(PreferenceStructure, structure=structure)
    if not structure.has_score:
        raise ValueError(
            "structure must have a world that counts for and one that counts against, got labels"
            f" {structure.labels!r}"
        )


def all_structures(atoms: Sequence[str] = PAIR_ATOMS) -> Iterator[PreferenceStructure]:
    """Yield every structure over some atoms: 256 over two, four labels for each of four worlds.

    Examples
    --------
    >>> structures = list(all_structures())
    >>> len(structures), sum(each.has_score for each in structures)
    (256, 225)
    """
    names = tuple(atoms)
    for labels in itertools.product(LABELS, repeat=len(truth_values(len(names)))):
        yield PreferenceStructure.from_labels("".join(labels), names)


def covering_pairs(structures: Mapping[str, PreferenceStructure]) -> tuple[tuple[str, str], ...]:
    """Return the arrows of the order of some structures: who entails whom with none between.

    Parameters
    ----------
    structures
        By name, no two the same.

    Returns
    -------
    Pairs of names, the stronger first.

    Examples
    --------
    >>> chain = {labels: PreferenceStructure.from_labels(labels) for labels in ("-+-n", "n+-n",
    ...     "++-n")}
    >>> covering_pairs(chain)
    (('-+-n', 'n+-n'), ('n+-n', '++-n'))
    """
    below = {
        name: {
            other
            for other, weaker in structures.items()
            if other != name and structure.entails(weaker)
        }
        for name, structure in structures.items()
    }
    return tuple(
        (name, other)
        for name, weaker in below.items()
        for other in weaker
        if not any(other in below[between] for between in weaker)
    )
