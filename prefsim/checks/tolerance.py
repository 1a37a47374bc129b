"""How closely probabilities must sum, by the precision in which they are held.

The one place that knows what rounding leaves of ``Σp = 1``, ``P + Pᵀ = 1`` and ``S + Sᵀ = 0``.
"""

from __future__ import annotations

from typing import Any

from prefsim.numerics import array_namespace, to_numpy
from prefsim.typing import ArrayT

__all__ = [
    "PROBABILITY_TOLERANCE",
    "tolerance_of",
    "widened_preference",
    "widened_probabilities",
]

PROBABILITY_TOLERANCE = 1e-9
"""In double precision: sums of millions of rounded probabilities stay well inside, a wrong table
does not."""

# Some units in the last place of one, the fewer the larger a unit is: about 80 in single precision,
# 5 and 4 in the two of half.
COARSER = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}


def tolerance_of(*values: Any) -> float:
    """Return how far sums of probabilities may lie from what they should be.

    1e-9 in double precision, 1e-5 in single; of several values the coarsest counts.

    Parameters
    ----------
    *values
        Arrays of any library, as they were given: what is converted to double precision keeps the
        rounding that it came with. Lists count as what NumPy makes of them, None as nothing.

    Examples
    --------
    >>> import numpy as np
    >>> tolerance_of([0.5, 0.5]), tolerance_of(np.ones(1), np.ones(1, dtype=np.float32))
    (1e-09, 1e-05)
    """
    precisions = (_precision(value) for value in values if value is not None)
    return max(
        (COARSER.get(each, PROBABILITY_TOLERANCE) for each in precisions),
        default=PROBABILITY_TOLERANCE,
    )


def _precision(value: Any) -> str:
    """Return the name of a dtype without that of its library."""
    dtype = getattr(value, "dtype", None)
    return str(to_numpy(value).dtype if dtype is None else dtype).rpartition(".")[2]


def widened_probabilities(table: ArrayT, given: Any) -> ArrayT:
    """Return what ``given`` means in the precision of ``table``, into which it was converted.

    Probabilities of a coarser precision stand for those that they round, which sum to one; of the
    same precision they stay as they are.
    """
    if tolerance_of(given) <= tolerance_of(table):
        return table
    widened: ArrayT = table / array_namespace(table).sum(table, axis=-1, keepdims=True)
    return widened


def widened_preference(table: ArrayT, given: Any) -> ArrayT:
    """Return what ``given`` means in the precision of ``table``, into which it was converted.

    A preference matrix of a coarser precision stands for the game that it rounds: one half more
    than half of ``P − Pᵀ``, which differs from P by no more than its rounding.
    """
    if tolerance_of(given) <= tolerance_of(table):
        return table
    other = array_namespace(table).matrix_transpose(table)
    widened: ArrayT = 0.5 + 0.5 * (table - other)
    return widened
