"""Losses of reward models, on scalar rewards or on scores of a pair in their place."""

from __future__ import annotations

from prefsim.checks import check_nonnegative, check_positive, check_same_shape, check_within
from prefsim.containers import PairRewards
from prefsim.losses.edge import checked
from prefsim.numerics import log_sigmoid
from prefsim.typing import ArrayT, Number

__all__ = ["bradley_terry", "score_regression"]


@checked
def bradley_terry(rewards: PairRewards[ArrayT], *, margin: Number = 0.0) -> ArrayT:
    r"""Bradley–Terry negative log-likelihood of each pair, :math:`-\log\sigma(r_w - r_l - m)`.

    Parameters
    ----------
    rewards
        Rewards in log-odds, each ``(..., n)``. A margin of each pair is added to that of all.
    margin
        Required advantage m of the chosen response, >= 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If ``margin`` is negative, or shapes differ.

    References
    ----------
    Bradley and Terry 1952. Touvron et al. 2023, eq. 2 (margin), arXiv:2307.09288.
    """
    check_nonnegative(arrays=True, margin=margin)
    return -log_sigmoid(_advantage(rewards) - margin)


@checked
def score_regression(rewards: PairRewards[ArrayT], *, target: Number = 10.0) -> ArrayT:
    r"""Regression of the advantage of the chosen response on a fixed one.

    :math:`\frac12 (r_w - r_l - m)^2`.

    The advantage of a certain winner stays finite, where that of :func:`bradley_terry` grows for
    ever. Rewards of a cycle are all equal at the minimum, so that its value there is
    :math:`m^2/2`; scores of a general preference model reach the target.

    Parameters
    ----------
    rewards
        Rewards in log-odds, each ``(..., n)``; of a general preference model
        ``PairRewards(score / temperature, 0)``, see :func:`prefsim.raters.skew_score`. A margin of
        each pair is added to the target of all.
    target
        Advantage m of the chosen response, > 0.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If ``target`` is out of range, or shapes differ.

    References
    ----------
    Zhang et al. 2024, arXiv:2410.02197, as in the authors' code, whose default is 10.

    Examples
    --------
    >>> import numpy as np
    >>> score_regression(PairRewards(np.asarray([4.0]), np.asarray([-4.0])))
    array([2.])
    """
    check_positive(arrays=True, target=target)
    return 0.5 * (_advantage(rewards) - target) ** 2


def _advantage(rewards: PairRewards[ArrayT]) -> ArrayT:
    """Return how far the chosen response is ahead, beyond the margin of its pair."""
    check_same_shape(**rewards._asdict())
    ahead = rewards.chosen - rewards.rejected
    if rewards.margin is None:
        return ahead
    check_within(rewards.margin, "margin", "be >= 0", low=0.0)
    return ahead - rewards.margin
