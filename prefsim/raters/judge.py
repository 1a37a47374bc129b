"""A language model as judge.

It names option A or B, and may favour the option that it reads first.
"""

from __future__ import annotations

from typing import Any

from prefsim.backend import on_backend
from prefsim.checks import (
    as_float_array,
    as_floats,
    check_choice,
    check_finite,
    check_number,
    check_positive,
    check_same_shape,
    check_shape,
)
from prefsim.numerics import array_namespace, sigmoid, to_numpy
from prefsim.typing import Array, ArrayT

AVERAGES = ("prob", "logit")

__all__ = ["AVERAGES", "both_orders", "judge_logits", "judged_preference", "order_free_margin"]


def judge_logits(option_logits: ArrayT) -> ArrayT:
    """Return the log-odds that the judge names the first of two options.

    Parameters
    ----------
    option_logits
        ``(..., 2)``: next-token logits of the two option tokens, the first option's first. Other
        tokens are left out: the two are normalised among themselves.

    Returns
    -------
    Array ``(...,)`` in nats.

    Raises
    ------
    ValueError
        If the last axis is not 2 long, or a logit is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> judge_logits(np.asarray([[2.0, 0.5]]))
    array([1.5])
    """
    (option_logits,) = as_floats(nan=True, option_logits=option_logits)
    check_shape(option_logits, "option_logits", (2,))
    check_finite(to_numpy(option_logits), "option_logits")
    return option_logits[..., 0] - option_logits[..., 1]


def both_orders(shown: ArrayT, swapped: Array, *, average: str = "prob") -> ArrayT:
    r"""Return the preference P(y₁ ≻ y₂) of a judge that was asked in both orders.

    .. math:: \tfrac12\,\big(\sigma(z_{12}) + 1 - \sigma(z_{21})\big)\ \text{(prob)},\qquad
              \sigma\big(\tfrac12(z_{12} - z_{21})\big)\ \text{(logit)}

    A constant that the judge adds to the log-odds of whatever stands first cancels in the mean of
    log-odds; the mean of probabilities it draws towards ½.

    Parameters
    ----------
    shown, swapped
        ``(...,)``: log-odds of the option in first place, with y₁ first and with y₂ first.
    average
        ``"prob"``, the usual practice, or ``"logit"``.

    Returns
    -------
    Array ``(...,)`` of probabilities; swapping the two responses gives one minus it.

    Raises
    ------
    ValueError
        If ``average`` is unknown, shapes differ, or a log-odds is NaN or infinite.

    References
    ----------
    Zhai et al. 2024, "Online Self-Preferring Language Models", arXiv:2405.14103 (the self-judge;
    the averages are usual practice).

    Examples
    --------
    >>> import numpy as np
    >>> gap, bias = 0.8, 1.5
    >>> [
    ...     both_orders(np.asarray(gap + bias), np.asarray(bias - gap), average=a).round(5)
    ...     for a in ("prob", "logit")
    ... ]
    [np.float64(0.62034), np.float64(0.68997)]
    """
    check_choice(AVERAGES, average=average)
    shown, swapped = as_floats(nan=True, shown=shown, swapped=swapped)
    check_same_shape(shown=shown, swapped=swapped)
    for name, value in {"shown": shown, "swapped": swapped}.items():
        check_finite(to_numpy(value), name)
    if average == "logit":
        return sigmoid(0.5 * (shown - swapped))
    return 0.5 * (sigmoid(shown) + sigmoid(-swapped))


def order_free_margin(shown: ArrayT, swapped: Array) -> ArrayT:
    r"""Return by how much a judge that was asked in both orders is for the first response.

    .. math:: p_{AB}(A) + p_{BA}(A) - p_{AB}(B) - p_{BA}(B)

    A constant that the judge adds to the probability of whatever stands first cancels. The judge is
    for the first response where the margin is positive, and for the second where it is not.

    Parameters
    ----------
    shown
        ``(..., 2)``: probabilities that the judge names the first response, and the second, when
        the first stands first. They need not sum to 1: next tokens may be others.
    swapped
        ``(..., 2)``: the same of the two responses, in the same order, when the second stands
        first.

    Returns
    -------
    Array ``(...,)`` in [−2, 2] where both are probabilities.

    Raises
    ------
    ValueError
        If the last axis is not 2 long, or shapes differ.

    References
    ----------
    Li et al. 2024, arXiv:2402.11296, as in the authors' code.

    Examples
    --------
    >>> import numpy as np
    >>> bias = 0.25  # of whatever stands first
    >>> order_free_margin(np.asarray([0.25 + bias, 0.75]), np.asarray([0.25, 0.75 + bias]))
    np.float64(-1.0)
    """
    shown, swapped = as_floats(shown=shown, swapped=swapped)
    check_shape(shown, "shown", (2,))
    check_same_shape(shown=shown, swapped=swapped)
    both = shown + swapped
    return both[..., 0] - both[..., 1]


def judged_preference(
    reward: Any, *, temperature: float = 1.0, position_bias: float = 0.0, average: str = "prob"
) -> Array:
    r"""Return the preferences of a judge of rewards who is asked in both orders.

    Its log-odds of the option in first place are :math:`c (r_i - r_j) + b`.

    Parameters
    ----------
    reward
        ``(..., n)`` in log-odds.
    temperature
        c > 0; above 1 the judge is over-confident, which acts like a smaller β.
    position_bias
        b, in log-odds.
    average
        See :func:`both_orders`.

    Returns
    -------
    Array ``(..., n, n)`` with ``P + Pᵀ = 1``.

    Raises
    ------
    ValueError
        If an option is out of range or a reward is not finite.
    """
    check_positive(temperature=temperature)
    check_number(position_bias=position_bias)
    table = as_float_array(reward, "reward", min_ndim=1, graph=True)
    scores = temperature * on_backend(reward, table, "reward")
    shown = scores[..., :, None] - scores[..., None, :] + position_bias
    return both_orders(shown, array_namespace(shown).matrix_transpose(shown), average=average)
