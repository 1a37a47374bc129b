r"""Label-distributionally-robust losses on class scores, cross-entropy among them.

One value per example.

Every loss is a worst case over the margins :math:`v_k = f_k - f_y + c_{k,y}` of the classes k
against the label y, where the label's own margin is 0. They are invariant to a constant added to
the scores. The K classes may be labels, tokens, or candidate responses.
"""

from __future__ import annotations

import math

from prefsim.checks import check_interval
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import in_dtype_of, label_margins, log_odds_against
from prefsim.losses.dro import capped_kl_dro, capped_kl_dro_weights, kl_dro
from prefsim.losses.edge import checked
from prefsim.numerics import sigmoid, softplus
from prefsim.typing import ArrayT, Number

__all__ = [
    "crammer_singer",
    "cross_entropy",
    "ldr_k_kl",
    "ldr_kl",
    "ldr_top_k",
    "ldr_weights",
    "linear_symmetric",
    "mae",
]


@checked
def cross_entropy(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Cross-entropy :math:`-\log\mathrm{softmax}(f)_y = \log\sum_k e^{v_k}` of each example.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` and labels ``(..., n)``; margins, if any, are added to the other
        classes.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        As :func:`label_margins`.

    References
    ----------
    It is :func:`ldr_kl` at λ = 1 plus log K; Zhu, Ying, Yang 2023, arXiv:2112.14869.

    Examples
    --------
    >>> import numpy as np
    >>> cross_entropy(ClassLogits(np.asarray([[2.0, 1.0, 0.5, -1.0]]), np.asarray([0]))).round(6)
    array([0.495182])
    """
    return in_dtype_of(classes.logits, softplus(log_odds_against(classes)))


@checked
def mae(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Mean absolute error of the class probabilities, :math:`1 - \mathrm{softmax}(f)_y`.

    A bounded symmetric loss: over all labels it sums to K − 1, whatever the scores.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` and labels ``(..., n)``; margins, if any, are added to the other
        classes.

    Returns
    -------
    Array ``(..., n)`` in [0, 1].

    Raises
    ------
    ValueError
        As :func:`label_margins`.

    References
    ----------
    Ghosh, Kumar, Sastry 2017, "Robust loss functions under label noise for deep neural networks",
    arXiv:1712.09482.

    Examples
    --------
    >>> import numpy as np
    >>> mae(ClassLogits(np.zeros((1, 4)), np.asarray([0])))
    array([0.75])
    """
    return in_dtype_of(classes.logits, sigmoid(log_odds_against(classes)))


@checked
def ldr_kl(classes: ClassLogits[ArrayT], *, lambda_: Number = 1.0) -> ArrayT:
    r"""LDR-KL loss :math:`\lambda\log\frac1K\sum_k e^{v_k/\lambda}`, one value per example.

    Cross-entropy (minus log K) at temperature λ: the Crammer–Singer SVM at 0, a linear symmetric
    loss at ∞.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.
    lambda_
        Weight of the KL regulariser, in [0, inf]; 0 and inf are exact.

    Returns
    -------
    Array ``(..., n)`` in the units of the scores; negative where the label leads.

    Raises
    ------
    ValueError
        If ``lambda_`` is out of range, and as :func:`label_margins`.

    References
    ----------
    Zhu, Ying, Yang 2023, the LDR-KL loss, arXiv:2112.14869.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[2.0, 1.0, 0.5, -1.0]]), np.asarray([2]))
    >>> [round(float(ldr_kl(classes, lambda_=l)[0]), 6) for l in (0, 1.0, np.inf)]
    [1.5, 0.608888, 0.125]
    """
    check_interval(arrays=True, lambda_=lambda_, low=0.0, high=math.inf, closed="both")
    return in_dtype_of(classes.logits, kl_dro(label_margins(classes), lambda_=lambda_))


@checked
def crammer_singer(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Crammer–Singer multi-class SVM loss :math:`\max_k v_k`, one value per example.

    It is :func:`ldr_kl` at λ = 0.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins, without which it is a
        perceptron loss.

    Returns
    -------
    Array ``(..., n)``, >= 0.

    Raises
    ------
    ValueError
        As :func:`label_margins`.

    References
    ----------
    Crammer, Singer 2001, "On the algorithmic implementation of multiclass kernel-based vector
    machines", JMLR 2.
    """
    return ldr_kl(classes, lambda_=0.0)


@checked
def linear_symmetric(classes: ClassLogits[ArrayT]) -> ArrayT:
    r"""Linear symmetric loss :math:`\frac1K\sum_k v_k`, one value per example.

    It is :func:`ldr_kl` at λ = ∞.

    Its sum over all labels does not depend on the scores, hence uniform label noise does not move
    its minimiser. It is unbounded below: bound or normalise the scores
    (:func:`softplus_normalised`).

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        As :func:`label_margins`.

    References
    ----------
    Zhu, Ying, Yang 2023, the limit λ → ∞ of LDR-KL, arXiv:2112.14869.
    """
    return ldr_kl(classes, lambda_=math.inf)


@checked
def ldr_top_k(classes: ClassLogits[ArrayT], *, k: int = 2) -> ArrayT:
    r"""Top-k SVM loss, the mean of the k largest :math:`v_j`, one value per example.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.
    k
        Integer in [1, K]: 1 is :func:`crammer_singer`, K :func:`linear_symmetric`.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``k`` is out of range, and as :func:`label_margins`.

    References
    ----------
    Zhu, Ying, Yang 2023, LDR on the set {p <= 1/k} without regularisation, arXiv:2112.14869.
    """
    return ldr_k_kl(classes, k=k, lambda_=0.0)


@checked
def ldr_k_kl(classes: ClassLogits[ArrayT], *, k: int = 2, lambda_: float = 1.0) -> ArrayT:
    r"""LDR-k-KL loss, one value per example.

    :math:`\max_{p\in\Delta, p\le 1/k}\langle p, v\rangle - \lambda\,\mathrm{KL}(p\|1/K)`.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.
    k
        Integer in [1, K]: no class gets more than 1/k of the weight.
    lambda_
        Weight of the KL regulariser, in [0, inf]; 0 and inf are exact.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``k`` or ``lambda_`` is out of range, and as :func:`label_margins`.

    References
    ----------
    Zhu, Ying, Yang 2023, LDR-k-KL, arXiv:2112.14869.
    """
    return in_dtype_of(classes.logits, capped_kl_dro(label_margins(classes), k=k, lambda_=lambda_))


def ldr_weights(classes: ClassLogits[ArrayT], *, k: int = 1, lambda_: float = 1.0) -> ArrayT:
    r"""Return the worst distribution over classes of :func:`ldr_k_kl`, ``(..., n, K)``.

    With ``k=1`` that of :func:`ldr_kl`.

    The gradient of the loss in the scores is this distribution minus one at the label.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)``, labels ``(..., n)`` and optional margins.
    k, lambda_
        As in :func:`ldr_k_kl`.

    Examples
    --------
    >>> import numpy as np
    >>> ldr_weights(ClassLogits(np.asarray([[1.0, 0.0]]), np.asarray([0]))).round(6)
    array([[0.731059, 0.268941]])
    """
    return in_dtype_of(
        classes.logits, capped_kl_dro_weights(label_margins(classes), k=k, lambda_=lambda_)
    )
