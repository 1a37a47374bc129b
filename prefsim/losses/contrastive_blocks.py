r"""Contrastive losses on embeddings, in blocks: the matrix of similarities never exists.

One primitive carries them: the KL-regularised worst case over an anchor's negatives,
:math:`\tau\log\frac1m\sum_j e^{(s_j - s_i)/\tau}`, with its divergence and its gradient.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from array_api_compat import is_torch_array

from prefsim.checks import (
    as_floats,
    as_index_array,
    check_broadcast,
    check_nonnegative,
    check_positive,
    check_shape,
)
from prefsim.numerics import as_tensor, softplus, to_numpy, widened
from prefsim.typing import Array, ArrayT

__all__ = ["NegativesKlDro", "blockwise_infonce", "blockwise_rgcl", "negatives_kl_dro"]


class NegativesKlDro(NamedTuple):
    """The worst case over the negatives of every anchor.

    Attributes
    ----------
    value
        ``τ log mean_j exp((s_j - s_i) / τ)``, ``(n,)``.
    divergence
        ``KL(p || 1/m)`` of the worst distribution, ``(n,)`` nats; minus the derivative of the value
        in τ. A constant of differentiation.
    negatives
        m, the number of negatives of an anchor.
    """

    value: Array
    divergence: Array
    negatives: int


def negatives_kl_dro(
    anchors: ArrayT,
    candidates: Array,
    label: Array,
    *,
    temperature: float | Array,
    excluded: Array | None = None,
    block_bytes: int | None = None,
) -> NegativesKlDro:
    """Return the worst case over the negatives of every anchor, in blocks of anchors.

    Parameters
    ----------
    anchors
        Embeddings ``(n, d)``, usually of unit length.
    candidates
        Embeddings ``(N, d)``; similarities are dot products.
    label
        Place ``(n,)`` of each anchor's positive among the candidates.
    temperature
        τ > 0, a number or ``(n,)``; its derivative is minus the divergence.
    excluded
        Further places ``(n, e)`` that are no negatives, e distinct ones an anchor and not its
        positive: itself, where anchors are candidates.
    block_bytes
        Of one block of similarities, of which two are held; None is what suits the device.

    Returns
    -------
    NegativesKlDro
        Of the library of the anchors. In torch the value has a first derivative in the embeddings
        and in the temperature, for which similarities are computed once more.

    Raises
    ------
    ValueError
        If shapes do not fit, a place is out of range, there is no negative, or ``temperature`` is
        not > 0.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.asarray([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> itself = [[0], [1], [2]]
    >>> found = negatives_kl_dro(points, points, [1, 2, 1], temperature=0.5, excluded=itself)
    >>> found.value.round(6), found.negatives
    (array([-0.6, -0.2, -0.8]), 1)
    """
    import torch

    from prefsim.losses._torch_similarities import negatives_worst_case

    check_positive(arrays=True, temperature=temperature)
    anchors, candidates, tau = as_floats(
        anchors=anchors, candidates=candidates, temperature=temperature
    )
    _check_shape(anchors, "anchors", (None, None))
    _check_shape(candidates, "candidates", (None, anchors.shape[1]))
    places = as_index_array(label, "label", size=candidates.shape[0])
    _check_shape(places, "label", (anchors.shape[0],))
    check_broadcast(temperature=tau, label=places)
    left_out = None
    if excluded is not None:
        left_out = as_index_array(excluded, "excluded", size=candidates.shape[0])
        _check_shape(left_out, "excluded", (anchors.shape[0], None))
    negatives = candidates.shape[0] - 1 - (0 if left_out is None else left_out.shape[1])
    if negatives < 1:
        raise ValueError(
            "candidates must hold a negative beside the positive and those excluded, got"
            f" {candidates.shape[0]} candidates"
        )
    in_torch = is_torch_array(anchors)
    a, c, t = (widened(as_tensor(x)) for x in (anchors, candidates, tau))
    device = a.device
    value, divergence = negatives_worst_case(
        a,
        c,
        as_tensor(places, device=device),
        t.expand(a.shape[0]),
        None if left_out is None else as_tensor(left_out, device=device),
        block_bytes,
    )
    dtype = torch.as_tensor(anchors).dtype
    value, divergence = value.to(dtype), divergence.to(dtype)
    if not in_torch:
        return NegativesKlDro(to_numpy(value), to_numpy(divergence), negatives)
    return NegativesKlDro(value, divergence, negatives)


def blockwise_infonce(
    anchors: ArrayT,
    candidates: Array,
    label: Array,
    *,
    temperature: float | Array = 0.1,
    excluded: Array | None = None,
    block_bytes: int | None = None,
) -> ArrayT:
    """Return :func:`prefsim.losses.infonce` of every anchor, in blocks of anchors.

    Parameters
    ----------
    anchors, candidates, label, temperature, excluded, block_bytes
        As in :func:`negatives_kl_dro`.

    Returns
    -------
    Array ``(n,)``, nats.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.asarray([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> blockwise_infonce(points, points, [0, 1, 2], temperature=0.5).round(6)
    array([0.460373, 0.751251, 0.590924])
    """
    found = negatives_kl_dro(
        anchors,
        candidates,
        label,
        temperature=temperature,
        excluded=excluded,
        block_bytes=block_bytes,
    )
    # The log-odds against the positive.
    value: Any = softplus(
        found.value / _beside(found.value, temperature) + math.log(found.negatives)
    )
    return value


def blockwise_rgcl(
    anchors: ArrayT,
    candidates: Array,
    label: Array,
    *,
    temperature: float | Array = 0.1,
    radius: float = 0.3,
    excluded: Array | None = None,
    block_bytes: int | None = None,
) -> ArrayT:
    """Return :func:`prefsim.losses.rgcl` of every anchor at given temperatures, in blocks.

    Parameters
    ----------
    anchors, candidates, label, temperature, excluded, block_bytes
        As in :func:`negatives_kl_dro`.
    radius
        ρ >= 0, nats.

    Returns
    -------
    Array ``(n,)`` in units of the similarities.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.asarray([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> blockwise_rgcl(points, points, [0, 1, 2], temperature=0.5).round(6)
    array([-0.464932, -0.140066, -0.304623])
    """
    check_nonnegative(radius=radius)
    found = negatives_kl_dro(
        anchors,
        candidates,
        label,
        temperature=temperature,
        excluded=excluded,
        block_bytes=block_bytes,
    )
    value: Any = found.value + radius * _beside(found.value, temperature)
    return value


def _check_shape(array: Any, name: str, expected: tuple[int | None, ...]) -> None:
    """Raise unless an array has the axes expected and no further ones."""
    if array.ndim != len(expected):
        raise ValueError(f"{name} must have {len(expected)} axes, got shape {tuple(array.shape)}")
    check_shape(array, name, expected)


def _beside(value: Any, temperature: Any) -> Any:
    """Return a temperature in the library of the values, with its graph."""
    return as_floats(value=value, temperature=temperature)[1]
