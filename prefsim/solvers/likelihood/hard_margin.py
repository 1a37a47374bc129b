r"""The direction in which a likelihood without a maximum grows for ever: the largest margin.

Where linear scores rank every comparison without an error (:mod:`~.separability`), maximum
likelihood has no minimiser: weights grow without bound, in the direction of the hard-margin support
vector machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from prefsim.checks import as_float_array, check_shape
from prefsim.typing import Array

__all__ = ["HardMargin", "hard_margin"]


class HardMargin(NamedTuple):
    r"""The largest margin of unit weights, and its certificate.

    Attributes
    ----------
    margin
        :math:`\gamma^* = \max_{\|w\|=1}\min_i \langle w, d_i\rangle`, ``(...)``, what the direction
        has; 0 where no weights have a positive one.
    direction
        The weights of length one that have it, ``(..., d)``; zeros where there are none.
    gap
        By how much the bound of the dual is above the margin, ``(...)``, >= 0 but for rounding: no
        weights have a margin larger than both together.
    """

    margin: np.ndarray
    direction: np.ndarray
    gap: np.ndarray


def hard_margin(differences: Array) -> HardMargin:
    r"""Return the unit weights that keep all comparisons as far from a tie as possible.

    The dual is the shortest vector in the convex hull of the differences: a problem of least
    squares with non-negative coefficients, which an active set solves to rounding.

    .. math:: \max_{\|w\|=1}\min_i \langle w, d_i\rangle
        = \min_{\mu\ge0,\ \mathbf 1^\top\mu=1} \Big\|\sum_i \mu_i d_i\Big\|

    Parameters
    ----------
    differences
        :math:`d_i = \phi(x_i, y_i) - \phi(x_i, y'_i)` of what is preferred and what is not,
        ``(..., n, d)``, n >= 1.

    Returns
    -------
    HardMargin

    Raises
    ------
    ValueError
        If an entry is not finite or there is no comparison.

    References
    ----------
    Soudry et al. 2018, "The implicit bias of gradient descent on separable data", arXiv:1710.10345.

    Examples
    --------
    >>> found = hard_margin(np.array([[3.0, 1.0], [3.0, -1.0], [5.0, 0.0]]))
    >>> found.direction.round(12), float(found.margin.round(12))
    (array([1., 0.]), 3.0)
    """
    rows = as_float_array(differences, "differences", min_ndim=2)
    check_shape(rows, "differences", (None, None))
    if 0 in rows.shape[-2:]:
        raise ValueError(
            f"differences must hold at least one comparison and feature, got shape {rows.shape}"
        )
    batch = rows.shape[:-2]
    members = rows.reshape(-1, *rows.shape[-2:])
    direction = np.stack([_shortest(member) for member in members]).reshape(*batch, -1)
    bound = np.linalg.norm(direction, axis=-1)
    # Shorter than rounding: the hull holds the origin, and no weights rank every comparison.
    size = np.linalg.norm(rows, axis=-1).max(axis=-1)
    ranked = bound > np.sqrt(np.finfo(np.float64).eps) * size
    unit = np.where(ranked[..., None], direction, 0.0) / np.where(ranked, bound, 1.0)[..., None]
    margin = (rows @ unit[..., None])[..., 0].min(axis=-1)
    return HardMargin(margin, unit, np.asarray(bound - margin))


def _shortest(rows: np.ndarray) -> np.ndarray:
    """Return the shortest vector in the convex hull of the rows ``(n, d)``."""
    size = np.linalg.norm(rows, axis=-1).max()
    if size == 0:
        return np.zeros(rows.shape[-1])
    # Of s·μ with weights μ that sum to one the squares are s²‖Σμd‖² + (1 − s)²: whatever the scale
    # s, the best μ have the shortest sum.
    stacked = np.vstack([rows.T / size, np.ones(len(rows))])
    target = np.append(np.zeros(rows.shape[-1]), 1.0)
    weights, _ = nnls(stacked, target)
    return np.asarray(rows.T @ (weights / weights.sum()))
