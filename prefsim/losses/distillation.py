r"""Distillation losses: a student's class scores against those of a teacher, one value per example.

The teacher is a constant of differentiation. Softmax distillation sees no constant that is added to
a row of scores; the logit-level losses, which hold each class's score by itself, do. They sum over
the classes, so that their weight grows with K.
"""

from __future__ import annotations

import math
from typing import Any

from prefsim.checks import check_positive, check_same_shape
from prefsim.containers import DistillationLogits
from prefsim.losses.class_scores import in_dtype_of
from prefsim.losses.edge import checked
from prefsim.numerics import (
    array_namespace,
    categorical_kl,
    log_softmax,
    over_rows,
    sigmoid,
    softplus,
    stop_gradient,
    widened,
)
from prefsim.typing import ArrayT, Number

__all__ = ["binary_kl", "binary_kl_norm", "distillation_kl"]


def _scores(pair: DistillationLogits[ArrayT]) -> tuple[ArrayT, ArrayT]:
    """Return the scores of student and teacher in at least float32, the teacher's as constants."""
    check_same_shape(logits=pair.logits, teacher_logits=pair.teacher_logits)
    if not pair.logits.ndim or pair.logits.shape[-1] < 1:
        raise ValueError(
            f"logits must have trailing shape (K) with K >= 1, got {tuple(pair.logits.shape)}"
        )
    teacher: Any = stop_gradient(widened(pair.teacher_logits))
    return widened(pair.logits), teacher


def _scaled(pair: DistillationLogits[ArrayT], value: Any, temperature: Any) -> ArrayT:
    """Return values times the square of the temperature, which keeps the size of gradients."""
    return in_dtype_of(pair.logits, temperature**2 * value)


@checked
def distillation_kl(pair: DistillationLogits[ArrayT], *, temperature: Number = 4.0) -> ArrayT:
    r"""Softmax distillation, :math:`T^2\,\mathrm{KL}(p^t\|p^s)` of the softmax at temperature T.

    It is invariant to a constant added to the scores of the student or of the teacher.

    Parameters
    ----------
    pair
        Scores of student and teacher, ``(..., n, K)`` each.
    temperature
        T > 0. The factor T² keeps gradients of one size: they tend to those of half the squared
        distance of the centred scores over K.

    Returns
    -------
    Array ``(..., n)``, >= 0.

    Raises
    ------
    ValueError
        If ``temperature`` is out of range or the shapes differ.

    References
    ----------
    Hinton, Vinyals, Dean 2015, arXiv:1503.02531.

    Examples
    --------
    >>> import numpy as np
    >>> pair = DistillationLogits(np.asarray([[2.0, 0.5, -1.0]]), np.asarray([[3.0, -1.0, -0.5]]))
    >>> distillation_kl(pair).round(6)
    array([0.522417])
    """
    check_positive(arrays=True, temperature=temperature)
    student, teacher = _scores(pair)
    rows = over_rows(temperature)
    value = categorical_kl(log_softmax(teacher / rows), log_softmax(student / rows))
    return _scaled(pair, value, temperature)


@checked
def binary_kl(pair: DistillationLogits[ArrayT], *, tau: Number = 2.0) -> ArrayT:
    r"""BinaryKL, the KL divergence of a coin for each class, summed.

    .. math:: \tau^2\sum_k\mathrm{KL}\big(\mathrm{Ber}(\sigma(z^t_k/\tau))\,\|\,
        \mathrm{Ber}(\sigma(z^s_k/\tau))\big)

    Each class is held by itself, so that no constant added to the scores is lost. Its gradient
    is :math:`\tau(\sigma(z^s_k/\tau) - \sigma(z^t_k/\tau))`.

    Parameters
    ----------
    pair
        Scores of student and teacher, ``(..., n, K)`` each.
    tau
        Temperature τ > 0; as it grows the loss tends to :math:`\|z^s - z^t\|^2/8`.

    Returns
    -------
    Array ``(..., n)``, >= 0 but for rounding.

    Raises
    ------
    ValueError
        If ``tau`` is out of range or the shapes differ.

    References
    ----------
    Yang et al. 2024, "Dual-Head Knowledge Distillation", BinaryKL, arXiv:2411.08937.

    Examples
    --------
    >>> import numpy as np
    >>> pair = DistillationLogits(np.asarray([[2.0, 0.5, -1.0]]), np.asarray([[3.0, -1.0, -0.5]]))
    >>> binary_kl(pair).round(6)
    array([0.387744])
    """
    check_positive(arrays=True, tau=tau)
    student, teacher = _scores(pair)
    xp = array_namespace(student)
    rows = over_rows(tau)
    a, d = teacher / rows, (student - teacher) / rows
    near = xp.abs(stop_gradient(d)) < 1
    # softplus(a + d) - softplus(a) - σ(a) d, which cancels where d is small.
    small = xp.where(near, d, xp.zeros_like(d))
    close = xp.log1p(sigmoid(a) * xp.expm1(small)) - sigmoid(a) * small
    far = softplus(student / rows) - softplus(a) - sigmoid(a) * d
    value = xp.sum(xp.where(near, close, far), axis=-1)
    return _scaled(pair, value, tau)


@checked
def binary_kl_norm(pair: DistillationLogits[ArrayT], *, tau: Number = 2.0) -> ArrayT:
    r"""BinaryKL-Norm, :math:`\tau^2\sum_k\log\cosh\frac{z^s_k - z^t_k}{2\tau}`.

    That is :math:`\mathrm{KL}(\mathrm{Ber}(\frac12)\|\mathrm{Ber}(\sigma((z^s_k - z^t_k)/\tau)))`
    summed. Its gradient :math:`\frac\tau2\tanh\frac{z^s_k - z^t_k}{2\tau}` is bounded by τ/2.

    Parameters
    ----------
    pair
        Scores of student and teacher, ``(..., n, K)`` each; with K = 1 a single reward.
    tau
        Temperature τ > 0. As it grows the loss tends to :math:`\|z^s - z^t\|^2/8`, and over τ, as
        it falls, to :math:`\|z^s - z^t\|_1/2`.

    Returns
    -------
    Array ``(..., n)``, >= 0.

    Raises
    ------
    ValueError
        If ``tau`` is out of range or the shapes differ.

    References
    ----------
    Yang et al. 2024, "Dual-Head Knowledge Distillation", BinaryKL-Norm, arXiv:2411.08937.

    Examples
    --------
    >>> import numpy as np
    >>> pair = DistillationLogits(np.asarray([[2.0, 0.5, -1.0]]), np.asarray([[3.0, -1.0, -0.5]]))
    >>> binary_kl_norm(pair).round(6)
    array([0.429783])
    """
    check_positive(arrays=True, tau=tau)
    student, teacher = _scores(pair)
    xp = array_namespace(student)
    x = (student - teacher) / (2 * over_rows(tau))
    near = xp.abs(stop_gradient(x)) < 1
    small = xp.where(near, x, xp.zeros_like(x))
    beyond = xp.where(near, xp.ones_like(x), xp.abs(x))
    close = xp.log1p(2 * xp.sinh(small / 2) ** 2)
    far = beyond + xp.log1p(xp.exp(-2 * beyond)) - math.log(2)
    value = xp.sum(xp.where(near, close, far), axis=-1)
    return _scaled(pair, value, tau)
