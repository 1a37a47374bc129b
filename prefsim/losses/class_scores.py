"""Class scores before a loss reads them: margins against the label, and normalised scores."""

from __future__ import annotations

import math

from prefsim.checks import (
    as_float_array,
    as_index_array,
    check_label_margins,
    check_nonnegative,
    check_same_shape,
)
from prefsim.containers import ClassLogits
from prefsim.numerics import (
    array_namespace,
    host_values,
    log_softmax,
    logsumexp,
    softplus,
    widened,
)
from prefsim.typing import Array, ArrayT

__all__ = [
    "every_label",
    "in_dtype_of",
    "is_label",
    "l1_normalised",
    "label_margins",
    "log_odds_against",
    "other_margins",
    "softplus_normalised",
    "with_margin",
]


def is_label(classes: ClassLogits[ArrayT]) -> ArrayT:
    """Return the mask ``(..., n, K)`` of the label's own class."""
    xp = array_namespace(classes.logits)
    return (
        xp.arange(classes.logits.shape[-1], dtype=classes.label.dtype, device=classes.logits.device)
        == classes.label[..., None]
    )


def label_margins(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Return :math:`v_k = f_k - f_y + c_{k,y}`, ``(..., n, K)``, in at least float32.

    At the label it is exactly 0.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` with K >= 2, integer labels ``(..., n)`` in [0, K) and, if given,
        margins c >= 0 ``(..., n, K)`` that are 0 at the label. Labels and margins are checked where
        their values can be read without synchronising a device.

    Raises
    ------
    ValueError
        If shapes do not fit, K < 2, a label is out of range or no integer, or a margin is negative
        or not 0 at its label.

    Examples
    --------
    >>> import numpy as np
    >>> label_margins(ClassLogits(np.asarray([2.0, 1.0, 0.5, -1.0]), np.asarray(2)))
    array([ 1.5,  0.5,  0. , -1.5])
    """
    logits, label, margin = classes.logits, classes.label, classes.margin
    size = logits.shape[-1] if logits.ndim else 0
    if size < 2:
        raise ValueError(
            f"logits must have trailing shape (K) with K >= 2 classes, got {tuple(logits.shape)}"
        )
    if tuple(label.shape) != tuple(logits.shape[:-1]):
        raise ValueError(
            f"label must have shape {tuple(logits.shape[:-1])}, that of logits without the classes,"
            f" got {tuple(label.shape)}"
        )
    labels = host_values(label)
    if labels is not None:
        labels = as_index_array(labels, "label", size=size)
    x, xp = widened(logits), array_namespace(logits)
    v = x - xp.take_along_axis(x, xp.astype(label, xp.int64, copy=False)[..., None], axis=-1)
    if margin is None:
        return v
    check_same_shape(logits=logits, margin=margin)
    margins = host_values(margin)
    if labels is not None and margins is not None:
        check_label_margins(as_float_array(margins, "margin", graph=True), labels)
    return v + xp.astype(margin, x.dtype, copy=False)


def log_odds_against(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Return :math:`\log\sum_{k \ne y} e^{v_k}`, the log-odds against the label, ``(..., n)``.

    Without margins that is :math:`\log\frac{1 - p_y}{p_y}` of :math:`p = \mathrm{softmax}(f)`,
    accurate however sure the scores are of the label.

    Raises
    ------
    ValueError
        As :func:`label_margins`.

    Examples
    --------
    >>> import numpy as np
    >>> log_odds_against(ClassLogits(np.zeros((1, 4)), np.asarray([0]))).round(6)
    array([1.098612])
    """
    v = label_margins(classes)
    xp = array_namespace(v)
    return logsumexp(xp.where(is_label(classes), xp.full_like(v, -math.inf), v))


def other_margins(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Return :math:`v_k` of every class but the label, ``(..., n, K - 1)``, in at least float32.

    In the order of the classes; otherwise as :func:`label_margins`.

    Parameters
    ----------
    classes
        Scores, labels and margins as in :func:`label_margins`.

    Examples
    --------
    >>> import numpy as np
    >>> other_margins(ClassLogits(np.asarray([2.0, 1.0, 0.5, -1.0]), np.asarray(2)))
    array([ 1.5,  0.5, -1.5])
    """
    v = label_margins(classes)
    xp = array_namespace(v)
    label = xp.astype(classes.label, xp.int64, copy=False)[..., None]
    places = xp.arange(v.shape[-1] - 1, device=v.device)
    return xp.take_along_axis(v, places + xp.astype(places >= label, xp.int64), axis=-1)


def with_margin(classes: ClassLogits[ArrayT], margin: float) -> ClassLogits[ArrayT]:
    """Return ``classes`` with the constant margin ``margin`` >= 0 on every class but the label.

    Examples
    --------
    >>> import numpy as np
    >>> with_margin(ClassLogits(np.zeros((1, 3)), np.asarray([1])), 0.5).margin
    array([[0.5, 0. , 0.5]])
    """
    check_nonnegative(margin=margin)
    xp = array_namespace(classes.logits)
    c = xp.full_like(classes.logits, float(margin))
    return classes._replace(margin=xp.where(is_label(classes), xp.zeros_like(c), c))


def every_label(scores: ArrayT, margin: float = 0.0) -> ClassLogits[ArrayT]:
    """Return the same scores ``(..., K)`` against each label in turn, ``(..., K, K)``.

    A loss of them, ``(..., K)``, times a law of labels is the expected loss at an input.

    Parameters
    ----------
    scores
        Of the classes.
    margin
        Constant margin >= 0 on every class but the label.

    Examples
    --------
    >>> import numpy as np
    >>> every_label(np.asarray([2.0, 1.0])).label
    array([0, 1])
    """
    xp = array_namespace(scores)
    size = scores.shape[-1]
    label = xp.broadcast_to(xp.arange(size, device=scores.device), tuple(scores.shape))
    repeated = xp.broadcast_to(scores[..., None, :], (*scores.shape, size))
    return with_margin(ClassLogits(repeated, label), margin)


def in_dtype_of(logits: ArrayT, value: Array) -> ArrayT:
    """Return ``value`` in the precision of the scores."""
    return array_namespace(value).astype(value, logits.dtype, copy=False)


def softplus_normalised(logits: ArrayT) -> ArrayT:
    r"""Return positive scores of mean 1 over the last axis.

    :math:`\mathrm{softplus}(f) / \mathrm{mean}_k\,\mathrm{softplus}(f)`.

    Evaluated in log space, so that very negative scores do not vanish together. Not invariant to a
    shift of the scores.

    References
    ----------
    The released code of arXiv:2112.14869 puts the scores through this before LDR losses (and, for
    images, ALDR).

    Examples
    --------
    >>> import numpy as np
    >>> softplus_normalised(np.asarray([2.0, 1.0, 0.5, -1.0])).round(6)
    array([1.799611, 1.111161, 0.824174, 0.265053])
    """
    x = widened(logits)
    xp = array_namespace(x)
    low = x < -20.0
    inside = xp.where(low, xp.zeros_like(x), x)
    # log(log(1 + e^x)) = x - e^x / 2 + O(e^2x)
    below = xp.where(low, x, xp.full_like(x, -20.0))
    log_positive = xp.where(low, below - 0.5 * xp.exp(below), xp.log(softplus(inside)))
    return in_dtype_of(logits, x.shape[-1] * xp.exp(log_softmax(log_positive)))


def l1_normalised(logits: ArrayT) -> ArrayT:
    r"""Return :math:`f / (\|f\|_1 / K)`, scores of mean absolute value 1 over the last axis.

    Rows of zeros stay zero.

    References
    ----------
    The released code of arXiv:2112.14869 puts the scores of tabular data through this before ALDR.

    Examples
    --------
    >>> import numpy as np
    >>> l1_normalised(np.asarray([2.0, 1.0, 0.0, -1.0]))
    array([ 2.,  1.,  0., -1.])
    """
    x = widened(logits)
    xp = array_namespace(x)
    size = xp.mean(xp.abs(x), axis=-1, keepdims=True)
    return in_dtype_of(logits, x / xp.where(size > 0, size, xp.ones_like(size)))
