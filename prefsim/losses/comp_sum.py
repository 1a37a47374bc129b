r"""Comp-sum losses: a concave function of a sum over the classes that are not the label.

One value per example.

The concave function is :math:`\Phi^\tau(u) = \frac{(1 + u)^{1-\tau} - 1}{1 - \tau}`, a Box–Cox
transform of 1 + u, and :math:`\log(1 + u)` at τ = 1. Of exponentiated margins it makes one family
with the sum-exponential loss (τ = 0), cross-entropy (τ = 1), the generalised cross-entropy
(1 < τ < 2) and the mean absolute error (τ = 2); of ramps, a bounded loss that sees no more than a
margin of ρ.
"""

from __future__ import annotations

from typing import Any

from prefsim.checks import check_nonnegative, check_positive, is_array
from prefsim.containers import ClassLogits
from prefsim.losses.class_scores import in_dtype_of, is_label, label_margins, log_odds_against
from prefsim.losses.edge import checked
from prefsim.numerics import array_namespace, bounded_exp, like, over_rows, softplus
from prefsim.typing import ArrayT, Number

__all__ = ["comp_sum", "comp_sum_link", "ramp_comp_sum"]


def comp_sum_link(log1p_total: ArrayT, *, tau: Number) -> ArrayT:
    r"""Return :math:`\Phi^\tau(u)` of a sum u >= 0 from ``log1p_total`` = log(1 + u).

    :math:`\Phi^\tau` is increasing and concave, 0 at 0, and falls as τ grows; its slope is
    :math:`(1 + u)^{-\tau}`.

    Parameters
    ----------
    log1p_total
        log(1 + u) >= 0, any shape.
    tau
        τ >= 0, a number or an array that broadcasts.

    Returns
    -------
    Array of the shape of both. For τ < 1 it is continued by its tangent where it would overflow.

    References
    ----------
    Mao, Mohri, Zhong 2023, the functions of the comp-sum family, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> [round(float(comp_sum_link(np.log(np.asarray(3.0)), tau=t)), 6) for t in (0.0, 1.0, 2.0)]
    [2.0, 1.098612, 0.666667]
    """
    check_nonnegative(arrays=True, tau=tau)
    xp = array_namespace(log1p_total)
    power: Any = 1 - (like(tau, log1p_total) if is_array(tau) else tau)
    if not is_array(power) and power == 0:
        return log1p_total
    exponent = power * log1p_total
    large = exponent > 1
    # Each branch sees only arguments that it is accurate for.
    small = xp.where(large, xp.zeros_like(exponent), exponent)
    beyond = xp.where(large, exponent, xp.ones_like(exponent))
    raised = xp.where(large, bounded_exp(beyond) - 1, xp.expm1(small))
    if not is_array(power):
        return raised / power
    logarithm = power == 0
    safe = xp.where(logarithm, xp.ones_like(power), power)
    return xp.where(logarithm, log1p_total, raised / safe)


@checked
def comp_sum(classes: ClassLogits[ArrayT], *, tau: Number = 1.0) -> ArrayT:
    r"""Comp-sum loss :math:`\frac{p_y^{\tau - 1} - 1}{1 - \tau}` with p = softmax(f), per example.

    At τ = 0 the sum-exponential loss :math:`1/p_y - 1`, at 1 cross-entropy, in between 1 and 2 the
    generalised cross-entropy :math:`(1 - p_y^q)/q` with q = τ − 1, at 2 the mean absolute error.
    Its gradient in the scores is that of cross-entropy times :math:`p_y^{\tau-1}`: a larger τ
    listens less to examples whose label looks wrong.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` and labels ``(..., n)``; margins, if any, are added to the other
        classes.
    tau
        τ >= 0, a number or an array that broadcasts against the examples.

    Returns
    -------
    Array ``(..., n)``, >= 0; below 1/(τ − 1) for τ > 1. For τ < 1 it grows exponentially with the
    margin, and goes on as a line where it would overflow.

    Raises
    ------
    ValueError
        If ``tau`` is out of range, and as :func:`prefsim.losses.class_scores.label_margins`.

    References
    ----------
    Mao, Mohri, Zhong 2023, the comp-sum family, arXiv:2304.07288; at 1 < τ < 2 Zhang, Sabuncu 2018,
    arXiv:1805.07836.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[1.0, 0.0, -1.0, 0.5]]), np.asarray([0]))
    >>> [round(float(comp_sum(classes, tau=t)[0]), 6) for t in (0.0, 1.0, 2.0)]
    [1.109745, 0.746567, 0.526009]
    """
    check_nonnegative(arrays=True, tau=tau)
    value = comp_sum_link(softplus(log_odds_against(classes)), tau=tau)
    return in_dtype_of(classes.logits, value)


@checked
def ramp_comp_sum(classes: ClassLogits[ArrayT], *, tau: Number = 1.0, rho: Number = 1.0) -> ArrayT:
    r"""Comp-sum loss of ramps, :math:`\Phi^\tau(\sum_{k\ne y}\min\{1, \max\{0, 1 + v_k/\rho\}\})`.

    The ramp, or ρ-margin loss, of the label's lead :math:`-v_k` over a class is 0 from a lead of ρ
    on, and 1 where it has none. The sum bounds the zero-one loss from above up to the factor
    :math:`\Phi^\tau(1)`, and so does its maximum over perturbations of the input.

    Parameters
    ----------
    classes
        Scores ``(..., n, K)`` and labels ``(..., n)``; margins, if any, are added to the other
        classes.
    tau
        τ >= 0 of :func:`comp_sum_link`, a number or an array that broadcasts against the examples.
    rho
        Lead ρ > 0 that a label needs, in the units of the scores.

    Returns
    -------
    Array ``(..., n)`` in :math:`[0, \Phi^\tau(K - 1)]`.

    Raises
    ------
    ValueError
        If ``tau`` or ``rho`` is out of range, and as
        :func:`prefsim.losses.class_scores.label_margins`.

    References
    ----------
    Mao, Mohri, Zhong 2023, adversarial comp-sum losses, arXiv:2304.07288.

    Examples
    --------
    >>> import numpy as np
    >>> classes = ClassLogits(np.asarray([[0.5, 0.2, -0.7]]), np.asarray([0]))
    >>> [round(float(ramp_comp_sum(classes, tau=t)[0]), 6) for t in (0.0, 1.0, 2.0)]
    [0.7, 0.530628, 0.411765]
    """
    check_nonnegative(arrays=True, tau=tau)
    check_positive(arrays=True, rho=rho)
    v = label_margins(classes)
    xp = array_namespace(v)
    ramps = xp.clip(1 + v / over_rows(like(rho, v) if is_array(rho) else rho), 0.0, 1.0)
    total = xp.sum(xp.where(is_label(classes), xp.zeros_like(ramps), ramps), axis=-1)
    return in_dtype_of(classes.logits, comp_sum_link(xp.log1p(total), tau=tau))
