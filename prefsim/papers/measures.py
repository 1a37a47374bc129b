"""Measures for claims: both sides of a statement in, the distance from it out."""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.backend import to_numpy
from prefsim.papers.claims import Verdict

__all__ = ["above", "apart", "falls", "outside", "rises", "worst"]


def _float(value: Any) -> np.ndarray:
    return np.asarray(to_numpy(value), dtype=np.float64)


def _largest(values: np.ndarray, what: str) -> float:
    """Return the largest of some errors; NaN is larger than any, and no errors are refused."""
    if values.size == 0:
        raise ValueError(f"{what} must compare at least one number, got none")
    return float(np.max(values))


def _scale(relative: bool, scale: Any, stated: np.ndarray) -> Any:
    return 1 + np.abs(stated) if relative else _float(scale)


def apart(
    found: Any, stated: Any, *, relative: bool = False, scale: Any = 1.0, detail: str = ""
) -> Verdict:
    """Measure an identity: the largest difference between its two sides.

    Parameters
    ----------
    found, stated
        The sides, arrays of NumPy or torch that broadcast.
    relative
        Divide each difference by ``1 + |stated|``.
    scale
        Divide each difference by this, where the rounding error grows with something else.
    detail
        What was compared.

    Examples
    --------
    >>> apart([1.0, 2.5], [1.0, 2.0]).error, apart(3.0, 1.0, relative=True).error
    (0.5, 1.0)
    """
    found, stated = _float(found), _float(stated)
    difference = np.abs(found - stated) / _scale(relative, scale, stated)
    return Verdict(_largest(difference, "apart"), detail)


def above(
    smaller: Any, larger: Any, *, relative: bool = False, scale: Any = 1.0, detail: str = ""
) -> Verdict:
    """Measure an inequality ``smaller <= larger``: by how much it is missed at worst, 0 if nowhere.

    Where both sides are non-negative the verdict says in ``used`` how much of the bound was used.

    Parameters
    ----------
    smaller, larger
        The sides, arrays of NumPy or torch that broadcast.
    relative
        Divide each excess by ``1 + |larger|``.
    scale
        Divide each excess by this, where the rounding error grows with something else.
    detail
        What was compared.

    Examples
    --------
    >>> above([0.5, 3.0], 4.0)
    Verdict(error=0.0, detail='', used=0.75)
    """
    smaller, larger = _float(smaller), _float(larger)
    excess = (smaller - larger) / _scale(relative, scale, larger)
    return Verdict(_largest(np.maximum(excess, 0.0), "above"), detail, _share(smaller, larger))


def _share(smaller: np.ndarray, larger: np.ndarray) -> float | None:
    smaller, larger = np.broadcast_arrays(smaller, larger)
    # A bound below rounding is used up by rounding, whatever it bounds.
    meaningful = (larger > np.finfo(np.float64).eps) & np.isfinite(larger)
    # A share of something negative, or of a bound of zero alone, means nothing.
    if not ((smaller >= 0) & (larger >= 0)).all() or not meaningful.any():
        return None
    return float(np.max(smaller[meaningful] / larger[meaningful]))


def outside(value: Any, low: float, high: float, *, detail: str = "") -> Verdict:
    """Measure that values lie in the band ``[low, high]``: how far the farthest is outside it.

    Examples
    --------
    >>> outside([-0.5, -0.25], -0.75, -0.375).error
    0.125
    """
    value = _float(value)
    missed = np.maximum(np.maximum(low - value, value - high), 0.0)
    return Verdict(_largest(missed, "outside"), detail)


def falls(values: Any, *, detail: str = "") -> Verdict:
    """Measure that values do not rise along their first axis: the largest rise, 0 if there is none.

    Examples
    --------
    >>> falls([3.0, 1.0, 1.25]).error
    0.25
    """
    steps = np.diff(_float(values), axis=0)
    return Verdict(_largest(np.maximum(steps, 0.0), "falls"), detail)


def rises(values: Any, *, detail: str = "") -> Verdict:
    """Measure that values do not fall along their first axis: the largest fall, 0 if there is none.

    Examples
    --------
    >>> rises([1.0, 2.0, 1.75]).error
    0.25
    """
    return falls(-_float(values), detail=detail)


def worst(*parts: Verdict | float, detail: str = "") -> Verdict:
    """Return the verdict on a statement of several parts: the largest of their errors.

    Parameters
    ----------
    parts
        Verdicts, or bare errors >= 0. NaN is worse than anything.
    detail
        What was compared; the details of the parts unless given.

    Examples
    --------
    >>> worst(apart(1.0, 1.5, detail="ends"), above(1.0, 2.0), 0.25)
    Verdict(error=0.5, detail='ends', used=0.5)
    """
    verdicts = [part if isinstance(part, Verdict) else Verdict(float(part)) for part in parts]
    if not verdicts:
        raise ValueError("worst must be given at least one part, got none")
    shares = [verdict.used for verdict in verdicts if verdict.used is not None]
    said = detail or "; ".join(verdict.detail for verdict in verdicts if verdict.detail)
    error = _largest(np.array([verdict.error for verdict in verdicts]), "worst")
    return Verdict(error, said, max(shares, default=None))
