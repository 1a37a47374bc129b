"""Raters with a scalar reward.

The chance of preferring one item grows with the difference of rewards.
"""

from __future__ import annotations

import math

import numpy as np

from prefsim.checks import as_floats, check_choice, check_entries, check_shape
from prefsim.numerics import array_namespace, normal_log_cdf
from prefsim.raters.borda import as_game
from prefsim.typing import ArrayT
from prefsim.worlds.bandit import bradley_terry_matrix

LINKS = ("logistic", "probit")

__all__ = ["LINKS", "bradley_terry_gap", "pairwise_preference"]


def pairwise_preference(reward: ArrayT, *, link: str = "logistic") -> ArrayT:
    r"""Return :math:`P_{ij} = F(r_i - r_j)`, the chance that item i is preferred to item j.

    Parameters
    ----------
    reward
        ``(..., n)``: log-odds for the logistic link, standard deviations of the compared noise for
        the probit one.
    link
        ``"logistic"``, the Bradley–Terry model, or ``"probit"``, Thurstone's (case V).

    Returns
    -------
    Array ``(..., n, n)`` with ``P + Pᵀ = 1``.

    Raises
    ------
    ValueError
        If ``link`` is unknown.

    References
    ----------
    Bradley and Terry 1952, "Rank analysis of incomplete block designs". Thurstone 1927, "A law of
    comparative judgment".

    Examples
    --------
    >>> import numpy as np
    >>> pairwise_preference(np.asarray([0.0, 1.0]), link="probit").round(4)
    array([[0.5   , 0.1587],
           [0.8413, 0.5   ]])
    """
    check_choice(LINKS, link=link)
    (reward,) = as_floats(reward=reward)
    check_shape(reward, "reward", (None,))
    check_entries(reward, "reward", "be finite", np.isfinite)
    if link == "logistic":
        return bradley_terry_matrix(reward)
    xp = array_namespace(reward)
    return xp.exp(normal_log_cdf(reward[..., :, None] - reward[..., None, :]))


def bradley_terry_gap(preference: ArrayT) -> ArrayT:
    r"""Return how far preferences are from any Bradley–Terry model.

    The largest misfit of their log-odds.

    .. math:: \max_{ij} \Big| \ell_{ij} - (\bar\ell_i - \bar\ell_j) \Big|, \qquad
        \ell_{ij} = \log\frac{P_{ij}}{1 - P_{ij}}

    It is zero exactly when log-odds are differences of rewards, and then the row means are these
    rewards.

    Parameters
    ----------
    preference
        ``(..., n, n)`` with ``P + Pᵀ = 1``.

    Returns
    -------
    Array ``(...,)`` in nats; infinite where a preference is certain, which no finite reward gives.

    Examples
    --------
    >>> import numpy as np
    >>> rock_paper_scissors = np.asarray([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
    >>> bradley_terry_gap(rock_paper_scissors).round(4)
    np.float64(2.1972)
    """
    preference = as_game(preference)
    xp = array_namespace(preference)
    certain = (preference <= 0) | (preference >= 1)
    inner = xp.where(certain, xp.full_like(preference, 0.5), preference)
    odds = xp.log(inner) - xp.log1p(-inner)
    reward = xp.mean(odds, axis=-1)
    misfit = xp.abs(odds - (reward[..., :, None] - reward[..., None, :]))
    return xp.max(xp.where(certain, xp.full_like(misfit, math.inf), misfit), axis=(-2, -1))
