"""How embeddings lie on the sphere: how evenly, and how close those of one class."""

from __future__ import annotations

import numpy as np

from prefsim.checks import (
    as_floats,
    as_index_array,
    check_flag,
    check_integer,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, like, logsumexp
from prefsim.typing import Array, ArrayT

__all__ = ["neighbour_accuracy", "tolerance", "uniformity"]


def uniformity(points: ArrayT, *, scale: float = 2.0) -> ArrayT:
    r"""Return how unevenly embeddings lie on the sphere; lower is more uniform.

    .. math:: \log \mathop{\mathrm{mean}}_{x \ne y} e^{-t\|x - y\|^2}

    Parameters
    ----------
    points
        Embeddings ``(..., n, d)``, usually of unit length, n >= 2. Pairs are of different places.
    scale
        t > 0.

    Returns
    -------
    Array ``(...)``, nats, at most 0.

    Raises
    ------
    ValueError
        If there are fewer than two points, or ``scale`` is not a finite number > 0.

    References
    ----------
    Wang, Isola 2020, uniformity loss, arXiv:2005.10242.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(uniformity(np.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))), 6)
    -4.396349
    """
    check_positive(scale=scale)
    (points,) = as_floats(points=points)
    check_shape(points, "points", (None, None))
    n = points.shape[-2]
    if n < 2:
        raise ValueError(f"points must hold at least two points, got {n}")
    xp = array_namespace(points)
    products = points @ xp.matrix_transpose(points)
    squares = xp.sum(points * points, axis=-1)
    distances = squares[..., :, None] + squares[..., None, :] - 2 * products
    itself = xp.eye(n, dtype=xp.bool, device=points.device)
    # Rounding leaves a square below zero between points that are one.
    exponent = -scale * xp.where(distances < 0, 0 * distances, distances)
    exponent = xp.where(itself, xp.full_like(exponent, -xp.inf), exponent)
    pairs = xp.full_like(squares[..., 0], float(n * (n - 1)))
    return logsumexp(exponent, axis=(-2, -1)) - xp.log(pairs)


def tolerance(points: ArrayT, label: Array, *, conditional: bool = True) -> ArrayT:
    r"""Return the mean similarity of embeddings of one class; higher is more tolerant.

    .. math:: \mathop{\mathrm{mean}}_{x \ne y} \; [x^\top y \mid l(x) = l(y)]

    Parameters
    ----------
    points
        Embeddings ``(..., n, d)``, usually of unit length.
    label
        Integer classes >= 0, ``(..., n)``.
    conditional
        Over pairs of one class; False is the mean over all pairs of
        :math:`x^\top y\,1[l(x) = l(y)]`, which is smaller by the share of such pairs.

    Returns
    -------
    Array ``(...)``, in [-1, 1] for unit vectors.

    Raises
    ------
    ValueError
        If shapes do not fit, or no two points are of one class.

    References
    ----------
    Wang, Liu 2020, tolerance, arXiv:2012.09740; printed without the condition.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.asarray([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> [round(float(tolerance(points, [0, 0, 1], conditional=c)), 6) for c in (True, False)]
    [0.6, 0.2]
    """
    check_flag(conditional=conditional)
    (points,) = as_floats(points=points)
    check_shape(points, "points", (None, None))
    places = as_index_array(label, "label")
    if places.shape != tuple(points.shape[:-1]):
        raise ValueError(
            f"label must have shape {tuple(points.shape[:-1])}, that of points without their"
            f" coordinates, got {places.shape}"
        )
    xp = array_namespace(points)
    n = points.shape[-2]
    classes = like(places, points, integer=True)
    itself = xp.eye(n, dtype=xp.bool, device=points.device)
    alike = (classes[..., :, None] == classes[..., None, :]) & ~itself
    weight = xp.astype(alike, points.dtype)
    pairs = xp.sum(weight, axis=(-2, -1))
    if not bool(xp.all(pairs > 0)):
        raise ValueError("label must hold two points of one class")
    total = xp.sum(weight * (points @ xp.matrix_transpose(points)), axis=(-2, -1))
    return total / pairs if conditional else total / (n * (n - 1))


def neighbour_accuracy(
    points: np.ndarray, label: np.ndarray, *, n: int, neighbours: int = 5
) -> np.ndarray:
    """Return how often the nearest of the first ``n`` points vote for the class of a later one.

    Parameters
    ----------
    points
        Embeddings ``(..., N, d)`` of unit length, NumPy; nearest in their similarity.
    label
        Integer classes ``(..., N)``, >= 0; of a tied vote the lowest class wins.
    n
        How many of them vote, at least ``neighbours`` and fewer than N.
    neighbours
        Votes for each of the others.

    Returns
    -------
    Mean over the later points by class, then over classes, ``(...)``: a rare class counts as much
    as a frequent one.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.asarray([[1.0, 0.0], [0.0, 1.0], [0.8, 0.6], [0.6, 0.8]])
    >>> float(neighbour_accuracy(points, np.asarray([0, 1, 0, 0]), n=2, neighbours=1))
    0.5
    """
    check_integer(low=1, neighbours=neighbours)
    check_integer(low=neighbours, high=points.shape[-2] - 1, n=n)
    similarity = points[..., n:, :] @ np.swapaxes(points[..., :n, :], -1, -2)
    nearest = np.argsort(-similarity, axis=-1, kind="stable")[..., :neighbours]
    voters = np.take_along_axis(label[..., None, :n], nearest, axis=-1)
    classes = np.arange(label.max() + 1)
    votes = (voters[..., None] == classes).sum(axis=-2).argmax(axis=-1)
    own = label[..., n:, None] == classes
    right = own & (votes == label[..., n:])[..., None]
    counts = own.sum(axis=-2)
    shares = right.sum(axis=-2) / np.maximum(counts, 1)
    return np.asarray(shares.sum(axis=-1) / (counts > 0).sum(axis=-1))
