r"""Losses on class scores that hold for every small change of the input.

A *smooth adversarial* loss adds to a loss at the input how far the leads of the label can move
nearby. For a linear scorer Wx and the ball :math:`\|x' - x\|_2\le\gamma` that distance, and whether
some change of the input turns the decision, are known in closed form.
"""

from __future__ import annotations

import math

from prefsim.checks import (
    as_floats,
    as_index_array,
    as_signed,
    check_broadcast,
    check_nonnegative,
    check_positive,
    check_shape,
)
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import label_margins
from prefsim.losses.comp_sum import comp_sum
from prefsim.numerics import array_namespace, host_values
from prefsim.typing import Array, ArrayT, Number

__all__ = [
    "linear_local_variation",
    "linear_robust_lead",
    "local_variation",
    "smooth_adversarial_comp_sum",
]


def local_variation(classes: ClassLogits[ArrayT], nearby: ArrayT) -> ArrayT:
    r"""Return :math:`\max_{x'}\|\bar\Delta(x', y) - \bar\Delta(x, y)\|_2` over inputs nearby.

    :math:`\bar\Delta(x, y) = (f_y - f_k)_{k\ne y}` are the leads of the label.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` at the inputs and labels ``(..., n)``.
    nearby
        Scores ``(..., n, P, K)`` at P perturbed inputs of each.

    Returns
    -------
    Array ``(..., n)`` in units of the scores.

    Raises
    ------
    ValueError
        If the shapes do not fit, and as :func:`prefsim.losses.class_scores.label_margins`.

    References
    ----------
    Mao, Mohri, Zhong 2023, smooth adversarial comp-sum losses, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[1.0, 0.0]]), np.asarray([0]))
    >>> local_variation(classes, np.asarray([[[1.0, 0.0], [0.5, 0.5]]]))
    array([1.])
    """
    here = label_margins(classes)
    (nearby,) = as_floats(nearby=nearby)
    check_shape(nearby, "nearby", (*here.shape[:-1], None, here.shape[-1]))
    xp = array_namespace(nearby)
    label = xp.broadcast_to(classes.label[..., None], tuple(nearby.shape[:-1]))
    there = label_margins(ClassLogits(nearby, label))
    return xp.max(xp.linalg.vector_norm(there - here[..., None, :], axis=-1), axis=-1)


def _scorer(weights: ArrayT, radius: Number) -> ArrayT:
    """Return the weights of a linear scorer ``(..., K, d)`` in floating point, or raise."""
    (weights,) = as_floats(weights=weights)
    check_shape(weights, "weights", (None, None))
    check_nonnegative(radius=radius)
    return weights


def _differences(weights: ArrayT) -> ArrayT:
    """Return ``w_y - w_k``, ``(..., K, K, d)`` by y and k."""
    return weights[..., :, None, :] - weights[..., None, :, :]


def _at_labels(table: ArrayT, label: Array, n_classes: int) -> ArrayT:
    """Return the entries ``(..., n, ...)`` of a table ``(K, ...)`` at labels ``(..., n)``."""
    known = host_values(label)
    if known is not None:
        as_index_array(known, "label", size=n_classes)
    xp = array_namespace(table)
    flat = xp.reshape(as_signed(label, "label"), (-1,))
    taken = xp.take(table, flat, axis=0)
    return xp.reshape(taken, (*label.shape, *table.shape[1:]))


def linear_local_variation(weights: ArrayT, label: Array, *, radius: Number) -> ArrayT:
    r"""Return the local variation of a linear scorer over a ball, :math:`\gamma\|A_y\|_{op}`.

    :math:`A_y` has the rows :math:`w_y - w_k`. It does not depend on the input.

    Parameters
    ----------
    weights
        W, ``(K, d)``.
    label
        Labels ``(..., n)``.
    radius
        γ >= 0, of the Euclidean ball.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If shapes do not fit, or the radius is negative.

    References
    ----------
    :func:`local_variation` over the ball; Mao, Mohri, Zhong 2023, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> weights = np.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> linear_local_variation(weights, np.asarray([0]), radius=0.1).round(6)
    array([0.230278])
    """
    weights = _scorer(weights, radius)
    xp = array_namespace(weights)
    # The row of zeros at y itself changes no singular value.
    norms = xp.linalg.svdvals(_differences(weights))[..., 0]
    return radius * _at_labels(norms, label, weights.shape[-2])


