"""The slopes of a pairwise loss in its two log-probabilities, for any loss of the library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefsim.containers import PairLogps
from prefsim.gradients import loss_gradient
from prefsim.typing import Array

__all__ = ["PairDerivatives", "pair_derivatives"]


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
