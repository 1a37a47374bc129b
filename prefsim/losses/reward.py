"""Losses of reward models, on scalar rewards."""

from __future__ import annotations

from prefsim.checks import check_nonnegative, check_same_shape
from prefsim.containers import PairRewards
from prefsim.numerics import log_sigmoid
from prefsim.typing import ArrayT

__all__ = ["bradley_terry"]


def bradley_terry(rewards: PairRewards[ArrayT], *, margin: float = 0.0) -> ArrayT:
    r"""Bradley–Terry negative log-likelihood of each pair, :math:`-\log\sigma(r_w - r_l - m)`.

    Parameters
    ----------
    rewards
        Rewards in log-odds, each ``(..., n)``.
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
    check_nonnegative(margin=margin)
    check_same_shape(**rewards._asdict())
    return -log_sigmoid(rewards.chosen - rewards.rejected - margin)
