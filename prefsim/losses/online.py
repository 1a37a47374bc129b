r"""Regret of what a learner plays against sequences of losses, and its soft maximum as a loss.

A sequence has a loss for every action, or every coordinate, at each of T rounds; the decision of a
round is made before its losses are seen. Nothing here needs to know which decision was right: the
regret-loss trains a learner without labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from prefsim.checks import (
    as_floats,
    check_broadcast,
    check_choice,
    check_nonnegative,
    check_positive,
    check_shape,
)
from prefsim.numerics import array_namespace, log_softmax, softmax
from prefsim.typing import Array, ArrayT

COMPARATORS = ("simplex", "ball")
GROWTHS = ("positive_square", "positive", "square")
WEIGHTS = ("exp", "power")

__all__ = ["as_rounds", "comparator_loss", "regret_loss", "regret_path"]


def as_rounds(decisions: Any, losses: Any) -> tuple[Any, Any]:
    """Return decisions and losses ``(..., T, d)`` in floating point, of one library, or raise."""
    decisions, losses = as_floats(decisions=decisions, losses=losses)
    check_shape(losses, "losses", (None, None))
    if 0 in losses.shape[-2:]:
        raise ValueError(
            f"losses must hold at least one round and one action, got shape {tuple(losses.shape)}"
        )
    check_shape(decisions, "decisions", tuple(losses.shape[-2:]))
    check_broadcast(decisions=decisions, losses=losses)
    return decisions, losses


def comparator_loss(cumulative: ArrayT, *, comparator: str, radius: float = 1.0) -> ArrayT:
    """Return the least loss of one fixed decision, ``(...)``, from cumulative losses ``(..., d)``.

    Over the simplex that of the best action, over a ball minus ``radius`` times the length.
    """
    xp = array_namespace(cumulative)
    if comparator == "simplex":
        return xp.min(cumulative, axis=-1)
    square = xp.sum(cumulative * cumulative, axis=-1)
    some = square > 0
    # At length zero the root has no derivative; zero is one that minimises.
    length = xp.sqrt(xp.where(some, square, xp.ones_like(square)))
    return -radius * xp.where(some, length, xp.zeros_like(square))


def regret_path(
    decisions: ArrayT, losses: Array, *, comparator: str = "simplex", radius: float = 1.0
) -> ArrayT:
    r"""Return the regret after each round, ``(..., T)``.

    .. math:: R_t = \sum_{i \le t} \langle \ell_i, \pi_i\rangle
        - \min_{p}\sum_{i \le t}\langle \ell_i, p\rangle

    Parameters
    ----------
    decisions
        ``(..., T, d)``; any numbers, so that what is not projected can be trained too.
    losses
        ``(..., T, d)``; the axes before broadcast.
    comparator
        What the minimum is taken over: the ``"simplex"``, or the ``"ball"`` around zero.
    radius
        Of the ball, > 0.

    Returns
    -------
    Array ``(..., T)``; its last entry is the regret. It may be negative.

    Raises
    ------
    ValueError
        If there is no round, shapes do not fit, a number is NaN, or an option is unknown.

    References
    ----------
    Cesa-Bianchi and Lugosi 2006, "Prediction, Learning, and Games", chapter 2.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    >>> regret_path(np.full((3, 2), 0.5), losses)
    array([0.5, 0. , 0.5])
    """
    check_choice(COMPARATORS, comparator=comparator)
    check_positive(radius=radius)
    decisions, losses = as_rounds(decisions, losses)
    xp = array_namespace(decisions)
    paid = xp.cumulative_sum(xp.sum(decisions * losses, axis=-1), axis=-1)
    cumulative = xp.cumulative_sum(losses, axis=-2)
    return paid - comparator_loss(cumulative, comparator=comparator, radius=radius)


def _grown(regret: ArrayT, growth: str | Callable[[Any], Any]) -> ArrayT:
    if not isinstance(growth, str):
        return growth(regret)
    xp = array_namespace(regret)
    if growth == "square":
        return regret * regret
    positive = xp.where(regret > 0, regret, xp.zeros_like(regret))
    return positive if growth == "positive" else positive * positive


def _powers(regret: ArrayT, k: float) -> ArrayT:
    """Return weights in proportion to powers of positive regrets, alike where there are none."""
    xp = array_namespace(regret)
    positive = regret > 0
    some = xp.any(positive, axis=-1, keepdims=True)
    # The zeroth power is one of any number.
    counted = positive | ~some if k > 0 else xp.ones_like(positive)
    logs = k * xp.log(xp.where(positive, regret, xp.ones_like(regret))) if k > 0 else 0 * regret
    return xp.exp(log_softmax(xp.where(counted, logs, xp.full_like(logs, -math.inf))))


def regret_loss(
    decisions: ArrayT,
    losses: Array,
    *,
    k: float = 2.0,
    growth: str | Callable[[Any], Any] = "positive_square",
    weighting: str = "exp",
    comparator: str = "simplex",
    radius: float = 1.0,
) -> ArrayT:
    r"""Regret-loss: a soft maximum of the regrets on N sequences, ``(...)``.

    .. math:: \frac{\sum_j h(R_j)\,f(R_j, k)}{\sum_j f(R_j, k)}

    As k grows it rises to the largest :math:`h(R_j)` (for h that does not fall), and the mean over
    batches of N sequences rises to the worst case as N grows. Gradients go through h, f and every
    decision.

    Parameters
    ----------
    decisions
        ``(..., N, T, d)``: what was played on each of N sequences, before the losses of the round.
    losses
        ``(..., N, T, d)``.
    k
        How sharp the maximum is, >= 0; 0 is the mean.
    growth
        h: ``"positive_square"``, :math:`\max(R, 0)^2`; ``"positive"``, :math:`\max(R, 0)`;
        ``"square"``, :math:`R^2`; or a function of arrays, >= 0, that does not fall.
    weighting
        f: ``"exp"``, :math:`e^{kR}`; or ``"power"``, :math:`\max(R, 0)^k`, alike for all where no
        regret is positive.
    comparator, radius
        As for :func:`regret_path`.

    Returns
    -------
    Array ``(...)``, one value for each batch of N sequences.

    Raises
    ------
    ValueError
        If there is no sequence, and as :func:`regret_path`.

    References
    ----------
    Park et al. 2024, the regret-loss, arXiv:2403.16843.

    Examples
    --------
    >>> import numpy as np
    >>> losses = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> even = np.full((2, 2, 2), 0.5)
    >>> [round(float(regret_loss(even, losses, k=k)), 4) for k in (0.0, 2.0, 50.0)]
    [0.5, 0.8808, 1.0]
    """
    check_nonnegative(k=k)
    if isinstance(growth, str) or not callable(growth):
        check_choice(GROWTHS, growth=growth)
    check_choice(WEIGHTS, weighting=weighting)
    path = regret_path(decisions, losses, comparator=comparator, radius=radius)
    if path.ndim < 2 or path.shape[-2] == 0:
        raise ValueError(
            "losses must hold at least one sequence, (..., N, T, d), got regrets of shape"
            f" {tuple(path.shape)}"
        )
    regret = path[..., -1]
    xp = array_namespace(regret)
    if weighting == "exp":
        weight = softmax(k * regret)
    else:
        weight = _powers(regret, k)
    return xp.sum(weight * _grown(regret, growth), axis=-1)
