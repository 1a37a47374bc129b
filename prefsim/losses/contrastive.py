r"""Contrastive losses of an anchor on its similarities, one value per anchor.

A row holds the similarities s_k of one anchor to N candidates, and its label is the place of the
positive; the others are negatives. Similarities are usually dot products of unit vectors. A margin,
if there is one, is granted to the negatives. :mod:`prefsim.losses.contrastive_blocks` has the same
losses on embeddings, without the matrix of similarities.
"""

from __future__ import annotations

import math

from prefsim.checks import check_interval, check_nonnegative, check_positive
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import in_dtype_of, is_label, label_margins, other_margins
from prefsim.losses.classification import cross_entropy
from prefsim.losses.constrained_dro import constrained_kl_dro
from prefsim.losses.dro import kl_dro, kl_dro_dual
from prefsim.losses.edge import checked
from prefsim.numerics import array_namespace, over_rows
from prefsim.typing import Array, ArrayT, Number

__all__ = ["infonce", "negative_weights", "rgcl", "rgcl_temperature", "simple_contrastive"]


def _kept(classes: ClassLogits[ArrayT], share: float) -> ArrayT:
    """Return the mask ``(..., n, N)`` of the label and of the negatives that are kept."""
    others = other_margins(classes)
    xp = array_namespace(others)
    # A product such as .7 of 10 is 7 and no more, though rounding says 7.000000000000001.
    count = max(1, math.ceil(share * others.shape[-1] - 1e-9))
    threshold = xp.sort(others, axis=-1, descending=True)[..., count - 1 : count]
    # Asked as not below, so that a NaN is kept and seen in the value.
    return ~(label_margins(classes) < threshold) | is_label(classes)


@checked
def infonce(
    classes: ClassLogits[ArrayT], *, temperature: Number = 0.1, share: float = 1.0
) -> ArrayT:
    r"""InfoNCE :math:`-\log\frac{e^{s_i/\tau}}{\sum_k e^{s_k/\tau}}`, one value per anchor.

    Cross-entropy of the similarities over τ, the positive counted in the sum. The gradient weighs
    the negatives by a Boltzmann law: small τ sees the most similar ones alone, large τ all alike.

    Parameters
    ----------
    classes
        Similarities ``(..., n, N)``, places of the positives ``(..., n)`` and optional margins.
    temperature
        τ > 0, in units of the similarities.
    share
        Share of the negatives that is kept, the most similar ones, in (0, 1]; rounded up, with all
        that tie with the last. Below 1 it is the hard contrastive loss.

    Returns
    -------
    Array ``(..., n)``, nats, >= 0. Which negatives are kept is not differentiated.

    Raises
    ------
    ValueError
        If an option is out of range, and as :func:`label_margins`.

    References
    ----------
    van den Oord, Li, Vinyals 2018, eq. 4, arXiv:1807.03748. Hard negatives: Wang, Liu 2020,
    "Understanding the behaviour of contrastive loss", the hard contrastive loss, arXiv:2012.09740.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.8, 0.5, 0.1, -0.3]]), np.asarray([0]))
    >>> infonce(row, temperature=0.2).round(6), infonce(row, temperature=0.2, share=0.5).round(6)
    (array([0.229057]), array([0.225802]))
    """
    check_positive(arrays=True, temperature=temperature)
    check_interval(share=share, low=0.0, high=1.0, closed="right")
    tempered = label_margins(classes) / over_rows(temperature)
    xp = array_namespace(tempered)
    if share < 1:
        tempered = xp.where(_kept(classes, share), tempered, xp.full_like(tempered, -math.inf))
    # A temperature may have axes before those of the anchors.
    label = xp.broadcast_to(classes.label, tuple(tempered.shape[:-1]))
    return in_dtype_of(classes.logits, cross_entropy(ClassLogits(tempered, label)))


@checked
def simple_contrastive(
    classes: ClassLogits[ArrayT], *, weight: Number | None = None, share: float = 1.0
) -> ArrayT:
    r"""Linear contrastive loss :math:`-s_i + w\sum_{k\ne i} s_k`, one value per anchor.

    It penalises all negatives alike: up to a factor the limit of InfoNCE at large temperatures.

    Parameters
    ----------
    classes
        Similarities ``(..., n, N)``, places of the positives ``(..., n)`` and optional margins.
    weight
        w >= 0 of each negative; None is one over the number of those kept, at which alone a
        constant added to the row changes nothing.
    share
        Share of the negatives that is kept, as for :func:`infonce`, in (0, 1].

    Returns
    -------
    Array ``(..., n)`` in units of the similarities. Which negatives are kept is not differentiated.

    Raises
    ------
    ValueError
        If an option is out of range, and as :func:`label_margins`.

    References
    ----------
    Wang, Liu 2020, the simple and the hard simple contrastive loss, arXiv:2012.09740.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.8, 0.5, 0.1, -0.3]]), np.asarray([0]))
    >>> simple_contrastive(row).round(6), simple_contrastive(row, weight=0.5).round(6)
    (array([-0.7]), array([-0.65]))
    """
    check_interval(share=share, low=0.0, high=1.0, closed="right")
    v = label_margins(classes)
    xp = array_namespace(v)
    negative = _kept(classes, share) & ~is_label(classes)
    count = xp.sum(xp.astype(negative, v.dtype), axis=-1)
    # The positive's own similarity: the weights of a mean sum to one, and it cancels.
    total = xp.sum(xp.where(negative, v, xp.zeros_like(v)), axis=-1)
    if weight is None:
        return in_dtype_of(classes.logits, total / count)
    check_nonnegative(arrays=True, weight=weight)
    positive = xp.astype(classes.logits, v.dtype, copy=False)
    own = xp.sum(xp.where(is_label(classes), positive, xp.zeros_like(v)), axis=-1)
    return in_dtype_of(classes.logits, weight * total + (weight * count - 1) * own)


