r"""How much a coupling of two spaces changes distances: the Gromov–Wasserstein objective.

No distance from one space to the other is needed, so that the spaces may have nothing in common.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.checks import (
    as_floats,
    check_entries,
    check_flag,
    check_shape,
    names_shapes,
    tolerance_of,
)
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "check_distances",
    "distance_matrix",
    "gromov_wasserstein_cost",
    "gromov_wasserstein_gradient",
    "plain_gradient",
    "read_problem",
]


def distance_matrix(points: ArrayT, *, normalise: bool = False) -> ArrayT:
    r"""Return the Euclidean distances :math:`C_{ik} = \|x_i - x_k\|` of points of one space.

    Parameters
    ----------
    points
        ``(..., M, D)``: flattened segments of one length, or features of trajectories.
    normalise
        Whether to divide by the largest distance, where the units of two spaces differ.

    Returns
    -------
    Array ``(..., M, M)``, symmetric with a diagonal of 0.

    Raises
    ------
    ValueError
        If points are not finite, or all the same where distances are to be normalised.

    Examples
    --------
    >>> distance_matrix(np.asarray([[0.0, 0.0], [3.0, 4.0]]))
    array([[0., 5.],
           [5., 0.]])
    """
    check_flag(normalise=normalise)
    (points,) = as_floats(points=points)
    check_shape(points, "points", (None, None))
    check_entries(points, "points", "be finite", np.isfinite)
    xp = array_namespace(points)
    squares = xp.sum((points[..., :, None, :] - points[..., None, :, :]) ** 2, axis=-1)
    # The root has no derivative at 0.
    apart = squares > 0
    root = xp.sqrt(xp.where(apart, squares, xp.ones_like(squares)))
    found = xp.where(apart, root, xp.zeros_like(squares))
    if not normalise:
        return found
    largest = xp.max(found, axis=(-2, -1), keepdims=True)
    check_entries(largest, "points", "differ, for distances to be normalised", lambda x: x > 0)
    return found / largest


@names_shapes
def gromov_wasserstein_cost(source: ArrayT, target: Array, coupling: Array) -> ArrayT:
    r"""Return how much a coupling changes distances, as a mean of squares.

    .. math:: \sum_{i,k,j,l} (C_{ik} - D_{jl})^2\,T_{ij}\,T_{kl}
        = p^\top C^{\circ 2} p + q^\top D^{\circ 2} q - 2\,\langle C T D,\, T\rangle

    with the masses p and q that the coupling moves.

    Parameters
    ----------
    source, target
        C, ``(..., M, M)``, and D, ``(..., N, N)``, symmetric and >= 0.
    coupling
        T, ``(..., M, N)``, >= 0.

    Returns
    -------
    Array ``(...)``.

    Raises
    ------
    ValueError
        If a table of distances is negative or not symmetric, a coupling is negative, or shapes do
        not fit.

    References
    ----------
    Mémoli 2011; Peyré, Cuturi and Solomon 2016 (the form of matrices).

    Examples
    --------
    >>> source = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.5], [2.0, 1.5, 0.0]])
    >>> target = np.asarray([[0.0, 3.0], [3.0, 0.0]])
    >>> coupling = np.asarray([[1 / 3, 0], [1 / 6, 1 / 6], [0, 1 / 3]])
    >>> float(gromov_wasserstein_cost(source, target, coupling).round(10))
    1.7777777778
    """
    source, target, coupling = read_problem(source, target, coupling)
    xp = array_namespace(coupling)
    return 0.5 * xp.sum(plain_gradient(source, target, coupling) * coupling, axis=(-2, -1))


@names_shapes
def gromov_wasserstein_gradient(source: ArrayT, target: Array, coupling: Array) -> ArrayT:
    r"""Return the derivative of :func:`gromov_wasserstein_cost` in the coupling, ``(..., M, N)``.

    .. math:: 2\big(C^{\circ 2} p\,1^\top + 1\,(D^{\circ 2} q)^\top - 2\,C T D\big)

    Parameters, errors and sources are those of the cost. As the cost is quadratic it is half the
    inner product of the coupling and this.
    """
    return plain_gradient(*read_problem(source, target, coupling))


def plain_gradient(source: Any, target: Any, coupling: Any) -> Any:
    """Return the gradient of tables that were looked at."""
    xp = array_namespace(coupling)
    leaving = xp.sum(coupling, axis=-1, keepdims=True)
    arriving = xp.sum(coupling, axis=-2, keepdims=True)
    squares = xp.matmul(source**2, leaving) + xp.matmul(arriving, target**2)
    return 2.0 * (squares - 2.0 * xp.matmul(xp.matmul(source, coupling), target))


def read_problem(source: Any, target: Any, coupling: Any) -> tuple[Any, Any, Any]:
    """Return both tables of distances and the coupling, checked, of one kind of array."""
    source, target, coupling = as_floats(source=source, target=target, coupling=coupling)
    check_shape(coupling, "coupling", (None, None))
    m, n = coupling.shape[-2:]
    for name, table, size in (("source", source, m), ("target", target, n)):
        check_shape(table, name, (size, size))
        check_distances(table, name)
    check_entries(coupling, "coupling", "be finite and >= 0", lambda x: (x >= 0) & (x < math.inf))
    return source, target, coupling


def check_distances(table: Any, name: str) -> None:
    """Raise unless distances are finite, >= 0 and symmetric."""
    check_entries(table, name, "be finite and >= 0", lambda x: (x >= 0) & (x < math.inf))
    # Distances of two orders of summation may differ by rounding.
    allowed = tolerance_of(table)

    def symmetric(x: np.ndarray) -> np.ndarray:
        scale = np.abs(x).max(axis=(-2, -1), keepdims=True, initial=0.0)
        close: np.ndarray = np.abs(x - np.swapaxes(x, -1, -2)) <= allowed * scale
        return close

    check_entries(table, name, "be symmetric", symmetric)
