r"""Whether two losses on one linear head pull it, or the features below it, apart.

With scores :math:`z_i = W h_i` and gradients :math:`r_i` of a loss in the scores of example i, the
head's gradient is :math:`G = \frac1n\sum_i r_i h_i^\top` and the features' :math:`W^\top r_i`.
"""

from __future__ import annotations

from prefsim.checks import as_floats, check_same_shape, check_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["backbone_conflict", "head_conflict"]


def _cosine(first: ArrayT, second: ArrayT) -> ArrayT:
    """Return the cosine of matrices ``(..., a, b)``, zero where one of them is."""
    xp = array_namespace(first, second)

    def inner(x: ArrayT, y: ArrayT) -> ArrayT:
        return xp.sum(x * y, axis=(-2, -1))

    size = xp.sqrt(inner(first, first)) * xp.sqrt(inner(second, second))
    return inner(first, second) / xp.where(size > 0, size, xp.ones_like(size))


def head_conflict(first: ArrayT, second: Array, features: Array) -> ArrayT:
    r"""Return the cosine between the gradients of two losses in the weights of their head.

    Parameters
    ----------
    first, second
        Gradients of the losses in the scores, ``(..., n, K)``.
    features
        h, ``(..., n, d)``.

    Returns
    -------
    Array ``(...)`` in [-1, 1]; below zero they conflict. 0 where a gradient vanishes.

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Yang et al. 2024, "Dual-Head Knowledge Distillation", the gradient analysis, arXiv:2411.08937.

    Examples
    --------
    >>> import numpy as np
    >>> pulls, h = np.asarray([[1.0, -1.0]]), np.asarray([[1.0, 2.0]])
    >>> head_conflict(pulls, -2 * pulls, h).round(12)
    np.float64(-1.0)
    """
    first, second, features = as_floats(first=first, second=second, features=features)
    check_shape(features, "features", (None, None))
    check_shape(first, "first", (features.shape[-2], None))
    check_same_shape(first=first, second=second)
    xp = array_namespace(first, features)
    # The factor 1/n cancels.
    return _cosine(xp.matmul(first.mT, features), xp.matmul(second.mT, features))


def backbone_conflict(first: ArrayT, second: Array, weights: Array) -> ArrayT:
    r"""Return the cosine between the gradients of two losses in the features of all examples.

    Parameters
    ----------
    first, second
        Gradients of the losses in the scores, ``(..., n, K)``.
    weights
        W of the head, ``(..., K, d)``.

    Returns
    -------
    Array ``(...)`` in [-1, 1]; below zero they conflict. 0 where a gradient vanishes.

    Raises
    ------
    ValueError
        If shapes do not fit.

    References
    ----------
    Yang et al. 2024, "Dual-Head Knowledge Distillation", the gradient analysis, arXiv:2411.08937.

    Examples
    --------
    >>> import numpy as np
    >>> pulls = np.asarray([[1.0, -1.0]])
    >>> backbone_conflict(pulls, 3 * pulls, np.eye(2)).round(12)
    np.float64(1.0)
    """
    first, second, weights = as_floats(first=first, second=second, weights=weights)
    check_shape(weights, "weights", (None, None))
    check_shape(first, "first", (None, weights.shape[-2]))
    check_same_shape(first=first, second=second)
    xp = array_namespace(first, weights)
    return _cosine(xp.matmul(first, weights), xp.matmul(second, weights))