def linear_robust_lead(
    weights: ArrayT, inputs: Array, label: Array, *, radius: Number, bias: Array | None = None
) -> ArrayT:
    r"""Return the least lead of the label over another class in a ball, of a linear scorer.

    That is :math:`\min_{k\ne y} [(w_y - w_k)\cdot x + b_y - b_k - \gamma\|w_y - w_k\|]`. Where
    it is not positive some input of the ball is classified wrongly, a tie counted as an error.

    Parameters
    ----------
    weights
        W, ``(K, d)``.
    inputs
        x, ``(..., n, d)``.
    label
        Labels ``(..., n)``.
    radius
        γ >= 0, of the Euclidean ball; 0 for the inputs themselves.
    bias
        b, ``(K,)``; none unless given.

    Returns
    -------
    Array ``(..., n)`` in units of the scores.

    Raises
    ------
    ValueError
        If shapes do not fit, or the radius is negative.

    References
    ----------
    The adversarial zero-one loss of Mao, Mohri, Zhong 2023, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> inputs, label = np.asarray([[1.0, 0.0], [0.1, 0.0]]), np.asarray([0, 0])
    >>> linear_robust_lead(np.asarray([[1.0, 0.0], [-1.0, 0.0]]), inputs, label, radius=0.25)
    array([ 1.5, -0.3])
    """
    weights = _scorer(weights, radius)
    (inputs,) = as_floats(inputs=inputs)
    check_shape(inputs, "inputs", (None, weights.shape[-1]))
    check_broadcast(inputs=inputs[..., 0], label=label)
    xp = array_namespace(weights, inputs)
    rows = _differences(weights)
    leads = xp.sum(_at_labels(rows, label, rows.shape[0]) * inputs[..., None, :], axis=-1)
    if bias is not None:
        offsets = as_floats(bias=bias, weights=weights)[0]
        check_shape(offsets, "bias", (rows.shape[0],))
        leads = leads + _at_labels(offsets[:, None] - offsets[None, :], label, rows.shape[0])
    lost = radius * _at_labels(xp.linalg.vector_norm(rows, axis=-1), label, rows.shape[0])
    own = xp.arange(rows.shape[0], dtype=label.dtype) == label[..., None]
    return xp.min(xp.where(own, xp.full_like(leads, math.inf), leads - lost), axis=-1)


def smooth_adversarial_comp_sum(
    classes: ClassLogits[ArrayT],
    variation: ArrayT,
    *,
    tau: Number = 1.0,
    rho: float = 1.0,
    nu: float | None = None,
) -> ArrayT:
    r"""Smooth adversarial comp-sum loss of each example, a loss at the input plus a variation.

    .. math:: \Phi^\tau\Big(\sum_{k\ne y} e^{-(f_y - f_k)/\rho}\Big)
        + \nu\max_{x'}\|\bar\Delta(x', y) - \bar\Delta(x, y)\|_2

    From :math:`\nu = \sqrt{K - 1}/\rho` on it is at least the largest
    :func:`prefsim.losses.ramp_comp_sum` nearby, and so at least :math:`\Phi^\tau(1)` times the
    adversarial zero-one loss.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` at the inputs and labels ``(..., n)``.
    variation
        :func:`local_variation` or :func:`linear_local_variation`, ``(..., n)``.
    tau
        τ >= 0 of the comp-sum loss.
    rho
        Lead ρ > 0 that a label needs, in units of the scores.
    nu
        Weight ν >= 0 of the variation; :math:`\sqrt{K - 1}/\rho` unless given.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If an option is out of range or shapes do not fit.

    References
    ----------
    Mao, Mohri, Zhong 2023, smooth adversarial comp-sum losses, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[0.5, 0.2, -0.7]]), np.asarray([0]))
    >>> smooth_adversarial_comp_sum(classes, np.asarray([0.2302775638])).round(6)
    array([1.039597])
    """
    check_positive(rho=rho)
    weight = math.sqrt(classes.logits.shape[-1] - 1) / rho if nu is None else nu
    check_nonnegative(nu=weight)
    scaled = classes._replace(logits=classes.logits / rho)
    value = comp_sum(scaled, tau=tau)
    (variation,) = as_floats(variation=variation)
    check_broadcast(variation=variation, label=classes.label)
    return value + weight * variation
