"""Labels of one task for another, through a coupling of their trajectories."""

from __future__ import annotations

from prefsim.checks import (
    as_floats,
    check_entries,
    check_preference,
    check_shape,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace, to_numpy
from prefsim.typing import Array, ArrayT

__all__ = ["transferred_preference"]


@names_shapes
def transferred_preference(coupling: ArrayT, preference: Array) -> ArrayT:
    r"""Return preferences among the trajectories of a task that has no labels.

    .. math:: \hat Y_{jl} = \frac{1}{q_j q_l} \sum_{i,k} T_{ij}\,T_{kl}\,Y_{ik},\qquad
        q_j = \sum_i T_{ij}

    A trajectory of the target stands for the sources that the coupling sends to it, in their
    shares, and two of them are compared as these are on average. With uniform q it is
    :math:`N^2\,T^\top Y T`; without the factor labels shrink to 0.

    Parameters
    ----------
    coupling
        T, ``(..., M, N)``, entries >= 0; how much of each source goes to each target.
    preference
        Y, ``(..., M, M)``: P(i ≻ k) among the sources, Y + Yᵀ = 1.

    Returns
    -------
    Array ``(..., N, N)``, P(j ≻ l) among the targets; Ŷ + Ŷᵀ = 1. Where a label says that the
    *second* of a pair is preferred, it is 1 less that.

    Raises
    ------
    ValueError
        If a coupling is negative or not finite, a target gets nothing, a preference lies outside
        [0, 1] or does not satisfy Y + Yᵀ = 1, or shapes do not fit.

    References
    ----------
    Liu et al. 2023, cross-task preference alignment, arXiv:2306.03615 (there for uniform q).

    Examples
    --------
    >>> import numpy as np
    >>> coupling = np.asarray([[1 / 3, 0], [1 / 6, 1 / 6], [0, 1 / 3]])
    >>> sources = np.asarray([[0.5, 1.0, 1.0], [0.0, 0.5, 0.8], [0.0, 0.2, 0.5]])
    >>> transferred_preference(coupling, sources).round(12)
    array([[0.5, 0.9],
           [0.1, 0.5]])
    """
    given = preference
    coupling, preference = as_floats(coupling=coupling, preference=preference)
    check_shape(coupling, "coupling", (None, None))
    check_shape(preference, "preference", (coupling.shape[-2],) * 2)
    check_entries(
        coupling, "coupling", "be finite and >= 0", lambda x: (x >= 0) & (x < float("inf"))
    )
    check_preference(to_numpy(preference), "preference", tolerance=tolerance_of(given))
    xp = array_namespace(coupling)
    arriving = xp.sum(coupling, axis=-2, keepdims=True)
    check_entries(arriving, "coupling", "send something to every target", lambda x: x > 0)
    shares = coupling / arriving
    found = xp.matmul(xp.matmul(xp.matrix_transpose(shares), preference), shares)
    # A mean of probabilities is one, but for rounding.
    return xp.clip(found, 0.0, 1.0)
