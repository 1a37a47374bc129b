"""Losses on pairs that couple the examples of a batch (the last axis).

Each says what it couples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prefsim.backend import like
from prefsim.checks import (
    check_boolean,
    check_nonnegative,
    check_number,
    check_positive,
    check_same_shape,
)
from prefsim.containers import PairLogps
from prefsim.losses.edge import checked
from prefsim.losses.links import soft_logistic
from prefsim.losses.pair_fields import check_shapes
from prefsim.losses.pairwise import log_ratios, reward_margin
from prefsim.numerics import array_namespace, logsumexp, sort, stop_gradient
from prefsim.typing import Array, ArrayT, Number

__all__ = ["aot", "aot_unpaired", "beta_dpo", "drdpo"]


@checked
def aot(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Alignment by optimal transport, paired: :math:`\ell(\beta(u_{(i)} - v_{(i)}))`.

    Couples the batch by sorting: ``u`` are the policy's log-probability differences, ``v`` the
    reference's, both ascending along the last axis. Value i belongs to rank i, not to example i.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Melnyk et al. 2024, arXiv:2406.05882.
    """
    check_positive(arrays=True, beta=beta)
    check_shapes(logps)
    policy = sort(logps.chosen - logps.rejected)
    reference = sort(logps.ref_chosen - logps.ref_rejected)
    return soft_logistic(beta * (policy - reference), 1)


@checked
def aot_unpaired(logps: PairLogps[ArrayT], *, beta: Number = 0.1) -> ArrayT:
    r"""Alignment by optimal transport, unpaired.

    :math:`\ell(\beta(a_{(i)} - b_{(i)}))` with both log-ratios sorted ascending.

    Couples the batch by sorting; value i belongs to rank i.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Scale, > 0.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Melnyk et al. 2024, arXiv:2406.05882.
    """
    check_positive(arrays=True, beta=beta)
    chosen, rejected = log_ratios(logps)
    return soft_logistic(beta * (sort(chosen) - sort(rejected)), 1)


@checked
def drdpo(logps: PairLogps[ArrayT], *, beta: Number = 0.1, beta_prime: Number = 1.0) -> ArrayT:
    r"""Distributionally robustified DPO.

    :math:`-\beta' \log \mathrm{mean}_i \exp(-\ell_i/\beta')`, which trusts low-loss pairs more.

    Couples the batch: the one value of the batch (last axis) is returned for every example, so that
    the mean over the batch is the objective.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Strength of the KL penalty, > 0.
    beta_prime
        Temperature, > 0: the mean loss as it grows, the smallest loss as it vanishes.

    Returns
    -------
    Array ``(..., n)``, nats.

    References
    ----------
    Wu et al. 2024, eq. 11, arXiv:2407.07880 (equation number not confirmed).
    """
    check_positive(arrays=True, beta=beta, beta_prime=beta_prime)
    losses = soft_logistic(beta * reward_margin(logps), 1)
    n = losses.shape[-1]
    if n == 0:
        return losses
    soft_minimum = -beta_prime * (logsumexp(-losses / beta_prime, keepdims=True) - math.log(n))
    return soft_minimum + 0 * losses


@checked
def beta_dpo(
    logps: PairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    alpha: Number = 0.6,
    margin_mean: Number = 0.0,
    smallest_beta: Number = 1e-3,
    kept: bool | Array | None = None,
) -> ArrayT:
    r"""DPO whose β follows the batch.

    :math:`\ell(\beta_b h)` with :math:`\beta_b = \max(\beta_{min}, \beta[1 + \alpha(\bar h -
    M_0)])`.

    Couples the batch through its mean margin (last axis), a constant of differentiation. The method
    moves :math:`M_0` with training and filters each batch, which
    :func:`prefsim.losses.running_beta_dpo` does; here both are given, and at the default
    :math:`M_0 = 0`, where training starts, β grows with the margin itself.

    Parameters
    ----------
    logps
        Sequence log-probabilities in nats, each ``(..., n)``.
    beta
        Base strength β₀, > 0.
    alpha
        How strongly β follows the margin, >= 0.
    margin_mean
        Running mean M₀ of the margin in nats (an exponential moving average with factor 0.9 in the
        paper).
    smallest_beta
        Floor of β_b, > 0.
    kept
        Which pairs the filter keeps, boolean ``(..., n)``; all unless given. The mean margin is
        theirs, the others' values are zero, and theirs are scaled so that the mean over the batch
        is the mean over what is kept.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, ``kept`` is not boolean, or shapes differ.

    References
    ----------
    Wu et al. 2024, eqs. 6–7, arXiv:2407.08639 (equation numbers not confirmed).
    """
    check_positive(arrays=True, beta=beta, smallest_beta=smallest_beta)
    check_nonnegative(arrays=True, alpha=alpha)
    check_number(arrays=True, margin_mean=margin_mean)
    margin = reward_margin(logps)
    xp = array_namespace(margin)
    share = _share_of_kept(margin, kept)
    mean = stop_gradient(xp.sum(share * margin, axis=-1, keepdims=True) / max(margin.shape[-1], 1))
    batch_beta = beta * (1 + alpha * (mean - margin_mean))
    floor = xp.zeros_like(batch_beta) + smallest_beta
    batch_beta = xp.where(batch_beta < floor, floor, batch_beta)
    return share * soft_logistic(batch_beta * margin, 1)


def _share_of_kept(margin: ArrayT, kept: Any) -> ArrayT:
    """Return n/k for the k pairs of n that are kept and 0 for the others, ``(..., n)``."""
    xp = array_namespace(margin)
    one = xp.ones_like(margin)
    if kept is None:
        return one
    flags = kept if hasattr(kept, "dtype") else np.asarray(kept)
    check_boolean(flags, "kept")
    if flags.ndim:
        check_same_shape(margin=margin, kept=flags)
    counted = xp.where(like(flags, margin, integer=True) != 0, one, xp.zeros_like(one))
    count = xp.sum(counted, axis=-1, keepdims=True)
    return counted * margin.shape[-1] / xp.where(count > 0, count, xp.ones_like(count))
