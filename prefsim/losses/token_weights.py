r"""How much each token of a response counts: weights off activations, or learned; their sparsity.

:func:`prefsim.losses.sparse_po` takes them, one for the log-ratio and one for the KL divergence of
every token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefsim.checks import (
    alike,
    as_array,
    as_floats,
    as_one_library,
    check_broadcast,
    check_entries,
    check_graph_kept,
    check_no_nan,
    check_same_shape,
    shapes_of,
)
from prefsim.losses.links import positive_part
from prefsim.losses.pair_fields import check_last_axis
from prefsim.numerics import array_namespace, host_values, stop_gradient
from prefsim.typing import Array, ArrayT

__all__ = ["activation_weights", "relu_weights", "token_sparsity"]


def activation_weights(activations: ArrayT, mask: Array) -> ArrayT:
    r"""Return the weights of MaPO: activations rescaled over each response, averaged over layers.

    .. math:: m_t = \frac1L \sum_l \frac{x_{lt} - \min_s x_{ls}}{\max_s x_{ls} - \min_s x_{ls}}

    over the tokens s of the response. Whether x is standardised first makes no difference, for the
    quotient is the same of :math:`ax + b` with a > 0.

    Parameters
    ----------
    activations
        Of L layers or places at each token, each the mean over its units, ``(..., L, T)``.
    mask
        Which tokens belong to the response, ``(..., T)``; behind it there may be anything.

    Returns
    -------
    Array ``(..., T)`` in [0, 1], 0 behind the mask, a constant of differentiation. Where a layer is
    constant over a response, which then tells no token from another, all its weights are 1: a
    response of one token among them.

    Raises
    ------
    ValueError
        If shapes do not fit, or an activation is not finite.

    References
    ----------
    Christopoulou et al. 2024, section 3 (MaPO), arXiv:2410.05102. What a constant layer gives is
    chosen here: the quotient is 0/0.

    Examples
    --------
    >>> import numpy as np
    >>> every = np.ones(4, bool)
    >>> activation_weights(np.asarray([[0.1, -0.4, 0.7, 0.2]]), every).round(8)
    array([0.45454545, 0.        , 1.        , 0.54545455])
    >>> activation_weights(np.asarray([[0.1, -0.4, 0.7, 0.2], [3.0] * 4]), every).round(4)
    array([0.7273, 0.5   , 1.    , 0.7727])
    """
    (activations,) = as_floats(activations=activations, nan=True)
    check_last_axis(activations, "activations", "token")
    mask = as_array(mask, "mask", "bool")
    activations, mask = as_one_library({"activations": activations, "mask": mask}).values()
    layers = activations.shape[-2] if activations.ndim > 1 else 0
    expected = (*activations.shape[:-2], activations.shape[-1])
    if layers == 0 or tuple(mask.shape) != expected:
        raise ValueError(
            "activations must have shape (..., L, T) with L >= 1 and mask (..., T), got"
            f" {shapes_of(activations=activations, mask=mask)}"
        )
    given = stop_gradient(activations)
    xp = array_namespace(given)
    counted = xp.broadcast_to(mask[..., None, :], given.shape)
    check_entries(given, "activations", "be finite", np.isfinite, counted=counted)
    # Halves, of which the difference of the largest and the smallest is a number.
    x = 0.5 * xp.where(counted, given, xp.zeros_like(given))
    zero = xp.zeros_like(x)
    low = xp.min(xp.where(counted, x, zero + float("inf")), axis=-1, keepdims=True)
    high = xp.max(xp.where(counted, x, zero - float("inf")), axis=-1, keepdims=True)
    varies = high > low
    span = xp.where(varies, high - low, xp.ones_like(high))
    rescaled = xp.where(varies, (x - low) / span, xp.ones_like(x))
    return xp.mean(xp.where(counted, rescaled, zero), axis=-2)


def relu_weights(features: ArrayT, weight: ArrayT, bias: Any = 0.0) -> ArrayT:
    r"""Return one number of every token, exactly zero for many: the unit of a learned mask.

    .. math:: m_t = \max\big(0,\; w \cdot \phi_t + b\big)

    Of one-hot features it is a table of weights. SparsePO reads the hidden states of the reference
    with one such unit for each layer, and mixes the layers with another that has no bias.

    Parameters
    ----------
    features
        φ, ``(..., T, F)``.
    weight
        w, ``(..., F)``; leading axes broadcast against those of the features before T.
    bias
        b, a number or ``(...,)``.

    Returns
    -------
    Array ``(..., T)``, >= 0. Below zero the derivative is zero: a unit that is off for every token
    stays off.

    Raises
    ------
    ValueError
        If shapes do not fit each other.

    References
    ----------
    Christopoulou et al. 2024, section 3, arXiv:2410.05102.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> relu_weights(features, np.asarray([0.5, -1.0]), 0.25)
    array([0.75, 0.  , 0.  ])
    """
    features, weight, bias = alike(features=features, weight=weight, bias=bias)
    check_graph_kept(weight, "weight", features)
    check_graph_kept(bias, "bias", features)
    if features.ndim < 2 or weight.ndim < 1 or features.shape[-1] != weight.shape[-1]:
        raise ValueError(
            "features must have shape (..., T, F) and weight (..., F), got"
            f" {shapes_of(features=features, weight=weight)}"
        )
    units = weight[..., 0]
    check_broadcast(features=features[..., 0, 0], weight=units, bias=bias)
    xp = array_namespace(features)
    product = xp.matmul(features, weight[..., None])[..., 0]
    return positive_part(product + bias[..., None])


def token_sparsity(weights: ArrayT, mask: Array, *, prob: ArrayT | None = None) -> ArrayT:
    """Return which share of the tokens of responses has a weight of exactly zero.

    Parameters
    ----------
    weights
        ``(..., n, T)``, of n responses.
    mask
        Which tokens belong to the responses, ``(..., n, T)``.
    prob
        How often each response is seen, ``(..., n)`` and >= 0; once each unless given.

    Returns
    -------
    Array ``(...)`` in [0, 1].

    Raises
    ------
    ValueError
        If shapes differ, a weight is NaN, a probability is negative, or no token counts.

    References
    ----------
    Christopoulou et al. 2024, arXiv:2410.05102, where it is a percentage.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.asarray([[0.0, 0.3, 0.0], [1.0, 0.0, 0.0]])
    >>> print(token_sparsity(weights, np.asarray([[True, True, True], [True, False, False]])))
    0.5
    """
    weights, prob = alike(optional=("prob",), weights=weights, prob=prob)
    given = {"weights": weights, "mask": as_array(mask, "mask", "bool")}
    together = as_one_library(given if prob is None else given | {"prob": prob})
    weights, mask, prob = together["weights"], together["mask"], together.get("prob")
    check_same_shape(weights=weights, mask=mask)
    if weights.ndim < 2:
        raise ValueError(f"weights must have shape (..., n, T), got {tuple(weights.shape)}")
    check_no_nan(weights, "weights", counted=mask)
    xp = array_namespace(weights)
    count = xp.astype(mask, weights.dtype)
    if prob is not None:
        check_same_shape(prob=prob, responses=weights[..., 0])
        check_entries(prob, "prob", "be finite and >= 0", lambda x: (x >= 0) & (x < float("inf")))
        count = count * prob[..., None]
    total = xp.sum(count, axis=(-2, -1))
    seen = host_values(total)
    if seen is not None and not (seen > 0).all():
        raise ValueError("mask must leave at least one token that is seen, got none")
    return xp.sum(xp.where(weights == 0, count, xp.zeros_like(count)), axis=(-2, -1)) / total
