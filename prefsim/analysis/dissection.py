"""What judges look at, compared: how alike their weights are, and what decided one judgement."""

from __future__ import annotations

from typing import Any

from prefsim.checks import as_floats, check_broadcast, check_choice, check_entries, check_shape
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = ["SIMILARITIES", "judge_similarity", "property_attribution"]

SIMILARITIES = ("pearson", "spearman", "l1", "l2")


def judge_similarity(weights: ArrayT, *, kind: str = "pearson") -> ArrayT:
    r"""Return how alike the weights of judges are, every judge with every other.

    Parameters
    ----------
    weights
        Of properties, ``(..., judges, p)`` with p >= 2. Leading axes are scenarios, over which the
        paper averages the result.
    kind
        ``"pearson"`` or ``"spearman"``, the correlation of the weights or of their ranks, which do
        not change when a judge is more decided about everything; ``"l1"``, minus the mean absolute
        difference; ``"l2"``, minus the Euclidean distance divided by p.

    Returns
    -------
    Array ``(..., judges, judges)``, symmetric.

    Raises
    ------
    ValueError
        If ``kind`` is unknown, there are fewer than two properties, or all weights of a judge are
        the same, of which there is no correlation.

    References
    ----------
    Li et al. 2024, section on the similarity of preferences, arXiv:2402.11296; the kinds are those
    of the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.asarray([[0.1, 0.4, -0.2, 0.3], [0.2, 0.3, -0.1, 0.1]])
    >>> [judge_similarity(weights, kind=kind)[0, 1].round(6) for kind in ("pearson", "l1", "l2")]
    [np.float64(0.848368), np.float64(-0.125), np.float64(-0.066144)]
    """
    check_choice(SIMILARITIES, kind=kind)
    (weights,) = as_floats(weights=weights)
    check_shape(weights, "weights", (None, None))
    p = weights.shape[-1]
    if p < 2:
        raise ValueError(f"weights must be of at least two properties, got {p}")
    xp = array_namespace(weights)
    if kind in ("l1", "l2"):
        apart = weights[..., :, None, :] - weights[..., None, :, :]
        if kind == "l1":
            return -xp.mean(xp.abs(apart), axis=-1)
        return -xp.sqrt(xp.sum(apart * apart, axis=-1)) / p
    values = _ranks(weights) if kind == "spearman" else weights
    centred = values - xp.mean(values, axis=-1, keepdims=True)
    length = xp.sqrt(xp.sum(centred * centred, axis=-1, keepdims=True))
    check_entries(length, "weights", "differ between properties", lambda x: x > 0)
    unit = centred / length
    return unit @ xp.matrix_transpose(unit)


def _ranks(values: Any) -> Any:
    """Return the rank of each entry along the last axis, equal ones sharing the mean of theirs."""
    xp = array_namespace(values)
    here, there = values[..., :, None], values[..., None, :]
    lower = xp.sum(xp.astype(there < here, values.dtype), axis=-1)
    equal = xp.sum(xp.astype(there == here, values.dtype), axis=-1)
    # Added to nothing of the values, so that NaN stays NaN.
    return lower + 0.5 * (equal - 1) + 0.0 * values


def property_attribution(weights: ArrayT, features: Array) -> Any:
    r"""Return what each property adds to the log-odds of each judgement.

    :math:`\alpha_k(x_k - E x_k)`, the Shapley values of a linear judge: they sum to its log-odds
    less their mean.

    Parameters
    ----------
    weights
        α, ``(..., p)``.
    features
        x of the pairs, ``(..., n, p)``; the mean is over the n.

    Returns
    -------
    Array ``(..., n, p)`` in log-odds.

    Raises
    ------
    ValueError
        If shapes do not fit, or there is no pair.

    References
    ----------
    Li et al. 2024, arXiv:2402.11296. Štrumbelj and Kononenko 2014 (the values of a linear model).

    Examples
    --------
    >>> import numpy as np
    >>> property_attribution(np.asarray([0.5, -1.0]), np.asarray([[1.0, 1.0], [0.0, -1.0]]))
    array([[ 0.25, -1.  ],
           [-0.25,  1.  ]])
    """
    weights, features = as_floats(weights=weights, features=features)
    check_shape(weights, "weights", (None,))
    check_shape(features, "features", (None, weights.shape[-1]))
    check_broadcast(weights=weights[..., None, :], features=features)
    if features.shape[-2] == 0:
        raise ValueError("features must be of at least one pair, got none")
    xp = array_namespace(features)
    centred = features - xp.mean(features, axis=-2, keepdims=True)
    return weights[..., None, :] * centred
