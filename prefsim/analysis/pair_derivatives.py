"""The slopes of a pairwise loss in its two log-probabilities, and when a step lowers both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.checks import as_floats, check_broadcast, check_entries
from prefsim.containers import PairLogps
from prefsim.gradients import loss_gradient
from prefsim.losses.registry import container_of, loss_functions
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT

__all__ = [
    "LossPull",
    "PairDerivatives",
    "both_fall_above",
    "pair_derivatives",
    "pulls_of_losses",
]


class PairDerivatives(NamedTuple):
    r"""Slopes of a loss, ``(..., n)`` each: how hard it pulls the two responses.

    Attributes
    ----------
    chosen
        :math:`d_w = -\partial\ell/\partial\log\pi_w`: positive where the chosen response is pulled
        up.
    rejected
        :math:`d_l = \partial\ell/\partial\log\pi_l`: positive where the rejected one is pushed
        down.
    """

    chosen: np.ndarray
    rejected: np.ndarray


def pair_derivatives(
    loss: Callable[[PairLogps[Any]], Array], logps: PairLogps[Any]
) -> PairDerivatives:
    r"""Return how hard a loss pulls the chosen response up and pushes the rejected one down.

    A step of gradient descent then moves the parameters by
    :math:`\eta\,(d_w\nabla\log\pi_w - d_l\nabla\log\pi_l)`; see
    :func:`prefsim.analysis.entanglement`.

    Parameters
    ----------
    loss
        A loss of pairs, its options bound by :func:`functools.partial`. What it detaches is a
        constant.
    logps
        Where to differentiate, each field ``(..., n)``.

    Returns
    -------
    PairDerivatives
        Of the sum of the loss: of each pair's own where the loss does not couple its batch.

    References
    ----------
    Yuan et al. 2024, eq. 3, arXiv:2410.13828.

    Examples
    --------
    >>> from prefsim import losses
    >>> pair = losses.PairLogps([-4.2], [-6.0], [-4.0], [-6.5])
    >>> found = pair_derivatives(losses.dpo, pair)
    >>> found.chosen.round(8), found.rejected.round(8)
    (array([0.05174929]), array([0.05174929]))
    """
    slopes = loss_gradient(loss, logps)
    return PairDerivatives(-np.asarray(slopes.chosen), np.asarray(slopes.rejected))


def both_fall_above(
    chosen_slope: ArrayT, rejected_slope: Array | float, *, norm_ratio: Array | float = 1.0
) -> ArrayT:
    r"""Return the cosine of the two gradients above which a step lowers both log-probabilities.

    A step moves :math:`\log\pi_w` by :math:`\|g_w\|^2(d_w - d_l r\cos)` and :math:`\log\pi_l` by
    :math:`\|g_w\|\|g_l\|(d_w\cos - d_l r)`, with :math:`r = \|g_l\|/\|g_w\|`. For a loss that pulls
    the chosen response up and pushes the rejected one down both fall where
    :math:`\cos > d_w/(d_l r)`: a loss of the margin from :math:`1/r` on, one that pulls the chosen
    response alone never.

    Parameters
    ----------
    chosen_slope, rejected_slope
        The loss's slopes :math:`d_w = -\partial\ell/\partial\log\pi_w` and
        :math:`d_l = \partial\ell/\partial\log\pi_l`, of any signs, of shapes that broadcast.
    norm_ratio
        :math:`\|g_l\|/\|g_w\|`, > 0.

    Returns
    -------
    Array
        From 1 on both never fall, which no cosine exceeds; below 0 they do where the gradients are
        opposed as well.

    Raises
    ------
    ValueError
        If a ratio is not positive, or shapes do not broadcast.

    References
    ----------
    Yuan et al. 2024, section 3, arXiv:2410.13828; the condition is solved for the cosine here.

    Examples
    --------
    >>> slopes = np.array([1.0, 1.0, 0.5]), np.array([1.0, 0.0, 1.0])
    >>> both_fall_above(*slopes, norm_ratio=2.0)
    array([0.5 ,  inf, 0.25])
    """
    up, down, ratio = as_floats(
        chosen_slope=chosen_slope, rejected_slope=rejected_slope, norm_ratio=norm_ratio
    )
    check_entries(ratio, "norm_ratio", "be > 0", lambda x: x > 0)
    check_broadcast(chosen_slope=up, rejected_slope=down, norm_ratio=ratio)
    xp = array_namespace(up, down, ratio)
    # Where a slope is -0.0 the cosine is 0.
    up, down = xp.broadcast_arrays(up + 0.0, down * ratio + 0.0)
    one, never = xp.ones_like(up), xp.full_like(up, math.inf)
    pull_over_push = up / xp.where(down != 0, down, one)
    push_over_pull = down / xp.where(up != 0, up, one)
    # By Cauchy and Schwarz one of the two conditions implies the other.
    lowering = xp.where(up < 0, xp.maximum(pull_over_push, push_over_pull), pull_over_push)
    raising = xp.where(up < 0, push_over_pull, never)
    still = xp.where(up < 0, xp.zeros_like(up), never)
    return xp.where(down > 0, lowering, xp.where(down < 0, raising, still))


class LossPull(NamedTuple):
    """What one loss does to a pair, summed over the pairs.

    Attributes
    ----------
    name
        Of the loss.
    chosen, rejected
        Its slopes; see :class:`PairDerivatives`.
    both_fall_above
        The cosine of the gradients above which both log-probabilities fall, from 1 on never.
    """

    name: str
    chosen: float
    rejected: float
    both_fall_above: float


def pulls_of_losses(logps: PairLogps[Any], *, norm_ratio: float = 1.0) -> tuple[LossPull, ...]:
    r"""Return for every pairwise loss of the library when it lowers both log-probabilities.

    Each at its default options, by name.

    Parameters
    ----------
    logps
        One pair with all fields that losses read, ``(1,)`` each.
    norm_ratio
        :math:`\|g_l\|/\|g_w\|`, the rejected gradient's norm over the chosen one's, > 0.

    Returns
    -------
    tuple of LossPull

    Raises
    ------
    ValueError
        If a loss misses a field, there is more than one pair, or the ratio is not positive.

    References
    ----------
    Yuan et al. 2024, table 1, arXiv:2410.13828.

    Examples
    --------
    >>> pulls = {row.name: row for row in pulls_of_losses(PairLogps.example(1))}
    >>> [pulls[name].both_fall_above for name in ("dpo", "sft", "npo")]
    [1.0, inf, 0.0]
    >>> round(pulls["flex_dpo"].both_fall_above, 6)
    1.25
    """
    if np.shape(logps.chosen) != (1,):
        raise ValueError(f"logps must hold one pair, got chosen {np.shape(logps.chosen)}")
    rows = []
    for name, loss in sorted(loss_functions().items()):
        if container_of(loss) is PairLogps:
            (up,), (down,) = pair_derivatives(loss, logps)
            cosine = both_fall_above(up, down, norm_ratio=norm_ratio)
            rows.append(LossPull(name, float(up), float(down), float(cosine)))
    return tuple(rows)