@checked
def rgcl(
    classes: ClassLogits[ArrayT],
    *,
    temperature: Number | None = None,
    radius: Number = 0.3,
    lowest: float = 0.05,
    highest: float = math.inf,
) -> ArrayT:
    r"""Robust global contrastive loss, one value per anchor.

    .. math:: \min_{\tau} \; \tau\log\tfrac1m\sum_{k\ne i} e^{(s_k - s_i)/\tau} + \tau\rho

    The worst mean of the m negatives, less the positive, within a KL ball of radius ρ. Every anchor
    has its own temperature.

    Parameters
    ----------
    classes
        Similarities ``(..., n, N)``, places of the positives ``(..., n)`` and optional margins.
    temperature
        τ > 0 of each anchor, a number or ``(..., n)``; None is the minimiser between the two ends,
        as :func:`rgcl_temperature`.
    radius
        ρ >= 0 of each anchor, nats; 0 with a given temperature is the global contrastive loss.
    lowest, highest
        Ends of the interval of the minimiser, the upper of which may be inf.

    Returns
    -------
    Array ``(..., n)`` in units of the similarities. The minimising temperature is a constant of
    differentiation, which is the exact first derivative.

    Raises
    ------
    ValueError
        If an option is out of range, and as :func:`label_margins`.

    References
    ----------
    Qiu, Hu, Yuan, Zhou, Zhang, Yang 2023, the robust global contrastive loss, arXiv:2305.11965.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.0, -0.3, -0.7, -1.1, -1.6]]), np.asarray([0]))
    >>> rgcl(row).round(6), rgcl(row, temperature=0.1).round(6)
    (array([-0.570972]), array([-0.406781]))
    """
    h = other_margins(classes)
    if temperature is None:
        found = constrained_kl_dro(h, radius=radius, lowest=lowest, highest=highest)
        # What the least temperature costs is no part of the worst mean.
        return in_dtype_of(classes.logits, found.value + lowest * radius)
    check_positive(arrays=True, temperature=temperature)
    check_nonnegative(arrays=True, radius=radius)
    return in_dtype_of(classes.logits, kl_dro(h, lambda_=temperature) + temperature * radius)


def rgcl_temperature(
    classes: ClassLogits[ArrayT],
    *,
    radius: Number = 0.3,
    lowest: float = 0.05,
    highest: float = math.inf,
) -> ArrayT:
    r"""Return the temperature of each anchor under :func:`rgcl`, ``(..., n)``.

    Where :math:`\mathrm{KL}(p_\tau\|1/m) = \rho`, or an end of the interval. A constant of
    differentiation.

    Parameters
    ----------
    classes, radius, lowest, highest
        As in :func:`rgcl`.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.0, -0.3, -0.7, -1.1, -1.6]]), np.asarray([0]))
    >>> rgcl_temperature(row).round(6), rgcl_temperature(row, radius=1.5).round(6)
    (array([0.535826]), array([0.05]))
    """
    found = constrained_kl_dro(
        other_margins(classes), radius=radius, lowest=lowest, highest=highest
    )
    return in_dtype_of(classes.logits, found.lambda_)


def negative_weights(classes: ClassLogits[ArrayT], *, temperature: float | Array) -> ArrayT:
    r"""Return the share of each negative in the penalty, ``(..., n, N - 1)``.

    :math:`r_j = e^{s_j/\tau} / \sum_{k\ne i} e^{s_k/\tau}`, in the order of the candidates without
    the positive: the gradient of :func:`infonce` in s_j over minus that in the positive's.

    Parameters
    ----------
    classes
        Similarities ``(..., n, N)``, places of the positives ``(..., n)`` and optional margins.
    temperature
        τ in [0, ∞], a number or ``(..., n)``.

    References
    ----------
    Wang, Liu 2020, the relative penalty, arXiv:2012.09740.

    Examples
    --------
    >>> import numpy as np
    >>> row = ClassLogits(np.asarray([[0.8, 0.5, 0.1, -0.3]]), np.asarray([0]))
    >>> negative_weights(row, temperature=0.2).round(6)
    array([[0.866813, 0.11731 , 0.015876]])
    """
    weights = kl_dro_dual(other_margins(classes), lambda_=temperature).weights
    return in_dtype_of(classes.logits, weights)
