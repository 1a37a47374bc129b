"""The structures of losses that have a name, and the sixteen among which they lie."""

from __future__ import annotations

from prefsim.checks import check_known
from prefsim.logic.structures import PreferenceStructure

__all__ = ["NAMED_STRUCTURES", "named_structure"]

# A pair of which only the chosen response is valid counts for, one of which only the rejected one
# is counts against; what the two other worlds count for makes sixteen. From the strongest on.
_LABELS = {
    "CEUnl": "-+--",
    "sCE": "b+--",
    "l3": "n+--",
    "CE": "++--",
    "cUNL": "-+-n",
    "l20": "-+-b",
    "fUNL": "-+-+",
    "CPO": "b+-n",
    "ORPO": "n+-n",
    "cCPO": "++-n",
    "qfUNL": "n+-b",
    "l5": "b+-b",
    "bCPO": "++-b",
    "cfUNL": "n+-+",
    "l14": "b+-+",
    "unCPO": "++-+",
}

NAMED_STRUCTURES = {
    name: PreferenceStructure.from_labels(labels) for name, labels in _LABELS.items()
}
"""The sixteen by their names, those of Richardson, Srikumar and Sabharwal 2024."""


def named_structure(name: str) -> PreferenceStructure:
    """Return one of the sixteen structures by its name.

    Raises
    ------
    ValueError
        If none has the name, naming the closest.

    Examples
    --------
    >>> print(named_structure("CPO"))
    P: L → W; given W ∨ L; both ways W ∧ L
    """
    check_known(NAMED_STRUCTURES, structure=name)
    return NAMED_STRUCTURES[name]
