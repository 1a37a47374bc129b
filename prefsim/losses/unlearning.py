r"""Unlearning with a term that keeps the rest: a response to forget beside one to retain.

The chosen response of a pair is what is to be retained and the rejected one what is to be
forgotten; the two may answer different prompts. The loss is that of forgetting plus a weight times
either the negative log-likelihood of what is retained, or the divergence from the reference there.
"""

from __future__ import annotations

from prefsim.checks import check_choice, check_nonnegative
from prefsim.containers import PairLogps, TokenPairLogps
from prefsim.losses.edge import checked
from prefsim.losses.pair_fields import needed
from prefsim.losses.pointwise import npo
from prefsim.losses.reference_free import gradient_ascent
from prefsim.losses.tokenwise import check_token_pairs, masked_sum
from prefsim.numerics import array_namespace
from prefsim.typing import Array, ArrayT, Number

REDUCTIONS = ("mean", "sum")

__all__ = ["ga_kl", "ga_rt", "npo_kl", "npo_rt"]


@checked
def npo_rt(
    logps: TokenPairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    retain_weight: Number = 1.0,
    reduction: str = "mean",
) -> ArrayT:
    r"""Negative preference optimisation with the likelihood of what is retained (NPO+RT).

    .. math:: \frac{2}{\beta}\,\ell(-\beta b) - \lambda\,\frac{1}{|y_w|}\log\pi(y_w)

    with the log-ratio b of what is forgotten, ``rejected``, summed over its tokens.

    Parameters
    ----------
    logps
        Token log-probabilities in nats, each ``(..., n, T)``: ``chosen`` of what is retained.
    beta
        Inverse temperature, > 0.
    retain_weight
        λ, >= 0.
    reduction
        Of what is retained: the ``"mean"`` over its tokens, as in the authors' code, or their
        ``"sum"``.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Zhang et al. 2024, sections 3 and 5 (retain terms), arXiv:2404.05868.

    Examples
    --------
    >>> import numpy as np
    >>> logps, mask = np.asarray([[-1.0, -2.0]]), np.ones((1, 2), dtype=bool)
    >>> pair = TokenPairLogps(logps, logps, logps, logps, mask, mask)
    >>> npo_rt(pair, beta=0.5).round(8)
    array([4.27258872])
    """
    _check(logps, retain_weight, reduction)
    kept = _reduced(-logps.chosen, logps.chosen_mask, reduction)
    return npo(_forgotten(logps), beta=beta) + retain_weight * kept


@checked
def npo_kl(
    logps: TokenPairLogps[ArrayT],
    *,
    beta: Number = 0.1,
    retain_weight: Number = 1.0,
    reduction: str = "mean",
) -> ArrayT:
    r"""Negative preference optimisation with the divergence on what is retained (NPO+KL).

    .. math:: \frac{2}{\beta}\,\ell(-\beta b)
        + \lambda\,\frac{1}{|y_w|}\sum_t \mathrm{KL}(\pi_{ref}\|\pi)(y_{w,<t})

    Parameters
    ----------
    logps
        Token log-probabilities in nats, each ``(..., n, T)``, and ``chosen_kl`` of what is
        retained.
    beta, retain_weight, reduction
        As for :func:`npo_rt`.

    Returns
    -------
    Array ``(..., n)``.

    Raises
    ------
    ValueError
        If a parameter is out of range, ``chosen_kl`` is missing, or shapes differ.

    References
    ----------
    Zhang et al. 2024, section 5 (retain terms; the direction of the divergence as in the authors'
    code), arXiv:2404.05868.
    """
    _check(logps, retain_weight, reduction)
    kept = _reduced(needed(logps.chosen_kl, "chosen_kl"), logps.chosen_mask, reduction)
    return npo(_forgotten(logps), beta=beta) + retain_weight * kept


@checked
def ga_rt(
    logps: TokenPairLogps[ArrayT], *, retain_weight: Number = 1.0, reduction: str = "mean"
) -> ArrayT:
    r"""Gradient ascent with the likelihood of what is retained (GA+RT, gradient difference).

    .. math:: \log\pi(y_l) - \lambda\,\frac{1}{|y_w|}\log\pi(y_w)

    Unbounded below.

    Parameters
    ----------
    logps
        Token log-probabilities in nats, each ``(..., n, T)``; the reference is not used.
    retain_weight, reduction
        As for :func:`npo_rt`.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, or shapes differ.

    References
    ----------
    Zhang et al. 2024, section 5, arXiv:2404.05868; Maini et al. 2024 (TOFU), arXiv:2401.06121.
    """
    _check(logps, retain_weight, reduction)
    kept = _reduced(-logps.chosen, logps.chosen_mask, reduction)
    return gradient_ascent(_forgotten(logps)) + retain_weight * kept


@checked
def ga_kl(
    logps: TokenPairLogps[ArrayT], *, retain_weight: Number = 1.0, reduction: str = "mean"
) -> ArrayT:
    r"""Gradient ascent with the divergence on what is retained (GA+KL).

    .. math:: \log\pi(y_l) + \lambda\,\frac{1}{|y_w|}\sum_t \mathrm{KL}(\pi_{ref}\|\pi)(y_{w,<t})

    Unbounded below.

    Parameters
    ----------
    logps
        Token log-probabilities in nats, each ``(..., n, T)``, and ``chosen_kl`` of what is
        retained.
    retain_weight, reduction
        As for :func:`npo_rt`.

    Returns
    -------
    Array ``(..., n)``, nats.

    Raises
    ------
    ValueError
        If a parameter is out of range, ``chosen_kl`` is missing, or shapes differ.

    References
    ----------
    Zhang et al. 2024, section 5, arXiv:2404.05868; Maini et al. 2024 (TOFU), arXiv:2401.06121.
    """
    _check(logps, retain_weight, reduction)
    kept = _reduced(needed(logps.chosen_kl, "chosen_kl"), logps.chosen_mask, reduction)
    return gradient_ascent(_forgotten(logps)) + retain_weight * kept


def _check(logps: TokenPairLogps[ArrayT], retain_weight: Number, reduction: str) -> None:
    check_nonnegative(arrays=True, retain_weight=retain_weight)
    check_choice(REDUCTIONS, reduction=reduction)
    check_token_pairs(logps)


def _forgotten(logps: TokenPairLogps[ArrayT]) -> PairLogps[ArrayT]:
    """Return what is forgotten as a pair, for losses that look at the rejected response alone."""
    logp, ref_logp = (
        masked_sum(each, logps.rejected_mask) for each in (logps.rejected, logps.ref_rejected)
    )
    return PairLogps(chosen=logp, rejected=logp, ref_chosen=ref_logp, ref_rejected=ref_logp)


def _reduced(values: ArrayT, mask: Array, reduction: str) -> ArrayT:
    """Return the sum or the mean over the tokens, ``(..., n)``."""
    total = masked_sum(values, mask)
    if reduction == "sum":
        return total
    xp = array_namespace(total)
    count = xp.sum(xp.astype(mask, total.dtype), axis=-1)
    # Of no token the sum is zero, and so is its mean.
    return total / xp.where(count > 0, count, xp.ones_like(count))
